/** `geneformer inspect`: the inside of a forward pass, as safetensors. */

import { InvalidArgumentError } from "commander";
import { writeSafetensors } from "../../nn/safetensors.ts";
import { readModel } from "../checkpoint.ts";
import { readText, refuseOverwrite, writeWhole } from "../files.ts";
import { type Inside, insides, inspect, parseLines } from "../inspect.ts";
import { type Define, device, examples, force, out } from "./command.ts";
import { type DeviceOptions, openDevice } from "./model.ts";

interface Options extends DeviceOptions {
  model: string;
  tokens: string;
  what: ReadonlySet<Inside>;
  out: string;
  force: boolean;
}

function parts(text: string): ReadonlySet<Inside> {
  const given = text.split(",").map((part) => part.trim());
  const unknown = given.find((part) => !(insides as readonly string[]).includes(part));
  if (unknown !== undefined) throw new InvalidArgumentError(`There is no "${unknown}"; give some of ${insides.join(",")}.`);
  return new Set(given as Inside[]);
}

export const command: Define = (program, context) => {
  program
    .requiredOption("--model <folder>", "config.json and model.safetensors, as Hugging Face keeps them")
    .requiredOption("--tokens <file.jsonl>", 'one cell a line: {"input_ids": [...], "labels": [...]}; labels are optional, -100 is ignored')
    .option("--what <parts>", `some of ${insides.join(",")}`, parts, new Set<Inside>(["hidden"]))
    .addOption(device())
    .addOption(out("hidden.{layer}.{line}, attention.{layer}.{line}, logits.{line}, loss, gradient.{name}", "--out <file.safetensors>"))
    .addOption(force())
    .addHelpText(
      "after",
      examples(
        "inspect --model run --tokens cells.jsonl --what hidden,attention --out inside.safetensors",
        "inspect --model run --tokens labelled.jsonl --what loss,gradients --out gradients.safetensors",
      ),
    )
    .action(async (options: Options) => {
      await refuseOverwrite(options.out, options.force);
      const lines = parseLines(await readText(options.tokens), options.tokens);
      const on = await openDevice(options, context);
      const needsHead = ["logits", "loss", "gradients"].some((part) => options.what.has(part as Inside));
      const model = await readModel(options.model, { encoderOnly: !needsHead });
      const tensors = await inspect(model, lines, options.what);
      await writeWhole(options.out, writeSafetensors(tensors), options);
      const loss = tensors.find(([name]) => name === "loss")?.[1].data[0];
      context.report(
        { out: options.out, lines: lines.length, tensors: tensors.length, ...(loss !== undefined && { loss }) },
        `${tensors.length} tensors of ${lines.length} cells${loss === undefined ? "" : `, loss ${loss}`}`,
        `wrote ${options.out}`,
      );
      on.close();
    });
};
