/**
 * Between a write to workgroup memory and another lane's read of it stands a barrier, and between that read and the next write.
 *
 * A driver may run lanes in an order that hides a missing barrier, so the WGSL itself is read: its accesses to workgroup memory in program order,
 * every loop run twice, calls put in place. Accesses in one `if` belong together: there a lane reads what no other writes before it writes its own.
 */

import { describe, expect, test } from "vitest";
import { source } from "../../kernels/kernel.ts";
import { samples } from "../../kernels/samples.ts";

type Event = { readonly kind: "read" | "write"; readonly name: string; readonly guard: number } | { readonly kind: "barrier" };

/** Where the bracket that opens at `at` closes. */
function closing(text: string, at: number): number {
  for (let i = at, depth = 0; i < text.length; i++) {
    if ("([{".includes(text[i])) depth++;
    else if (")]}".includes(text[i]) && --depth === 0) return i;
  }
  throw new Error("unbalanced brackets");
}

/** The accesses of an entry point, in order. */
function accesses(wgsl: string): Event[] {
  const text = wgsl.replace(/\/\/.*$/gm, "");
  const shared = new Set([...text.matchAll(/var<workgroup>\s+(\w+)/g)].map(([, name]) => name));
  const functions = new Map<string, string>();
  for (const found of text.matchAll(/\bfn\s+(\w+)\s*\(/g)) {
    const open = text.indexOf("{", closing(text, found.index + found[0].length - 1));
    functions.set(found[1], text.slice(open + 1, closing(text, open)));
  }
  let guards = 0;
  const walk = (body: string, guard: number): Event[] => {
    const events: Event[] = [];
    for (let i = 0; i < body.length; i++) {
      const word = /^\w+/.exec(body.slice(i))?.[0];
      if (!word) continue;
      const after = i + word.length;
      if (word === "workgroupBarrier") events.push({ kind: "barrier" });
      else if (word === "for" || word === "while" || word === "loop" || word === "if") {
        const open = body.indexOf("{", word === "loop" ? after : closing(body, body.indexOf("(", after)));
        const close = closing(body, open);
        events.push(...walk(body.slice(after, open), guard)); // the condition
        for (let times = word === "if" ? 1 : 2; times > 0; times--)
          events.push(...walk(body.slice(open + 1, close), word === "if" ? ++guards : guard));
        i = close;
        continue;
      } else if (shared.has(word)) {
        let end = after;
        while (body[end] === "[" || body[end] === ".")
          end = body[end] === "[" ? closing(body, end) + 1 : end + 1 + /^\w*/.exec(body.slice(end + 1))![0].length;
        const assignment = /^\s*([-+*/]?)=(?!=)/.exec(body.slice(end));
        if (!assignment || assignment[1]) events.push({ kind: "read", name: word, guard });
        if (assignment) events.push({ kind: "write", name: word, guard });
      } else if (functions.has(word)) {
        const close = closing(body, body.indexOf("(", after));
        events.push(...walk(body.slice(after, close), guard), ...walk(functions.get(word)!, guard));
        i = close;
        continue;
      }
      i = after - 1;
    }
    return events;
  };
  return walk(functions.get("main")!, 0);
}

/** The first access that another may race with, in words; null where there is none. */
function race(wgsl: string): string | null {
  const since: Exclude<Event, { kind: "barrier" }>[] = [];
  for (const event of accesses(wgsl)) {
    if (event.kind === "barrier") since.length = 0;
    else {
      const other = since.find(
        ({ kind, name, guard }) => kind !== event.kind && name === event.name && (guard === 0 || guard !== event.guard),
      );
      if (other) return `${event.name}: a ${event.kind} after a ${other.kind}, and no barrier between`;
      since.push(event);
    }
  }
  return null;
}

/** What the samples run, and all that could run in its place. */
const written = samples().flatMap(({ kernel, params }) => [
  kernel,
  ...(kernel.alternatives?.of(params) ?? []).map((alternative) => alternative.kernel),
]);
const passes = [...new Set(written)].flatMap((kernel) =>
  kernel.passes.map((pass, i) => [`${kernel.name} (${i + 1})`, source(kernel, pass)] as const),
);
const sharing = passes.filter(([, wgsl]) => accesses(wgsl).length > 0);

test("some kernels share memory, and those have barriers", () => {
  expect(sharing.length).toBeGreaterThan(15);
  for (const [name, wgsl] of sharing)
    expect(
      accesses(wgsl).some(({ kind }) => kind === "barrier"),
      name,
    ).toBe(true);
});

describe("no race in", () => {
  test.each(sharing)("%s", (_, wgsl) => {
    expect(race(wgsl)).toBeNull();
  });
});

describe("without any one of its barriers there is a race in", () => {
  test.each(sharing)("%s", (_, wgsl) => {
    const parts = wgsl.split("workgroupBarrier();");
    const hidden = parts
      .slice(1)
      .filter(
        (_, i) =>
          race([parts.slice(0, i + 1).join("workgroupBarrier();"), parts.slice(i + 1).join("workgroupBarrier();")].join(" ")) === null,
      );
    // a function that is not called, and the last barrier of a fold that nothing follows, guard nothing
    expect(hidden.length).toBeLessThan(parts.length - 1);
  });

  test("matmul: both", () => {
    const [, wgsl] = sharing.find(([name]) => name.startsWith("matmul"))!;
    const [head, middle, tail] = wgsl.split("workgroupBarrier();");
    expect(race(`${head}${middle}workgroupBarrier();${tail}`)).toBe("tileA: a read after a write, and no barrier between");
    expect(race(`${head}workgroupBarrier();${middle}${tail}`)).toBe("tileA: a write after a read, and no barrier between");
  });
});
