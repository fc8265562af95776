/** What a model is made of: its sizes, with the published ones as presets, and Hugging Face's config.json. */

export interface Config {
  /** Tokens, V: genes and the special ones. */
  readonly vocabulary: number;
  /** Embedding size, C. */
  readonly width: number;
  readonly layers: number;
  /** Attention heads, H; width must divide by it. */
  readonly heads: number;
  /** Width of the feed-forward layer, F. */
  readonly inner: number;
  /** Longest cell, in tokens. */
  readonly length: number;
  /** The feed-forward layer's nonlinearity, and the head's. */
  readonly activation: "relu" | "gelu";
  /** Dropout after embeddings, attention and feed-forward layers, and of attention weights. */
  readonly dropout: number;
  readonly attentionDropout: number;
  /** Added to the variance in layer norms. */
  readonly eps: number;
  /** Deviation of the initial weights. */
  readonly deviation: number;
}

const common = { activation: "relu", eps: 1e-12, deviation: 0.02 } as const;
const V1 = { ...common, vocabulary: 25426, dropout: 0.02, attentionDropout: 0.02 };
const V2 = { ...common, vocabulary: 20275, length: 4096, dropout: 0.1, attentionDropout: 0.1 };
const I4096 = { ...V2, dropout: 0.02, attentionDropout: 0.02 };

/** The published checkpoints (their config.json; heads and inner width of 20L-151M follow from 64 a head and its parameter count). */
export const presets = {
  "V1-10M": { ...V1, layers: 6, width: 256, heads: 4, inner: 512, length: 2048 },
  "V1-12L-40M": { ...V1, layers: 12, width: 512, heads: 8, inner: 1024, length: 2048 },
  "V2-12L-38M": { ...I4096, layers: 12, width: 512, heads: 8, inner: 1024 },
  "V2-20L-151M": { ...I4096, layers: 20, width: 896, heads: 14, inner: 1792 },
  "V2-104M": { ...V2, layers: 12, width: 768, heads: 12, inner: 3072 },
  "V2-104M-CLcancer": { ...V2, layers: 12, width: 768, heads: 12, inner: 3072 },
  "V2-316M": { ...V2, layers: 18, width: 1152, heads: 18, inner: 4608 },
} satisfies Record<string, Config>;

export type Preset = keyof typeof presets;

/** @throws RangeError naming the presets there are. */
export function preset(name: string): Config {
  if (!Object.hasOwn(presets, name))
    throw new RangeError(`preset(name): there is no "${name}"; give one of ${Object.keys(presets).join(", ")}`);
  return presets[name as Preset];
}

/** @throws RangeError for sizes that make no model, naming the field. */
export function checkConfig(config: Config, where = "config"): Config {
  for (const [field, value] of Object.entries(config))
    if (field !== "activation" && (typeof value !== "number" || !Number.isFinite(value)))
      throw new RangeError(`${where}: ${field} must be a number; got ${JSON.stringify(value)}`);
  for (const field of ["vocabulary", "width", "layers", "heads", "inner", "length"] as const)
    if (!Number.isInteger(config[field]) || config[field] < 1)
      throw new RangeError(`${where}: ${field} must be a positive integer; got ${config[field]}`);
  if (config.width % config.heads !== 0) throw new RangeError(`${where}: width ${config.width} does not divide into ${config.heads} heads`);
  for (const field of ["dropout", "attentionDropout"] as const)
    if (!(config[field] >= 0 && config[field] < 1)) throw new RangeError(`${where}: ${field} must lie in [0, 1); got ${config[field]}`);
  if (config.activation !== "relu" && config.activation !== "gelu")
    throw new RangeError(`${where}: activation must be relu or gelu; got ${JSON.stringify(config.activation)}`);
  if (!(config.deviation >= 0)) throw new RangeError(`${where}: deviation must be 0 or more; got ${config.deviation}`);
  if (!(config.eps > 0)) throw new RangeError(`${where}: eps must be positive; got ${config.eps}`);
  return config;
}

/** Names of the fields in Hugging Face's config.json. */
const FIELDS = {
  vocabulary: "vocab_size",
  width: "hidden_size",
  layers: "num_hidden_layers",
  heads: "num_attention_heads",
  inner: "intermediate_size",
  length: "max_position_embeddings",
  activation: "hidden_act",
  dropout: "hidden_dropout_prob",
  attentionDropout: "attention_probs_dropout_prob",
  eps: "layer_norm_eps",
  deviation: "initializer_range",
} as const satisfies Record<keyof Config, string>;

/** What BertConfig assumes where config.json is silent (transformers, configuration_bert.py). */
const ASSUMED = {
  hidden_act: "gelu",
  hidden_dropout_prob: 0.1,
  attention_probs_dropout_prob: 0.1,
  layer_norm_eps: 1e-12,
  initializer_range: 0.02,
};

/** Read a parsed config.json. @throws RangeError for a model that is not a BERT with absolute positions, or for sizes that make none. */
export function configFromHuggingFace(json: unknown, where = "config.json"): Config {
  if (json === null || typeof json !== "object") throw new RangeError(`${where}: is not a JSON object`);
  const given: Record<string, unknown> = { ...ASSUMED, ...json };
  if (given.model_type !== undefined && given.model_type !== "bert")
    throw new RangeError(`${where}: model_type is ${JSON.stringify(given.model_type)}; Geneformer is a "bert"`);
  if ((given.position_embedding_type ?? "absolute") !== "absolute")
    throw new RangeError(
      `${where}: position_embedding_type is ${JSON.stringify(given.position_embedding_type)}; only "absolute" is supported`,
    );
  for (const [ours, theirs] of Object.entries(FIELDS))
    if (given[theirs] === undefined) throw new RangeError(`${where}: "${theirs}" (${ours}) is missing`);
  return checkConfig(Object.fromEntries(Object.entries(FIELDS).map(([ours, theirs]) => [ours, given[theirs]])) as unknown as Config, where);
}

/** The config.json of a masked language model, as Hugging Face writes it. */
export const configToHuggingFace = (config: Config): Record<string, unknown> => ({
  architectures: ["BertForMaskedLM"],
  model_type: "bert",
  ...Object.fromEntries(Object.entries(FIELDS).map(([ours, theirs]) => [theirs, config[ours as keyof Config]])),
  type_vocab_size: 2,
  pad_token_id: 0,
  position_embedding_type: "absolute",
});
