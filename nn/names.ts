/** Names of parameters and modules: patterns that match them, and the nearest to one that is not there. */

/**
 * Which names are meant: a pattern, or a function that says so. In a pattern `*` stands for any letters between two dots, and `**` for any
 * number of parts: "layers.*.query.weight", "layers.*.norm*", "**.bias".
 */
export type Match = string | ((name: string) => boolean);

/** A pattern as a function. */
export function matcher(match: Match): (name: string) => boolean {
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
 * @throws RangeError when nothing is, with the nearest name there is.
 */
export function select<T>(named: Iterable<readonly [string, T]>, match: Match, where: string, what: string): [name: string, value: T][] {
  const matches = matcher(match);
  const all = [...named];
  const found = all.filter(([name]) => matches(name)).map(([name, value]): [string, T] => [name, value]);
  if (found.length > 0) return found;
  const names = all.map(([name]) => name);
  const asked = typeof match === "string" ? `"${match}" matches no ${what}` : `match holds for no ${what}`;
  const near = typeof match === "string" ? nearest(match, names) : names[0];
  throw new RangeError(
    `${where}: ${asked}; ${near === undefined ? "there is none at all" : `there are ${names.length}, such as "${near}"`}`,
  );
}

/** The word that takes the fewest changes of a letter to become `word` (Levenshtein 1966); undefined among none. */
export function nearest(word: string, words: readonly string[]): string | undefined {
  const distance = (to: string): number => {
    let row = Array.from({ length: to.length + 1 }, (_, j) => j);
    for (let i = 1; i <= word.length; i++) {
      const next = [i];
      for (let j = 1; j <= to.length; j++)
        next.push(Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + (word[i - 1] === to[j - 1] ? 0 : 1)));
      row = next;
    }
    return row[to.length];
  };
  let [best, least]: [string | undefined, number] = [undefined, Number.POSITIVE_INFINITY];
  for (const candidate of words) {
    const changes = distance(candidate);
    if (changes < least) [best, least] = [candidate, changes];
  }
  return best;
}
