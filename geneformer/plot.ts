/** Pictures as SVG text, the same in Node and in a page, drawn by Observable Plot; and as PNG. */

export { type Components, principalComponents } from "./plot/components.ts";
export type { Titles } from "./plot/figure.ts";
export { type LossPoint, lossPlot, type Mark } from "./plot/loss.ts";
export { type NetworkEdge, type NetworkTitles, networkPlot } from "./plot/network.ts";
export { type PngOptions, png } from "./plot/png.ts";
export { type Point, scatterPlot } from "./plot/scatter.ts";
export { type ShiftGene, type ShiftTitles, shiftPlot } from "./plot/shifts.ts";
export { type StateGene, type StateTitles, statePlot } from "./plot/states.ts";
export { type VolcanoGene, type VolcanoTitles, volcanoPlot } from "./plot/volcano.ts";
