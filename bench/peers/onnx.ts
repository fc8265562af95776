/** Models as onnxruntime reads them: the few messages of onnx.proto3 that a graph takes, written by hand, and our encoder as such a graph. */

import type { Config } from "../../geneformer/config.ts";

// ---- protocol buffers ----------------------------------------------------------------------

/** A field of a message: numbers are varints, texts and bytes are preceded by their length, a list repeats the field. */
type Field = readonly [number: number, value: Value | readonly Value[]];
type Value = number | bigint | string | Uint8Array | Single;

/** A number that is written as a 32-bit float. */
class Single {
  readonly value: number;
  constructor(value: number) {
    this.value = value;
  }
}

const [VARINT, BYTES, FIXED32] = [0, 2, 5];

/** Seven bits a byte, the lowest first; all but the last have their top bit set. Negative numbers as 64 bits of two's complement. */
function varint(value: number | bigint): number[] {
  let rest = BigInt.asUintN(64, BigInt(value));
  const bytes: number[] = [];
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  return [...bytes, Number(rest)];
}

/** A message (protobuf.dev/programming-guides/encoding): its fields, one after the other. */
function message(...fields: readonly Field[]): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const [number, given] of fields)
    for (const value of Array.isArray(given) ? (given as readonly Value[]) : [given as Value]) {
      const tag = (kind: number) => varint((number << 3) | kind);
      if (value instanceof Single) parts.push(Uint8Array.from(tag(FIXED32)), new Uint8Array(Float32Array.of(value.value).buffer));
      else if (typeof value === "number" || typeof value === "bigint") parts.push(Uint8Array.from([...tag(VARINT), ...varint(value)]));
      else {
        const bytes = typeof value === "string" ? new TextEncoder().encode(value) : value;
        parts.push(Uint8Array.from([...tag(BYTES), ...varint(bytes.length)]), bytes);
      }
    }
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

// ---- graphs --------------------------------------------------------------------------------

/** TensorProto.DataType. */
const TYPES = { f32: 1, i32: 6, i64: 7 } as const;
type Type = keyof typeof TYPES;

/** A float attribute is given as { float }: 1 and 1.0 are one number in JavaScript. */
type Attribute = number | readonly number[] | { readonly float: number };

/** What makes a node more than an operator of ONNX itself. */
interface NodeOptions {
  readonly attributes?: Readonly<Record<string, Attribute>>;
  /** Whose operator it is: onnxruntime's own are "com.microsoft". */
  readonly domain?: string;
}

/** IR version 8 goes with opset 17 (onnx/docs/Versioning.md), the first that has LayerNormalization. */
const [IR, OPSET] = [8, 17];

/** A graph that is written down as it is made: every method gives the name of a value, to be used by the next. */
export class Graph {
  readonly #nodes: Uint8Array[] = [];
  readonly #constants: Uint8Array[] = [];
  readonly #inputs: Uint8Array[] = [];
  #names = 0;

  input(name: string, type: Type, shape: readonly number[]): string {
    this.#inputs.push(described(name, type, shape));
    return name;
  }

  constant(values: Float32Array | Int32Array | BigInt64Array, shape: readonly number[]): string {
    const type: Type = values instanceof Float32Array ? "f32" : values instanceof Int32Array ? "i32" : "i64";
    const raw = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const name = this.#fresh("constant");
    this.#constants.push(message([1, shape], [2, TYPES[type]], [8, name], [9, raw]));
    return name;
  }

  node(operator: string, inputs: readonly string[], { attributes = {}, domain = "" }: NodeOptions = {}): string {
    const name = this.#fresh(operator);
    this.#nodes.push(
      message([1, inputs], [2, name], [3, name], [4, operator], [5, Object.entries(attributes).map(attribute)], [7, domain]),
    );
    return name;
  }

  /** The file, with one output. */
  model(output: string, shape: readonly number[]): Uint8Array {
    const graph = message([1, this.#nodes], [2, "graph"], [5, this.#constants], [11, this.#inputs], [12, described(output, "f32", shape)]);
    const opsets = [message([1, ""], [2, OPSET]), message([1, "com.microsoft"], [2, 1])];
    return message([1, IR], [2, "geneformer-ts bench"], [7, graph], [8, opsets]);
  }

  #fresh(word: string): string {
    return `${word}_${this.#names++}`;
  }
}

/** A ValueInfoProto. */
const described = (name: string, type: Type, shape: readonly number[]): Uint8Array => {
  const sizes = message([1, shape.map((size) => message([1, size]))]);
  return message([1, name], [2, message([1, message([1, TYPES[type]], [2, sizes])])]);
};

/** An AttributeProto; its type is FLOAT 1, INT 2 or INTS 7. */
const attribute = ([name, value]: readonly [string, Attribute]): Uint8Array => {
  if (typeof value === "number") return message([1, name], [3, value], [20, 2]);
  if ("float" in value) return message([1, name], [2, new Single(value.float)], [20, 1]);
  return message([1, name], [8, value], [20, 7]);
};

