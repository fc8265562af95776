/** The command line's frame: exit statuses, messages, and unknown options. */

import { describe, expect, test } from "vitest";
import { type Define, device, examples, force, integer, list, out, pairs, real, Stopped, seed } from "../../../geneformer/cli/command.ts";
import { run, type Table } from "../../../geneformer/cli/run.ts";

/** A table of two commands: `grow`, whose action is the test's, and one whose file may not be loaded. */
function table(action: (options: Record<string, unknown>, context: Parameters<Define>[1]) => void | Promise<void>): Table {
  const command: Define = (program, context) => {
    program
      .option("--height <metres>", "how high", real(0, 10), 1)
      .option("--leaves <number>", "how many", integer(1), 5)
      .option("--colours <names>", "which", list, [])
      .option("--rename <from:to>", "what", pairs(":"), new Map())
      .addOption(device())
      .addOption(seed())
      .addOption(out("where"))
      .addOption(force())
      .addHelpText("after", examples("grow --out a", "grow --height 2 --out a"))
      .action((options) => action(options, context));
  };
  return {
    grow: ["makes it higher", async () => ({ command })],
    prune: ["makes it lower", () => Promise.reject(new Error("a command that nobody asked for was loaded"))],
  };
}

async function call(args: string[], action: Parameters<typeof table>[0] = () => {}, signal = new AbortController().signal, debug = false) {
  let [stdout, stderr] = ["", ""];
  const status = await run(table(action), args, {
    stdout: { write: (text) => (stdout += text) },
    stderr: { write: (text) => (stderr += text) },
    ...{ signal, version: "1.2.3", debug },
  });
  return { status, stdout, stderr };
}

