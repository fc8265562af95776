/** Names of parameters and modules: patterns that match them, and the nearest to one that is not there. */

import { nearest } from "../src/options.ts";

export { nearest };

/**
 * Which names are meant: a pattern, a regular expression, or a function that says so. In a pattern `*` stands for any letters between two dots, and `**` for any
 * number of parts: "layers.*.query.weight", "layers.*.norm*", "**.bias".
 * A regular expression may match any part of a name: /^layers\.[0-5]\./.
 */
export type Match = string | RegExp | ((name: string) => boolean);

/** A pattern as a function. */
export function matcher(match: Match): (name: string) => boolean {
  if (match instanceof RegExp) return (name) => name.search(match) >= 0; // test() of a global one goes on where it left off
  if (typeof match !== "string") return match;
  const source = match
    .replace(/[\\^$+?.()|[\]{}]/g, "\\$&")
    .replace(/\*\*\\\.|\\\.\*\*|\*\*|\*/g, (stars) =>
      stars === "*" ? "[^.]*" : stars === "**" ? ".*" : stars.startsWith("*") ? "(?:[^.]+\\.)*" : "(?:\\.[^.]+)*",
    );
  const expression = new RegExp(`^${source}$`);
  return (name) => expression.test(name);
}

/**
 * What is named by a match, in order.
 * @param where what to say first in the error.   @param what what is looked for: "parameter".
 * @throws RangeError when nothing is, with the nearest name there is.   @throws TypeError for a match that is none.
 */
export function select<T>(named: Iterable<readonly [string, T]>, match: Match, where: string, what: string): [name: string, value: T][] {
  if (!(typeof match === "string" || typeof match === "function" || match instanceof RegExp))
    throw new TypeError(
      `${where}: a match is a pattern, a regular expression or a function of the name; got ${Array.isArray(match) ? "a list: for several names give (name) => list.includes(name)" : typeof match}`,
    );
  const matches = matcher(match);
  const all = [...named];
  const found = all.filter(([name]) => matches(name)).map(([name, value]): [string, T] => [name, value]);
  if (found.length > 0) return found;
  const names = all.map(([name]) => name);
  const asked =
    typeof match === "function" ? `match holds for no ${what}` : `${typeof match === "string" ? `"${match}"` : match} matches no ${what}`;
  const near = typeof match === "string" ? nearest(match, names) : names[0];
  throw new RangeError(
    `${where}: ${asked}; ${near === undefined ? "there is none at all" : `there are ${names.length}, such as "${near}"`}`,
  );
}
