/** Races are fair and strict: equal results first, turns in order, and nobody who is absent or wrong gets a time. */

import { describe, expect, test } from "vitest";
import { differences, disagreement } from "../../bench/peers/compare.ts";
import { inProcess } from "../../bench/peers/process.ts";
import { type Racer, race } from "../../bench/peers/race.ts";
import { linesOf, markdown, median, textTable } from "../../bench/peers/report.ts";
import type { Parts } from "../../bench/peers/task.ts";

const right: Parts = { y: Float32Array.of(1, -2, 3) };

/** A contender that takes so long for a run, and writes down its turns. */
const runner = (name: string, ms: number, log: string[], result: Parts = right): Racer => ({
  name,
  open: async () => `${name} 1.0`,
  result: async () => result,
  async time(runs, warm) {
    log.push(warm ? name.toUpperCase() : name);
    return new Array<number>(runs).fill(ms);
  },
  close: async () => {},
});

const options = { rounds: 3, turn: 10 };

describe("race", () => {
  test("takes turns, and runs the fast more often in theirs", async () => {
    const log: string[] = [];
    const outcomes = await race([runner("a", 10, log), runner("b", 2, log), runner("c", 100, log)], options);
    expect(log.join("")).toBe("abcABCABCABC"); // a rehearsal, after which all warm up before they count
    expect(outcomes.map((each) => each.state === "timed" && each.times.length)).toEqual([3, 15, 3]);
  });

  test("refuses a wrong result, and one that is no number, before any timing", async () => {
    const log: string[] = [];
    const outcomes = await race(
      [
        runner("ours", 1, log),
        runner("off", 1, log, { y: Float32Array.of(1, -2, 3.001) }),
        runner("nan", 1, log, { y: Float32Array.of(1, Number.NaN, 3) }),
        runner("short", 1, log, { y: Float32Array.of(1, -2) }),
        runner("near", 1, log, { y: Float32Array.of(1, -2, 3.0001) }),
      ],
      options,
    );
    expect(outcomes.map(({ state }) => state)).toEqual(["timed", "wrong", "wrong", "wrong", "timed"]);
    expect(outcomes[1]).toMatchObject({ reason: "its y are off ours by 3.3e-4, more than 2e-4" });
    expect(new Set(log)).toEqual(new Set(["ours", "near", "OURS", "NEAR"]));
  });

  test("without a result of ours nobody is held to be right", async () => {
    const broken: Racer = { ...runner("ours", 1, []), result: () => Promise.reject(new Error("out of memory")) };
    const outcomes = await race([broken, runner("b", 1, [])], options);
    expect(outcomes).toEqual([
      { name: "ours", state: "wrong", reason: "out of memory" },
      { name: "b", state: "wrong", reason: "there is no result of ours to hold it against" },
    ]);
  });

  test("who fails in mid-race drops out, the others go on", async () => {
    const log: string[] = [];
    const weak: Racer = { ...runner("weak", 1, log), time: () => Promise.reject(new Error("crashed\nat some place")) };
    const outcomes = await race([runner("ours", 10, log), weak, runner("c", 10, log)], options);
    expect(outcomes[1]).toEqual({ name: "weak", state: "wrong", reason: "crashed" });
    expect(log.join(" ").toLowerCase()).toBe("ours c ".repeat(4).trim());
  });

  test("who takes long is not asked to warm up", async () => {
    const log: string[] = [];
    await race([runner("slow", 3001, log), runner("fast", 3000, log)], options);
    expect(log.slice(2)).toEqual(["slow", "FAST", "slow", "FAST", "slow", "FAST"]);
  });

  test("who cannot be loaded is absent: an unknown program, a process that ends, a library that is not installed", async () => {
    const place = { folder: "nowhere", opener: "none", threads: 1 };
    const program =
      'for await (const line of process.stdin) console.log(JSON.stringify({ error: String(await import("not-installed").catch((e) => e.message)) }))';
    const racers = [
      runner("ours", 1, []),
      inProcess({ ...place, name: "unknown", command: ["no-such-program-anywhere"] }),
      inProcess({ ...place, name: "ends", command: [process.execPath, "-e", "process.stderr.write('no GPU'); process.exit(3)"] }),
      inProcess({ ...place, name: "missing", command: [process.execPath, "--input-type=module", "-e", program] }),
    ];
    const outcomes = await race(racers, options);
    for (const racer of racers) await racer.close();
    expect(outcomes.map(({ state }) => state)).toEqual(["timed", "absent", "absent", "absent"]);
    const reasons = outcomes.map((each) => ("reason" in each ? each.reason : ""));
    expect(reasons[1]).toMatch(/ENOENT/);
    expect(reasons[2]).toMatch(/its process ended \(3\): no GPU/);
    expect(reasons[3]).toMatch(/Cannot find package 'not-installed'/);
  });
});

