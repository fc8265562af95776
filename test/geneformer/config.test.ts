/** Configurations: presets as published, config.json there and back, and sizes that make no model named. */

import { describe, expect, test } from "vitest";
import { checkConfig, configFromHuggingFace, configToHuggingFace, preset, presets } from "../../geneformer/config.ts";

describe("presets", () => {
  test.each(Object.entries(presets))("%s makes a model, with heads of 64", (name, config) => {
    expect(checkConfig(config)).toBe(config);
    expect(config.width / config.heads).toBe(64);
    expect(preset(name)).toBe(config);
  });

  test("an unknown one names those there are", () => {
    expect(() => preset("V3")).toThrow(/^preset\(name\): there is no "V3"; give one of V1-10M, .*V2-316M/);
    expect(() => preset("toString")).toThrow('there is no "toString"');
  });
});

describe("config.json", () => {
  test.each(Object.entries(presets))("%s comes back", (_, config) => {
    expect(configFromHuggingFace(JSON.parse(JSON.stringify(configToHuggingFace(config))))).toEqual(config);
  });

  test("what it is silent on is as BertConfig assumes", () => {
    const least = {
      vocab_size: 10,
      hidden_size: 8,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      intermediate_size: 4,
      max_position_embeddings: 16,
    };
    expect(configFromHuggingFace(least)).toEqual({
      vocabulary: 10,
      width: 8,
      layers: 1,
      heads: 2,
      inner: 4,
      length: 16,
      activation: "gelu",
      dropout: 0.1,
      attentionDropout: 0.1,
      eps: 1e-12,
      deviation: 0.02,
    });
  });

  const whole = configToHuggingFace(presets["V1-10M"]);
  test.each<[string, unknown, string]>([
    ["no object", 3, "config.json: is not a JSON object"],
    ["null", null, "config.json: is not a JSON object"],
    ["another model", { ...whole, model_type: "roberta" }, 'config.json: model_type is "roberta"; Geneformer is a "bert"'],
    [
      "relative positions",
      { ...whole, position_embedding_type: "relative_key" },
      'config.json: position_embedding_type is "relative_key"; only "absolute" is supported',
    ],
    ["a missing size", { ...whole, hidden_size: undefined }, 'config.json: "hidden_size" (width) is missing'],
    ["a size of nothing", { ...whole, num_hidden_layers: 0 }, "config.json: layers must be a positive integer; got 0"],
    ["a size that is text", { ...whole, vocab_size: "10" }, 'config.json: vocabulary must be a number; got "10"'],
    ["heads that do not divide", { ...whole, num_attention_heads: 3 }, "config.json: width 256 does not divide into 3 heads"],
    ["dropout of all", { ...whole, hidden_dropout_prob: 1 }, "config.json: dropout must lie in [0, 1); got 1"],
    ["another activation", { ...whole, hidden_act: "swish" }, 'config.json: activation must be relu or gelu; got "swish"'],
    ["no eps", { ...whole, layer_norm_eps: 0 }, "config.json: eps must be positive; got 0"],
  ])("%s is named", (_, json, message) => {
    expect(() => configFromHuggingFace(json)).toThrow(new RangeError(message));
  });
});