// ---- our models ----------------------------------------------------------------------------

/** c = a b */
export function matmulModel(m: number, n: number, k: number): Uint8Array {
  const graph = new Graph();
  return graph.model(graph.node("MatMul", [graph.input("a", "f32", [m, k]), graph.input("b", "f32", [k, n])]), [m, n]);
}

/** Attention of one sequence.   q, k, v [length, heads * width] */
export function attentionModel(length: number, heads: number, width: number): Uint8Array {
  const graph = new Graph();
  const shape = [length, heads * width];
  const [q, k, v] = ["q", "k", "v"].map((name) => graph.input(name, "f32", shape));
  return graph.model(attend(graph, q, k, v, [1, length, heads, width], shape), shape);
}

/** Softmax(q k^T / sqrt(D)) v from the operators of ONNX, as exporters write it. */
function attend(graph: Graph, q: string, k: string, v: string, shape: readonly number[], out: readonly number[]): string {
  const split = graph.constant(BigInt64Array.from(shape, BigInt), [4]);
  const heads = (x: string, perm: readonly number[]) =>
    graph.node("Transpose", [graph.node("Reshape", [x, split])], { attributes: { perm } });
  const scores = graph.node("MatMul", [heads(q, [0, 2, 1, 3]), heads(k, [0, 2, 3, 1])]);
  const scaled = graph.node("Div", [scores, graph.constant(Float32Array.of(Math.sqrt(shape[3])), [])]);
  const mixed = graph.node("MatMul", [graph.node("Softmax", [scaled], { attributes: { axis: -1 } }), heads(v, [0, 2, 1, 3])]);
  const joined = graph.node("Transpose", [mixed], { attributes: { perm: [0, 2, 1, 3] } });
  return graph.node("Reshape", [joined, graph.constant(BigInt64Array.from(out, BigInt), [out.length])]);
}

export type Weights = ReadonlyMap<string, { readonly shape: readonly number[]; readonly data: Float32Array }>;

/**
 * The encoder of a BERT: tokens i32 [cells, length] to hidden states [cells, length, C].
 * @param weights under Hugging Face's names.   @param fused let onnxruntime's own MultiHeadAttention do the attention.
 */
export function encoderModel(config: Config, cells: number, length: number, weights: Weights, fused: boolean): Uint8Array {
  const graph = new Graph();
  const { width, heads, eps } = config;
  const shape = [cells, length, width];
  const weight = (name: string) => {
    const found = weights.get(name);
    if (!found) throw new Error(`encoderModel: there is no weight "${name}"`);
    return found;
  };
  const constant = (name: string) => graph.constant(weight(name).data, weight(name).shape);
  const add = (a: string, b: string) => graph.node("Add", [a, b]);
  const norm = (x: string, name: string) =>
    graph.node("LayerNormalization", [x, constant(`${name}.weight`), constant(`${name}.bias`)], {
      attributes: { axis: -1, epsilon: { float: eps } },
    });
  const linear = (x: string, name: string) => {
    const { shape, data } = weight(`${name}.weight`);
    const table = graph.constant(transposed(data, shape[0], shape[1]), [shape[1], shape[0]]);
    return add(graph.node("MatMul", [x, table]), constant(`${name}.bias`));
  };

  const embeddings = "bert.embeddings";
  const tokens = graph.input("tokens", "i32", [cells, length]);
  const genes = graph.node("Gather", [constant(`${embeddings}.word_embeddings.weight`), tokens]);
  const ranks = weight(`${embeddings}.position_embeddings.weight`).data.slice(0, length * width);
  const type = weight(`${embeddings}.token_type_embeddings.weight`).data.slice(0, width);
  const placed = ranks.map((value, i) => value + type[i % width]); // one sum of two constants, as any optimizer would fold it
  let x = norm(add(genes, graph.constant(placed, [length, width])), `${embeddings}.LayerNorm`);
  for (let i = 0; i < config.layers; i++) {
    const layer = `bert.encoder.layer.${i}`;
    const [q, k, v] = ["query", "key", "value"].map((part) => linear(x, `${layer}.attention.self.${part}`));
    const mixed = fused
      ? graph.node("MultiHeadAttention", [q, k, v], { attributes: { num_heads: heads }, domain: "com.microsoft" })
      : attend(graph, q, k, v, [cells, length, heads, width / heads], shape);
    const half = norm(add(linear(mixed, `${layer}.attention.output.dense`), x), `${layer}.attention.output.LayerNorm`);
    const wide = graph.node("Relu", [linear(half, `${layer}.intermediate.dense`)]);
    x = norm(add(linear(wide, `${layer}.output.dense`), half), `${layer}.output.LayerNorm`);
  }
  return graph.model(x, shape);
}

function transposed(values: Float32Array, rows: number, cols: number): Float32Array {
  const turned = new Float32Array(values.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < cols; j++) turned[j * rows + i] = values[i * cols + j];
  return turned;
}