describe("report", () => {
  const section = {
    title: "some work",
    limits: { fast: 0.5, slow: 0.5, gone: 0.5, odd: 0.5 },
    outcomes: [
      { name: "ours", state: "timed", description: "cpu", times: [4, 2, 3] },
      { name: "fast", state: "timed", description: "x", times: [3, 9] },
      { name: "slow", state: "timed", description: "y", times: [8, 4] },
      { name: "else", state: "timed", description: "z", times: [1] },
      { name: "gone", state: "absent", reason: "not installed" },
      { name: "odd", state: "wrong", reason: "its y are off" },
    ],
  } as const;

  test("ratios are ours / theirs of the fastest runs; only they are ok or over", () => {
    expect(linesOf(section).map(({ min, median, ratio, verdict }) => [min, median, ratio, verdict])).toEqual([
      [2, 3, null, ""],
      [3, 6, 2 / 3, "over"],
      [4, 6, 0.5, "ok"],
      [1, 1, 2, ""],
      [null, null, null, "absent"],
      [null, null, null, "error"],
    ]);
  });

  test("where ours has no time, nobody has a ratio, nor is within a limit", () => {
    const outcomes = [{ name: "ours", state: "wrong", reason: "crashed" }, ...section.outcomes.slice(1)] as const;
    for (const { ratio, verdict } of linesOf({ ...section, outcomes })) {
      expect(ratio).toBeNull();
      expect(verdict).not.toBe("ok");
    }
  });

  test("tables", () => {
    const text = textTable(section).split("\n");
    expect(text[0]).toBe("some work");
    expect(text[4].trim().split(/\s+/)).toEqual(["slow", "4.00", "6.00", "0.50", "0.5", "ok", "y"]);
    const page = markdown([section], { date: "2026-11-21", commit: "abc", machine: "m", node: "v20", rounds: 3 });
    expect(page).toContain("| slow | 4.00 | 6.00 | 0.50 | 0.5 | ok | y |");
    expect(page).toContain("| gone |  |  |  | 0.5 | absent | not installed |");
  });

  test("a section says when others disturbed it", () => {
    expect(textTable({ ...section, disturbance: 0.01 }).split("\n")[0]).toBe("some work");
    expect(textTable({ ...section, disturbance: 0.8 })).toMatch(/^some work \(DISTURBED: other programs took 80 % of the cores\)\n/);
  });

  test("median", () => {
    expect([median([3, 1, 2]), median([4, 1, 2, 3])]).toEqual([2, 2.5]);
  });
});

describe("compare", () => {
  test("differences are shares of the largest number", () => {
    expect(differences({ y: Float32Array.of(4, 0) }, { y: Float32Array.of(4, 1) })).toEqual({ y: 0.25 });
  });

  test("a part that is missing, and one that nobody gave a tolerance, are no agreement", () => {
    expect(disagreement({ losses: Float32Array.of(1) }, {})).toMatch(/losses are not numbers, or not as many/);
    expect(disagreement({ other: Float32Array.of(1) }, { other: Float32Array.of(1.0001) })).toMatch(/other are off/);
    expect(disagreement({ other: Float32Array.of(1) }, { other: Float32Array.of(1) })).toBeNull();
  });
});
