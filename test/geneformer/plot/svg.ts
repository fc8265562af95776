/** What tests of pictures see in an SVG, and what every picture is. */

import { parseHTML } from "linkedom";
import { expect } from "vitest";

export const parse = (svg: string) => parseHTML(`<html><body>${svg}</body></html>`).document;
export const texts = (svg: string): (string | null)[] => [...parse(svg).querySelectorAll("text")].map((element) => element.textContent);

/** What marks of a kind were drawn: the elements of the groups that Plot calls so. */
export const marks = (svg: string, label: string, element: string): Element[] =>
  [...parse(svg).querySelectorAll(`[aria-label="${label}"] ${element}`)] as unknown as Element[];

/** What a file that stands alone may not have: scripts, style sheets, references. */
export function expectWhole(svg: string): void {
  expect(svg.startsWith("<svg ")).toBe(true);
  expect(svg).toContain('xmlns="http://www.w3.org/2000/svg"');
  expect(svg).not.toMatch(/<script|<style|href|url\(|NaN|undefined|Infinity/);
  expect(parse(svg).querySelector("rect")?.getAttribute("fill")).toBe("white");
}
