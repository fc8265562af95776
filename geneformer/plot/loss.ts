/** The course of a training: losses, their running mean, and marks to compare with. */

import type { PlotOptions } from "@observablehq/plot";
import { BLUE, compose, finite, INK, VERMILION } from "./figure.ts";

/** A loss at a step of training. */
export interface LossPoint {
  step: number;
  /** Cross-entropy, nats. */
  loss: number;
  kind: "train" | "held-out";
}

/** A horizontal rule to compare with, as the entropy of the genes' frequencies. */
export interface Mark {
  label: string;
  value: number;
}

/**
 * Training losses as dots with their running mean, held-out losses as a line, marks as dashed rules.
 *
 * @throws RangeError without points, or for a step, loss or mark that is not finite.
 */
export async function lossPlot(points: readonly LossPoint[], marks: readonly Mark[] = []): Promise<string> {
  if (points.length === 0) throw new RangeError("lossPlot: there are no points; give at least one loss");
  for (const { step, loss } of points) finite("lossPlot", `the loss at step ${step}`, step, loss);
  for (const { label, value } of marks) finite("lossPlot", `the mark "${label}"`, value);
  const Plot = await import("@observablehq/plot");
  const train = points.filter(({ kind }) => kind === "train");
  const held = points.filter(({ kind }) => kind === "held-out");
  const place = { x: "step", y: "loss" } as const;
  // A twentieth of the run tells the trend from the noise of single batches.
  const smooth = { k: Math.max(1, Math.ceil(train.length / 20)), strict: false };
  const plot: PlotOptions = {
    width: 720,
    height: 380,
    x: { label: "step", labelAnchor: "center", labelArrow: "none", grid: true, nice: true },
    y: { label: "masked cross-entropy (nats)", labelArrow: "none", grid: true, nice: true },
    marks: [
      Plot.dot(train, { ...place, r: 1.5, fill: BLUE, fillOpacity: 0.35 }),
      Plot.line(train, Plot.windowY(smooth, { ...place, stroke: BLUE, strokeWidth: 1.5 })),
      Plot.line(held, { ...place, stroke: VERMILION, strokeWidth: 2 }),
      Plot.dot(held, { ...place, fill: VERMILION, r: 3 }),
      Plot.ruleY(marks, { y: "value", stroke: INK, strokeDasharray: "5 3" }),
      Plot.text(marks, {
        y: "value",
        text: ({ label, value }: Mark) => `${label}: ${value.toFixed(2)}`,
        ...{ frameAnchor: "right", dy: -7, textAnchor: "end", stroke: "white", fill: INK },
      }),
    ],
  };
  const legend = [
    ...(train.length > 0 ? [["training", BLUE] as const] : []),
    ...(held.length > 0 ? [["held-out cells", VERMILION] as const] : []),
  ];
  return compose(Plot.plot, plot, { title: "Loss of masked genes" }, legend);
}
