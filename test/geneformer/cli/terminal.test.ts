/** What a person sees: progress on a terminal, plain lines elsewhere. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { count, duration, figure, megabytes, progress } from "../../../geneformer/cli/terminal.ts";

describe("figures", () => {
  test.each([
    [0, "0"],
    [0.01234, "0.0123"],
    [4.567, "4.57"],
    [99.96, "100"],
    [1234.5, "1,235"],
    [1e9, "1,000,000,000"],
    [Number.NaN, "-"],
    [Number.POSITIVE_INFINITY, "-"],
  ])("%d", (x, text) => expect(figure(x)).toBe(text));

  test.each([
    [0.4234, "0.423 s"],
    [59.4, "59 s"],
    [59.6, "1 min 00 s"],
    [185, "3 min 05 s"],
    [3599.7, "1 h 00 min"],
    [7620, "2 h 07 min"],
    [Number.POSITIVE_INFINITY, "-"],
  ])("%d s", (seconds, text) => expect(duration(seconds)).toBe(text));

  test("counts and memory", () => expect([count(12345), megabytes(81.2e6)]).toEqual(["12,345", "81 MB"]));
});

describe("progress", () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ["performance", "Date", "setTimeout", "clearTimeout"] }));
  afterEach(() => void vi.useRealTimers());

  const work = (isTTY: boolean, total: number | undefined, start = 0) => {
    let text = "";
    const stream = {
      isTTY,
      columns: 120,
      write: (piece: string) => {
        text += piece;
        return true;
      },
    };
    const bar = progress(stream, "Tokenizing", total, "cells", start);
    for (let done = start + 100; done <= 1000; done += 100) {
      vi.advanceTimersByTime(2000);
      bar.update(done, "loss 6.2");
      vi.advanceTimersByTime(0);
    }
    bar.stop();
    return text;
  };

  test("is a plain line every few seconds where there is no terminal, with rate and time left", () => {
    expect(work(false, 1000).split("\n")).toEqual([
      "Tokenizing: 300 of 1,000 cells, 50 cells/s, 14 s left, loss 6.2",
      "Tokenizing: 600 of 1,000 cells, 50 cells/s, 8 s left, loss 6.2",
      "Tokenizing: 900 of 1,000 cells, 50 cells/s, 2 s left, loss 6.2",
      "Tokenizing: 1,000 cells in 20 s, 50 cells/s",
      "",
    ]);
  });

  test("counts all of a batch before it says a rate", () => {
    const lines: string[] = [];
    const bar = progress({ write: (line) => lines.push(line) }, "Screening", 3000, "pairs");
    vi.advanceTimersByTime(6000);
    for (let done = 1; done <= 1200; done++) bar.update(done);
    expect(lines).toEqual([]);
    vi.advanceTimersByTime(1);
    expect(lines).toEqual(["Screening: 1,200 of 3,000 pairs, 200 pairs/s, 9 s left\n"]);
    vi.advanceTimersByTime(6000);
    bar.update(1201);
    bar.stop(); // and nothing after it
    vi.advanceTimersByTime(6000);
    expect(lines).toHaveLength(2);
  });

  test("does not count what was done before a run resumed", () => {
    const lines = work(false, 1000, 500).split("\n");
    expect(lines[0]).toBe("Tokenizing: 800 of 1,000 cells, 50 cells/s, 4 s left, loss 6.2");
    expect(lines.at(-2)).toBe("Tokenizing: 500 cells in 10 s, 50 cells/s");
  });

  test("says nothing of what is left where nobody knows the total", () => {
    expect(work(false, undefined)).toContain("Tokenizing: 300 cells, 50 cells/s, loss 6.2\n");
  });

  test("is a bar on a terminal, and one line in the end", () => {
    const text = work(true, 1000);
    expect(text).toMatch(/Tokenizing \|.*\| 50% 500 of 1,000 cells, 50 cells\/s, 10 s left, loss 6\.2/);
    expect(text.endsWith("Tokenizing: 1,000 cells in 20 s, 50 cells/s\n")).toBe(true);
    expect(text.match(/\n/g)).toHaveLength(1);
  });
});
