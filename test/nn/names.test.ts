/** Patterns for names, and the nearest name to one that is not there. */

import { describe, expect, test } from "vitest";
import { matcher, nearest, select } from "../../nn/names.ts";

describe("a pattern", () => {
  test.each<[string, readonly string[], readonly string[]]>([
    ["layers.0.query", ["layers.0.query"], ["layers.0.query.weight", "layers.0xquery", "xlayers.0.query"]],
    ["layers.*.query", ["layers.0.query", "layers.11.query"], ["layers.query", "layers.0.1.query", "layers.0.queryx"]],
    ["layers.*.norm*", ["layers.0.norm", "layers.0.norm1"], ["layers.0.norm1.weight", "layers.0.xnorm1"]],
    ["**.bias", ["bias", "a.bias", "a.b.bias"], ["unbias", "a.bias.b", "a.unbias"]],
    ["head.**", ["head", "head.weight", "head.dense.weight"], ["heads", "a.head"]],
    ["a.**.b", ["a.b", "a.x.b", "a.x.y.b"], ["ab", "a.xb", "ax.b"]],
    ["**", ["", "a", "a.b"], []],
    ["*", ["a", ""], ["a.b"]],
    ["a(b|[c])+$", ["a(b|[c])+$"], ["ab", "ac"]],
  ])("%s", (pattern, yes, no) => {
    const matches = matcher(pattern);
    expect(yes.filter((name) => !matches(name))).toEqual([]);
    expect(no.filter(matches)).toEqual([]);
  });
});

test.each([
  ["qery", ["key", "query", "value"], "query"],
  ["layers.0.outptu", ["layers.0.up", "layers.0.output", "layers.1.output"], "layers.0.output"],
  ["", ["abc", "a"], "a"],
  ["a", [], undefined],
])("the nearest to %s among %s", (word, words, want) => {
  expect(nearest(word, words)).toBe(want);
});

test("select gives what matches, in order, or says what there is", () => {
  const named = [
    ["b.weight", 1],
    ["a.weight", 2],
    ["a.bias", 3],
  ] as const;
  expect(select(named, "*.weight", "f(x)", "thing")).toEqual([
    ["b.weight", 1],
    ["a.weight", 2],
  ]);
  expect(select(named, (name) => name.startsWith("a"), "f(x)", "thing").map(([, value]) => value)).toEqual([2, 3]);
  const bias = /bias$/g; // global: it must not go on where the last name left it
  for (const _ of [1, 2]) expect(select([...named, ["c.bias", 4]], bias, "f(x)", "thing").map(([, value]) => value)).toEqual([3, 4]);
  expect(() => select(named, /bais$/, "f(x)", "thing")).toThrow(
    new RangeError('f(x): /bais$/ matches no thing; there are 3, such as "b.weight"'),
  );
  expect(() => select(named, ["a.bias"] as unknown as string, "f(x)", "thing")).toThrow(
    new TypeError(
      "f(x): a match is a pattern, a regular expression or a function of the name; got a list: for several names give (name) => list.includes(name)",
    ),
  );
  expect(() => select(named, 7 as unknown as string, "f(x)", "thing")).toThrow("of the name; got number");
  expect(() => select(named, "*.bais", "f(x)", "thing")).toThrow(
    new RangeError('f(x): "*.bais" matches no thing; there are 3, such as "a.bias"'),
  );
  expect(() => select([], () => true, "f(x)", "thing")).toThrow("f(x): match holds for no thing; there is none at all");
});
