/** Five axes that a kernel walks by strides: what stretches, and what has its axes in another order. */

/** The parameters of a result: n elements, and the sizes of its last four axes. */
export const SIZES = { n: "u32", n1: "u32", n2: "u32", n3: "u32", n4: "u32" } as const;

type Axis = 0 | 1 | 2 | 3 | 4;
type Strides<B extends string> = { readonly [K in `${B}${Axis}`]: "u32" };

/** The parameters of a buffer: its strides along the five axes, 0 where it stretches. */
export const strides = <const B extends string>(buffer: B): Strides<B> =>
  Object.fromEntries([0, 1, 2, 3, 4].map((axis) => [`${buffer}${axis}`, "u32"])) as Strides<B>;

/** WGSL: c0 ... c4 of element i of a tensor whose last four axes have sizes n1 ... n4. */
export const coordinates = /* wgsl */ `
  var r = i;
  let c4 = r % p.n4; r /= p.n4;
  let c3 = r % p.n3; r /= p.n3;
  let c2 = r % p.n2; r /= p.n2;
  let c1 = r % p.n1; let c0 = r / p.n1;`;

/** WGSL: where the buffer of these strides has the element at c0 ... c4. */
export const place = (buffer: string): string => [0, 1, 2, 3, 4].map((axis) => `c${axis} * p.${buffer}${axis}`).join(" + ");

/** The rows of the last axis, in order: where each begins, in the result and in the buffers of these strides. */
export function eachLine(
  p: Readonly<Record<keyof typeof SIZES, number>> & Readonly<Record<string, number>>,
  buffers: readonly string[],
  visit: (i: number, ...at: number[]) => void,
): void {
  const { n, n1, n2, n3, n4 } = p;
  if (n === 0) return;
  const outer = n / (n1 * n2 * n3 * n4);
  const at = (c0: number, c1: number, c2: number, c3: number) =>
    buffers.map((b) => c0 * p[`${b}0`] + c1 * p[`${b}1`] + c2 * p[`${b}2`] + c3 * p[`${b}3`]);
  let i = 0;
  for (let c0 = 0; c0 < outer; c0++)
    for (let c1 = 0; c1 < n1; c1++)
      for (let c2 = 0; c2 < n2; c2++) for (let c3 = 0; c3 < n3; c3++, i += n4) visit(i, ...at(c0, c1, c2, c3));
}