describe("help", () => {
  test("lists the commands, and shows a command's options with two examples", async () => {
    const { status, stdout, stderr } = await call(["--help"]);
    expect([status, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(/grow\s.*makes it higher/);
    expect(stdout).toMatch(/prune\s.*makes it lower/);
    for (const args of [
      ["grow", "--help"],
      ["help", "grow"],
      ["grow", "-h"],
    ]) {
      const { status, stdout } = await call(args);
      expect(status).toBe(0);
      for (const text of ["makes it higher", "--device <name>", "--seed", "--out", "--json", "--force"]) expect(stdout).toContain(text);
      expect(stdout.match(/\$ geneformer grow /g)).toHaveLength(2);
      expect(stdout.match(/default: \S+\)/g)).toEqual(["default: 1)", "default: 5)", 'default: "auto")', "default: 0)"]);
    }
  });

  test("without a command is shown on stderr, as wrong usage", async () => {
    const { status, stdout, stderr } = await call([]);
    expect([status, stdout]).toEqual([2, ""]);
    expect(stderr).toContain("Usage: geneformer");
  });

  test("--version", async () => expect(await call(["--version"])).toEqual({ status: 0, stdout: "1.2.3\n", stderr: "" }));
});

describe("wrong usage is exit status 2 and one line", () => {
  test.each([
    [["grwo", "--out", "a"], "geneformer: unknown command 'grwo'; did you mean grow?"],
    [["toString"], "geneformer: unknown command 'toString'; the commands are grow, prune"],
    [["--hleight", "1"], "geneformer: unknown option '--hleight'; the options are --version"],
    [["grow", "--heigth", "2", "--out", "a"], "geneformer grow: unknown option '--heigth'; did you mean --height?"],
    [["grow", "--zzzzzzzzz", "--out", "a"], /^geneformer grow: unknown option '--zzzzzzzzz'; the options are --height, --leaves/],
    [["grow", "--otu", "a"], "geneformer grow: unknown option '--otu'; did you mean --out?"],
    [["grow"], "geneformer grow: required option '--out <path>' not specified"],
    [["grow", "--out"], "geneformer grow: option '--out <path>' argument missing"],
    [["grow", "--out", "a", "more"], /^geneformer grow: too many arguments/],
    [["grow", "--out", "a", "--height", "11"], /'11' is invalid\. It must be a number from 0 to 10\./],
    [["grow", "--out", "a", "--height", "tall"], /'tall' is invalid/],
    [["grow", "--out", "a", "--height", ""], /'' is invalid/],
    [["grow", "--out", "a", "--leaves", "0"], /It must be an integer of at least 1\./],
    [["grow", "--out", "a", "--leaves", "1.5"], /'1\.5' is invalid/],
    [["grow", "--out", "a", "--leaves", "1e3"], /'1e3' is invalid/],
    [["grow", "--out", "a", "--seed", "-1"], /It must be an integer of at least 0\./],
    [["grow", "--out", "a", "--device", "tpu"], /Allowed choices are auto, webgpu, cpu\./],
    [["grow", "--out", "a", "--colours", "red,,blue"], /names with commas/],
    [["grow", "--out", "a", "--rename", "from"], /two names with ":" between/],
    [["grow", "--out", "a", "--rename", "a:b", "--rename", "a:c"], /"a" is given twice/],
  ])("%o", async (args, message) => {
    let called = false;
    const { status, stdout, stderr } = await call(args, () => {
      called = true;
    });
    expect([status, stdout, called]).toEqual([2, "", false]);
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    if (typeof message === "string") expect(stderr).toBe(`${message}\n`);
    else expect(stderr).toMatch(message);
  });
});

describe("a command", () => {
  test("gets its options parsed, with defaults", async () => {
    let got: Record<string, unknown> = {};
    const keep = (options: Record<string, unknown>) => {
      got = options;
    };
    expect((await call(["grow", "--out", "a"], keep)).status).toBe(0);
    expect(got).toEqual({
      height: 1,
      leaves: 5,
      colours: [],
      rename: new Map(),
      device: "auto",
      seed: 0,
      out: "a",
      force: false,
      json: false,
    });
    const args = [
      "--height=0.5",
      "--leaves",
      "7",
      "--colours",
      "red, blue",
      "--colours",
      "green",
      "--rename",
      "a:b:c",
      "--rename",
      "d:e",
      "--seed",
      "9",
    ];
    expect((await call(["grow", ...args, "--device", "cpu", "--out", "b", "--force", "--json"], keep)).status).toBe(0);
    expect(got).toMatchObject({
      height: 0.5,
      leaves: 7,
      colours: ["red", "blue", "green"],
      device: "cpu",
      seed: 9,
      force: true,
      json: true,
    });
    expect(got.rename).toEqual(new Map([["a", "b:c"], ["d", "e"]])); // biome-ignore format: one line
  });

  test("reports lines on stderr, and JSON on stdout only when asked", async () => {
    const action: Parameters<typeof table>[0] = (_, { report }) => report({ leaves: 5 }, "five leaves", "all green");
    expect(await call(["grow", "--out", "a"], action)).toEqual({ status: 0, stdout: "", stderr: "five leaves\nall green\n" });
    const { stdout, stderr } = await call(["grow", "--out", "a", "--json"], action);
    expect([JSON.parse(stdout), stderr]).toEqual([{ leaves: 5 }, "five leaves\nall green\n"]);
  });

  test("that fails is exit status 1 and one sentence, without a stack unless asked", async () => {
    const fail = (message: string) => () => {
      throw new RangeError(message);
    };
    expect(await call(["grow", "--out", "a"], fail("soil: it is dry\n  water it"))).toEqual({
      ...{ status: 1, stdout: "", stderr: "geneformer grow: soil: it is dry; water it\n" },
    });
    expect((await call(["grow", "--out", "a"], fail("grow: it is dry"))).stderr).toBe("geneformer grow: it is dry\n");
    const { stderr } = await call(["grow", "--out", "a"], fail("dry"), undefined, true);
    expect(stderr).toMatch(/^RangeError: dry\n +at /);
    expect(await call(["prune"])).toMatchObject({ status: 1, stderr: "geneformer prune: a command that nobody asked for was loaded\n" });
  });

  test("that is stopped is exit status 130, and says what is on disk", async () => {
    const stop = new AbortController();
    stop.abort();
    const patient: Parameters<typeof table>[0] = (_, { signal }) => signal.throwIfAborted();
    const { status, stderr } = await call(["grow", "--out", "a"], patient, stop.signal);
    expect(status).toBe(130);
    expect(stderr).toMatch(/^geneformer grow: stopped; nothing was written/);
    const careful = () => {
      throw new Stopped("step 40 is in a/; go on with --resume");
    };
    expect(await call(["grow", "--out", "a"], careful, stop.signal)).toEqual({
      ...{ status: 130, stdout: "", stderr: "geneformer grow: stopped; step 40 is in a/; go on with --resume\n" },
    });
  });
});
