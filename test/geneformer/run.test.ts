/** A pretraining run on disk: broken off in every way, it goes on to the same bits; what cannot go on is refused. */

import { spawn } from "node:child_process";
import { appendFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { readModel } from "../../geneformer/checkpoint.ts";
import type { Config } from "../../geneformer/config.ts";
import type { Dataset } from "../../geneformer/data/dataset.ts";
import { type Event, pretrain, type RunOptions } from "../../geneformer/run.ts";
import { freeParameters } from "../../nn/module.ts";
import { readSafetensors } from "../../nn/safetensors.ts";
import { onDevice } from "../devices.ts";
import { geneformer } from "./cli/call.ts";
import { scratch } from "./data/scratch.ts";
import { datasetOf, settings, toyCells, toyConfig, V2, writeToy } from "./toy.ts";

const path = scratch();
const cells = datasetOf(toyCells(30));
const options: RunOptions = { ...settings, steps: 12, saveEvery: 5, evaluateEvery: 4, evaluateCells: 3, resume: false, force: false };

interface Given extends Partial<RunOptions> {
  dataset?: Dataset;
  config?: Config;
  signal?: AbortSignal;
}
const start = (out: string, { dataset = cells, config = toyConfig, signal, ...other }: Given = {}) =>
  pretrain(dataset, V2, config, out, { ...options, ...other }, signal);

/** Run to the end, or until `enough`, after which nothing more is asked for. */
async function follow(run: AsyncGenerator<Event>, enough: (event: Event) => boolean = () => false): Promise<Event[]> {
  const events: Event[] = [];
  for await (const event of run) {
    events.push(event);
    if (enough(event)) break;
  }
  return events;
}
const atStep = (n: number) => (event: Event) => event.kind === "step" && event.step === n;
const weights = (out: string) => readFileSync(`${out}/model.safetensors`);

interface Line {
  step?: number;
  loss?: number;
  heldOut?: number;
  ms?: number;
}
/** The log, without what a clock says. */
const log = (out: string): Line[] =>
  readFileSync(`${out}/log.jsonl`, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => {
      const { ms, ...rest } = JSON.parse(line) as Line;
      return rest;
    });

onDevice("cpu", (device) => {
  const whole = path("whole");
  let events: Event[];
  beforeAll(async () => {
    events = await follow(start(whole));
  });

  /** A run that stopped in step 7, with a checkpoint of step 5. */
  async function broken(name: string): Promise<string> {
    await follow(start(path(name)), atStep(7));
    return path(name);
  }

  describe("undisturbed", () => {
    test("tells of every step, evaluation and checkpoint", () => {
      const told = events.map((event) => ("step" in event ? `${event.kind} ${event.step}` : event.kind));
      const steps = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => `step ${from + i}`);
      expect(told).toEqual([
        ...["start", "evaluation 0", ...steps(1, 4), "evaluation 4", ...steps(5, 5), "saved 5", ...steps(6, 8), "evaluation 8"],
        ...[...steps(9, 10), "saved 10", ...steps(11, 12), "evaluation 12", "done"],
      ]);
      expect(events[0]).toMatchObject({ from: 0, baselines: { unigram: expect.any(Number), rank: expect.any(Number) } });
    });

    test("leaves the model as Hugging Face's files, the dictionary, the log, and no checkpoint", async () => {
      expect(readdirSync(whole).sort()).toEqual(["config.json", "dictionary", "log.jsonl", "model.safetensors"]);
      expect(readdirSync(`${whole}/dictionary`)).toEqual(["vocabulary.json"]);
      const model = await readModel(whole);
      expect(model.config).toEqual(toyConfig);
      freeParameters(model);
    });

    test("logs its settings, then a line for every step and evaluation", () => {
      const [header, ...lines] = log(whole);
      expect(header).toMatchObject({ seed: 0, steps: 12, tokensPerBatch: 64, fingerprint: "toy", config: { hidden_size: 16 } });
      expect(lines.filter(({ loss }) => loss !== undefined).map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
      expect(lines.filter(({ heldOut }) => heldOut !== undefined).map(({ step }) => step)).toEqual([0, 4, 8, 12]);
      const told = events.flatMap((event) => (event.kind === "step" ? [event.loss] : []));
      expect(lines.flatMap(({ loss }) => loss ?? [])).toEqual(told);
    });

    test("gives its memory back, at its end or when nobody asks on", async () => {
      const { live } = device().memory;
      await follow(start(path("memory")));
      await follow(start(path("memory-broken")), atStep(3));
      expect(device().memory.live).toBe(live);
    });

    test("keeps the two newest checkpoints, each with all that the run is", async () => {
      const out = path("kept");
      await follow(start(out, { saveEvery: 2 }), atStep(7));
      expect(readdirSync(out).sort()).toEqual(["checkpoint-4", "checkpoint-6", "log.jsonl"]);
      const files = ["config.json", "dictionary", "model.safetensors", "optimizer.safetensors", "run.json"];
      expect(readdirSync(`${out}/checkpoint-6`).sort()).toEqual(files);
      expect(JSON.parse(readFileSync(`${out}/checkpoint-6/run.json`, "utf8"))).toMatchObject({
        progress: { step: 6 },
        options: settingsOf(options),
        fingerprint: "toy",
      });
      const { tensors } = readSafetensors(readFileSync(`${out}/checkpoint-6/optimizer.safetensors`));
      expect([...tensors.keys()]).toEqual(expect.arrayContaining(["mean.layers.1.up.weight", "square.head.bias"]));
    });

    test("saving, evaluating and logging change no weight", async () => {
      const out = path("quiet");
      await follow(start(out, { saveEvery: 100, evaluateEvery: 100, evaluateCells: 1 }));
      expect(weights(out)).toEqual(weights(whole));
    });
  });

  describe("broken off and resumed, the weights are the same to the bit", () => {
    const resumed = async (out: string, from: number, given: Given = {}) => {
      const [first] = await follow(start(out, { resume: true, ...given }));
      expect(first).toMatchObject({ kind: "start", from });
      expect(weights(out)).toEqual(weights(whole));
      expect(log(out)).toEqual(log(whole));
      expect(readdirSync(out).sort()).toEqual(readdirSync(whole).sort());
    };

    test("between two checkpoints", async () => {
      const out = await broken("broken");
      expect(readdirSync(out).sort()).toEqual(["checkpoint-5", "log.jsonl"]);
      expect(log(out).at(-1)?.step).toBe(7);
      await resumed(out, 5);
    });

    test("twice", async () => {
      const out = await broken("twice");
      await follow(start(out, { resume: true }), atStep(11));
      await resumed(out, 10);
    });

    test("before the first checkpoint: it begins anew", async () => {
      const out = path("early");
      await follow(start(out), atStep(3));
      await resumed(out, 0);
    });

    test("before it began", () => resumed(path("unbegun"), 0));

    test("after the weights were written but before the checkpoints were removed", async () => {
      const out = await broken("nearly");
      for (const name of ["config.json", "model.safetensors"]) cpSync(`${whole}/${name}`, `${out}/${name}`);
      await resumed(out, 5);
    });

    test("in the middle of writing a checkpoint, and of a line of the log", async () => {
      const out = await broken("partial");
      const partial = `${out}/.checkpoint-10.partial-4711-3`;
      mkdirSync(partial);
      writeFileSync(`${partial}/run.json`, "{");
      appendFileSync(`${out}/log.jsonl`, '{"step":8,"lo');
      await resumed(out, 5);
    });

    test.each([
      [1, 3], // two steps are under way when the first is told of
      [3, 4], // none goes beyond an evaluation
      [5, 5], // nor beyond a checkpoint
    ])("by Ctrl-C when step %i is told of: what is under way is done, and step %i is saved", async (told, step) => {
      const out = path(`stopped-${told}`);
      const stop = new AbortController();
      const events: Event[] = [];
      for await (const event of start(out, { signal: stop.signal })) {
        events.push(event);
        if (atStep(told)(event)) stop.abort();
      }
      expect(events.at(-1)).toEqual({ kind: "saved", step, directory: `${out}/checkpoint-${step}` });
      await resumed(out, step);
    });

    test("Ctrl-C in the last step comes too late", async () => {
      const out = path("late");
      const stop = new AbortController();
      for await (const event of start(out, { signal: stop.signal })) if (atStep(12)(event)) stop.abort();
      expect(weights(out)).toEqual(weights(whole));
      expect(readdirSync(out).sort()).toEqual(readdirSync(whole).sort());
    });

    test("with evaluations and checkpoints at other steps", async () => {
      const out = await broken("otherwise");
      await follow(start(out, { resume: true, saveEvery: 2, evaluateEvery: 3, evaluateCells: 1 }));
      expect(weights(out)).toEqual(weights(whole));
    });
  });

  describe("is refused, and the folder stays as it was:", () => {
    let out: string;
    beforeAll(async () => {
      out = await broken("refused");
    });
    const refused = async (folder: string, given: Given, message: string | RegExp) => {
      const before = readdirSync(folder, { recursive: true }).sort();
      const text = readFileSync(`${folder}/log.jsonl`, "utf8");
      await expect(follow(start(folder, given))).rejects.toThrow(message);
      expect(readdirSync(folder, { recursive: true }).sort()).toEqual(before);
      expect(readFileSync(`${folder}/log.jsonl`, "utf8")).toBe(text);
    };

    test.each<[string, Given, string]>([
      ["other steps", { steps: 13 }, "was made with steps 12, now it is 13"],
      ["another rate", { rate: 0.5 }, "was made with rate 0.01, now it is 0.5"],
      ["another seed", { seed: 1 }, "was made with seed 0, now it is 1"],
      ["another schedule", { schedule: "cosine" }, 'was made with schedule "linear", now it is "cosine"'],
      ["another budget", { tokensPerBatch: 65 }, "was made with tokensPerBatch 64, now it is 65"],
      ["another width", { config: { ...toyConfig, width: 32 } }, "was made with hidden_size 16, now it is 32"],
      ["other dropout", { config: { ...toyConfig, dropout: 0 } }, "was made with hidden_dropout_prob 0.1, now it is 0"],
    ])("%s", (_, given, what) =>
      refused(out, { resume: true, ...given }, `pretrain: "${out}/checkpoint-5" ${what}; resume with the same settings`),
    );

    test("other cells", () =>
      refused(
        out,
        { resume: true, dataset: datasetOf(toyCells(30), "other") },
        `pretrain: "${out}/checkpoint-5" was trained on other cells than "toy.dataset"; resume with the same dataset`,
      ));

    test("a run that is finished", () =>
      refused(whole, { resume: true }, `pretrain: the run in "${whole}" is finished; there is nothing to resume`));

    test("a folder that exists", () =>
      refused(out, {}, `pretrain: "${out}" exists; go on with --resume, begin anew with --force, or choose another name`));

    test("settings that make no run, even with --force", () =>
      refused(
        out,
        { force: true, tokensPerBatch: 3 },
        "pretrain: the longest cell has 13 tokens but a batch holds 3; raise --tokens-per-batch to 13 or more",
      ));

    test.each([
      ["of another format", "run.json", '{"format": 2}', / has format 2; this version reads 1$/],
      ["with half its settings", "run.json", '{"format', /run\.json" is not JSON/],
      ["with half its optimiser", "optimizer.safetensors", "0123456789", /optimizer\.safetensors: not a valid safetensors file/],
      ["with half its weights", "model.safetensors", "0123456789", /model\.safetensors: not a valid safetensors file/],
    ])("a checkpoint %s", async (name, file, content, message) => {
      const damaged = path(`damaged-${name}`);
      cpSync(out, damaged, { recursive: true });
      writeFileSync(`${damaged}/checkpoint-5/${file}`, content);
      await refused(damaged, { resume: true }, message);
    });

    test("a checkpoint without one of the optimiser's tensors", async () => {
      const damaged = path("damaged-state");
      cpSync(out, damaged, { recursive: true });
      cpSync(`${damaged}/checkpoint-5/model.safetensors`, `${damaged}/checkpoint-5/optimizer.safetensors`);
      await refused(damaged, { resume: true }, /^AdamW\.restore: "mean\.\S+" is missing in the optimiser's state$/);
    });
  });

  test("with --force a run begins anew, and nothing of the old one is left", async () => {
    const out = await broken("anew");
    const [first] = await follow(start(out, { force: true }));
    expect(first).toMatchObject({ from: 0 });
    expect([weights(out), log(out), readdirSync(out).sort()]).toEqual([weights(whole), log(whole), readdirSync(whole).sort()]);
  });
});

describe("killed with -9", () => {
  test("and resumed at the command line, the weights are those of an undisturbed run to the bit", async () => {
    const dataset = await writeToy(path("killed.dataset"), toyCells(40));
    const size = ["--layers", "1", "--width", "16", "--heads", "2", "--inner", "16"];
    const pace = [
      "--steps",
      "300",
      "--tokens-per-batch",
      "64",
      "--warmup",
      "4",
      "--save-every",
      "50",
      "--evaluate-every",
      "100",
      "--device",
      "cpu",
    ];
    const args = (name: string) => ["pretrain", dataset, ...size, ...pace, "--out", path(name)];
    const undisturbed = await geneformer(args("undisturbed"));
    expect(undisturbed.status, undisturbed.stderr).toBe(0);

    const child = spawn(process.execPath, ["--import", "tsx", "geneformer/cli.ts", ...args("killed")], {
      cwd: fileURLToPath(new URL("../..", import.meta.url)),
      stdio: "ignore",
    });
    const ended = new Promise<NodeJS.Signals | null>((resolve) => child.on("close", (_, signal) => resolve(signal)));
    const saved = () => existsSync(path("killed")) && readdirSync(path("killed")).some((name) => name.startsWith("checkpoint-"));
    while (!saved() && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 2));
    child.kill("SIGKILL");
    expect(await ended).toBe("SIGKILL");
    expect(existsSync(`${path("killed")}/model.safetensors`)).toBe(false);

    const again = await geneformer([...args("killed"), "--resume"]);
    expect(again.status, again.stderr).toBe(0);
    expect(again.stderr).toMatch(/going on from step \d+/);
    expect(weights(path("killed"))).toEqual(weights(path("undisturbed")));
    expect(log(path("killed"))).toEqual(log(path("undisturbed")));
    expect(readdirSync(path("killed")).sort()).toEqual(readdirSync(path("undisturbed")).sort());
    rmSync(path("killed"), { recursive: true });
  });
});

/** What of a run's options decides over its weights. */
function settingsOf({ saveEvery, evaluateEvery, evaluateCells, resume, force, ...rest }: RunOptions) {
  return rest;
}
