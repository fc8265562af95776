/** Nearest neighbours: do cells that lie together bear the same label? */

/** Cells that vote at most: every pair of them is compared. */
export const VOTERS = 5000;

/** Lengths of 1, so that a dot product is a cosine. A row of zeros stays one. */
function unit(rows: Float32Array, width: number): Float32Array {
  const units = new Float32Array(rows.length);
  for (let i = 0; i < rows.length; i += width) {
    let square = 0;
    for (let c = 0; c < width; c++) square += rows[i + c] ** 2;
    const scale = square > 0 ? 1 / Math.sqrt(square) : 0;
    for (let c = 0; c < width; c++) units[i + c] = rows[i + c] * scale;
  }
  return units;
}

export interface Vote {
  /** Share of cells whose neighbours' most frequent label is their own. */
  readonly accuracy: number;
  /** Share that the most frequent label has of all: what naming it for every cell would score. */
  readonly majority: number;
  /** The mean over labels of the share of that label's cells that are named right. */
  readonly balanced: number;
  /** Cells that voted. */
  readonly cells: number;
}

/**
 * Let each cell's k nearest others, by cosine about the mean, vote on its label; the nearest of equals decides.
 * Of more than 5,000 labelled cells so many, evenly spaced, take part and the others do not: the time grows with their square.
 * @param rows embeddings [cells, width].   @param labels one a cell; null takes no part.
 * @throws RangeError when fewer than two cells bear labels.
 */
export function vote(rows: Float32Array, width: number, labels: readonly (string | number | null)[], k = 10): Vote {
  const labelled = labels.flatMap((label, i) => (label === null ? [] : [i]));
  if (labelled.length < 2) throw new RangeError(`vote(rows, labels): ${labelled.length} cells bear a label; at least two are needed`);
  const every = Math.max(1, labelled.length / VOTERS);
  const members = Array.from({ length: Math.min(labelled.length, VOTERS) }, (_, i) => labelled[Math.floor(i * every)]);
  const mean = new Float64Array(width);
  for (const i of members) for (let c = 0; c < width; c++) mean[c] += rows[i * width + c] / members.length;
  const units = unit(
    Float32Array.from(rows, (value, at) => value - mean[at % width]),
    width,
  );

  const right = new Map<string | number, [hits: number, all: number]>();
  for (const i of members) {
    const near: [similarity: number, cell: number][] = [];
    for (const j of members) {
      if (j === i) continue;
      let dot = 0;
      for (let c = 0; c < width; c++) dot += units[i * width + c] * units[j * width + c];
      if (near.length === k && dot <= near[k - 1][0]) continue;
      let at = near.length;
      while (at > 0 && near[at - 1][0] < dot) at--;
      near.splice(at, 0, [dot, j]);
      if (near.length > k) near.pop();
    }
    const votes = new Map<string | number, number>();
    for (const [, j] of near) votes.set(labels[j] as string | number, (votes.get(labels[j] as string | number) ?? 0) + 1);
    const most = Math.max(...votes.values());
    const [winner] = [...votes].find(([, count]) => count === most) as [string | number, number]; // a Map keeps order: the nearest of equals
    const own = labels[i] as string | number;
    const [hits, all] = right.get(own) ?? [0, 0];
    right.set(own, [hits + Number(winner === own), all + 1]);
  }
  const scores = [...right.values()];
  return {
    accuracy: scores.reduce((sum, [hits]) => sum + hits, 0) / members.length,
    majority: Math.max(...scores.map(([, all]) => all)) / members.length,
    balanced: scores.reduce((sum, [hits, all]) => sum + hits / all, 0) / scores.length,
    cells: members.length,
  };
}
