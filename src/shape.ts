/** Shapes, how they broadcast, and the one-line signatures that describe them: "... m k, k n". */

export type Shape = readonly number[];

export const sizeOf = (shape: Shape): number => shape.reduce((a, b) => a * b, 1);
export const show = (shape: Shape): string => `[${shape.join(", ")}]`;
export const sameShape = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((size, axis) => size === b[axis]);

/** The most axes a tensor may have: the kernels that walk strides unroll this many. */
export const MAX_AXES = 5;

/**
 * Bind the letters of a signature to the sizes of some shapes.
 *
 *   bind("matmul", "... m k, k n", [[8, 2, 3], [3, 5]])  ->  { "...": [8], m: 2, k: 3, n: 5 }
 *
 * @throws RangeError naming the op, the letter, and every shape, when two sizes disagree.
 */
export function bind<const S extends string>(
  op: string,
  signature: S,
  shapes: readonly Shape[],
): Record<string, number> & { "...": Shape } {
  const sizes: Record<string, number> = {};
  const seenIn: Record<string, number> = {};
  let rest: Shape = [];
  const fail = (why: string): never => {
    throw new RangeError(`${op}(${signature}): ${why}; got ${shapes.map(show).join(" and ")}`);
  };
  const terms = signature.split(",");
  if (shapes.length !== terms.length) fail(`needs ${terms.length} arguments, not ${shapes.length}`);
  terms.forEach((term, i) => {
    const names = term.trim().split(/\s+/).filter(Boolean);
    const open = names[0] === "...";
    if (open) names.shift();
    const shape = shapes[i];
    if (open ? shape.length < names.length : shape.length !== names.length)
      fail(`argument ${i + 1} needs ${open ? "at least " : ""}${names.length} axes but has ${shape.length}`);
    const lead = shape.length - names.length;
    if (open) rest = shape.slice(0, lead);
    names.forEach((name, axis) => {
      const size = shape[lead + axis];
      if (name in sizes && sizes[name] !== size)
        fail(`${name} is ${sizes[name]} in argument ${seenIn[name]} but ${size} in argument ${i + 1}`);
      sizes[name] = size;
      seenIn[name] ??= i + 1;
    });
  });
  return Object.assign(sizes, { "...": rest });
}

/** The shape two shapes broadcast to, as numpy: aligned at the last axis, a size of 1 stretches. @throws RangeError when they do not. */
export function broadcast(op: string, a: Shape, b: Shape): Shape {
  const axes = Math.max(a.length, b.length);
  return Array.from({ length: axes }, (_, i) => {
    const x = a[a.length - axes + i] ?? 1;
    const y = b[b.length - axes + i] ?? 1;
    if (x !== y && x !== 1 && y !== 1)
      throw new RangeError(
        `${op}(a, b): axis ${i - axes} is ${x} in argument 1 but ${y} in argument 2; got ${show(a)} and ${show(b)}; sizes must be equal or 1`,
      );
    return x === 1 ? y : x;
  });
}

/** How far apart neighbours along each axis lie in row-major order. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  for (let axis = shape.length - 1, step = 1; axis >= 0; step *= shape[axis--]) strides[axis] = step;
  return strides;
}

/** The axis counted from the front, -1 being the last. @throws RangeError when there is none such. */
export function axisOf(op: string, axis: number, shape: Shape): number {
  const found = axis < 0 ? axis + shape.length : axis;
  if (!Number.isInteger(axis) || found < 0 || found >= shape.length)
    throw new RangeError(`${op}: axis ${axis} does not exist in ${show(shape)}; give one from ${-shape.length} to ${shape.length - 1}`);
  return found;
}
