/** Labels beside dots: none over another, each near its own, and clear of the others where there is room. */

import type { Markish } from "@observablehq/plot";
import { INK, PALE, widthOf } from "./figure.ts";

/** A place in a picture, px. */
export interface Place {
  readonly x: number;
  readonly y: number;
}

/** A rectangle, px. */
export interface Box {
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
}

/** A label that found its place: its middle, and where its dot is. */
export interface Label extends Place {
  readonly text: string;
  readonly dot: Place;
  /** Where it stands far off, or near another dot with a label, a line leads to it: from the dot to this place. */
  readonly line: Place | null;
}

export const LABEL_SIZE = 11;

/** Distances from a dot at which a place is looked for, px, and directions, to the right first. Farther off than `LINED` a line leads there. */
const DISTANCES = [5, 9, 15, 22, 30, 40, 52, 66, 82, 100];
const DIRECTIONS = [0, 8, 4, 12, 2, 14, 6, 10, 1, 15, 7, 9, 3, 13, 5, 11].map((sixteenth) => (sixteenth * Math.PI) / 8);
const LINED = 12;

/** What covering a dot is worth, and leading a line over it, as px of distance. */
const [COVER, CROSS] = [6, 3];
/** How near to a dot's middle a line is over it, and a label touches it, px: dots are up to 4 px in radius. */
const [NEAR, TOUCH] = [3, 5];

/**
 * Places for labels, one after the other, so that the first have the choice. A label that finds none near its dot is left out.
 * @param dots all of the picture's, that labels should not cover.
 * @param taken boxes in which no label may stand.
 */
export function placeLabels(
  labels: readonly { readonly text: string; readonly dot: Place }[],
  dots: readonly Place[],
  frame: Box,
  taken: readonly Box[] = [],
): Label[] {
  const placed: Label[] = [];
  const boxes: Box[] = [...taken];
  const lines: Place[][] = [];
  for (const { text, dot } of labels) {
    const others = labels.map((label) => label.dot).filter(({ x, y }) => x !== dot.x || y !== dot.y);
    let [best, room, least]: [Label | null, Box | null, number] = [null, null, Number.POSITIVE_INFINITY];
    for (const [distance, x, y, box] of around(dot, widthOf(text, LABEL_SIZE))) {
      if (distance >= least) break; // what is nearer and covers nothing is better
      const inside = box.left >= frame.left && box.right <= frame.right && box.top >= frame.top && box.bottom <= frame.bottom;
      if (!inside || boxes.some((other) => meet(box, other)) || lines.some((line) => line.some((place) => within(place, box)))) continue;
      const own = apart(dot, box);
      if (own < TOUCH || others.some((other) => within(other, box))) continue;
      const afar = distance > LINED || others.some((other) => apart(other, box) < own + NEAR);
      const line = afar ? nearest(dot, box) : null;
      if (line && between(dot, line).some((place) => boxes.some((other) => within(place, other)))) continue;
      if (line && others.some((other) => distanceTo(other, dot, line) < NEAR)) continue; // whose line would it be?
      let cost = distance;
      for (const place of dots) {
        if (within(place, box)) cost += COVER;
        else if (line && place !== dot && distanceTo(place, dot, line) < NEAR) cost += CROSS;
      }
      if (cost < least) [best, room, least] = [{ text, x, y, dot, line }, box, cost];
    }
    if (!best || !room) continue;
    placed.push(best);
    boxes.push(room);
    if (best.line) lines.push(between(dot, best.line));
  }
  return placed;
}

/** The places that a label of this width may have, nearest first: its distance, its middle, and the box that it fills with a little air. */
function* around(dot: Place, width: number): Generator<[distance: number, x: number, y: number, box: Box]> {
  const [across, down] = [width / 2 + 1, LABEL_SIZE / 2 + 1];
  for (const distance of DISTANCES)
    for (const direction of DIRECTIONS) {
      const [x, y] = [dot.x + Math.cos(direction) * (distance + across), dot.y - Math.sin(direction) * (distance + down)];
      yield [distance, x, y, { left: x - across, right: x + across, top: y - down, bottom: y + down }];
    }
}

const clamp = (value: number, least: number, most: number): number => Math.min(Math.max(value, least), most);
const nearest = ({ x, y }: Place, { left, right, top, bottom }: Box): Place => ({ x: clamp(x, left, right), y: clamp(y, top, bottom) });
const apart = (place: Place, box: Box): number => Math.hypot(nearest(place, box).x - place.x, nearest(place, box).y - place.y);
const meet = (a: Box, b: Box): boolean => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
const within = ({ x, y }: Place, { left, right, top, bottom }: Box): boolean => x > left && x < right && y > top && y < bottom;

/** From a place to the nearest point of the way from one to another, px. */
function distanceTo({ x, y }: Place, from: Place, to: Place): number {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const along = clamp(((x - from.x) * dx + (y - from.y) * dy) / (dx * dx + dy * dy), 0, 1);
  return Math.hypot(x - from.x - along * dx, y - from.y - along * dy);
}

/** Places on the way from one to another, no farther apart than a label is high. */
function between(from: Place, to: Place): Place[] {
  const steps = Math.ceil(Math.hypot(to.x - from.x, to.y - from.y) / (LABEL_SIZE / 2));
  return Array.from({ length: steps + 1 }, (_, i) => ({
    x: from.x + ((to.x - from.x) * i) / Math.max(1, steps),
    y: from.y + ((to.y - from.y) * i) / Math.max(1, steps),
  }));
}

/** The labels as marks of a plot, over all else, and rings around their dots. Their places are px: no scale touches them. */
export function labelMarks(Plot: typeof import("@observablehq/plot"), labels: readonly Label[], radius: number): Markish[] {
  const px = (value: (label: Label) => number) => ({ value, scale: null });
  return [
    Plot.dot(labels, {
      ...{ x: px(({ dot }) => dot.x), y: px(({ dot }) => dot.y) },
      ...{ r: radius, stroke: INK, strokeWidth: 0.75 },
    }),
    Plot.link(
      labels.filter(({ line }) => line),
      {
        ...{ x1: px(({ dot }) => dot.x), y1: px(({ dot }) => dot.y), x2: px(({ line }) => line!.x), y2: px(({ line }) => line!.y) },
        ...{ stroke: PALE, strokeWidth: 0.75 },
      },
    ),
    Plot.text(labels, {
      ...{ x: px(({ x }) => x), y: px(({ y }) => y), text: "text" },
      ...{ fontSize: LABEL_SIZE, fill: INK, stroke: "white", strokeWidth: 3 },
    }),
  ];
}
