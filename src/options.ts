/** Options by name: one that is not known is an error that says which was meant. */

/** The word that takes the fewest changes of a letter to become `word` (Levenshtein 1966), small or large; undefined among none. */
export function nearest(word: string, words: readonly string[]): string | undefined {
  const from = word.toLowerCase();
  const distance = (candidate: string): number => {
    const to = candidate.toLowerCase();
    let row = Array.from({ length: to.length + 1 }, (_, j) => j);
    for (let i = 1; i <= from.length; i++) {
      const next = [i];
      for (let j = 1; j <= to.length; j++)
        next.push(Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + (from[i - 1] === to[j - 1] ? 0 : 1)));
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

/** What to say of the first option that is not among `names`; null where all are. */
export function unknownOption(options: object, names: readonly string[]): string | null {
  const name = Object.keys(options).find((each) => !names.includes(each));
  return name === undefined ? null : `there is no option "${name}"; did you mean "${nearest(name, names)}"?`;
}

/** @throws TypeError for options that are no object, or hold one that is not among `names`, with the nearest that is. */
export function checkOptions(where: string, options: object, names: readonly string[]): void {
  if (typeof options !== "object" || options === null) throw new TypeError(`${where}: options are an object; got ${String(options)}`);
  const wrong = unknownOption(options, names);
  if (wrong) throw new TypeError(`${where}: ${wrong}`);
}
