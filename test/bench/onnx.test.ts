/** The ONNX files that are written can be read again, by a reader of protocol buffers of its own; their graphs hang together. */

import { describe, expect, test } from "vitest";
import { encoderModel, Graph, matmulModel } from "../../bench/peers/onnx.ts";
import { huggingFaceName } from "../../geneformer/checkpoint.ts";
import { presets } from "../../geneformer/config.ts";
import { Geneformer } from "../../geneformer/model.ts";
import { parameters } from "../../nn/module.ts";
import { withDevice } from "../../src/device.ts";
import { openReference } from "../../src/reference.ts";

type Message = Map<number, (bigint | Uint8Array)[]>;

/** A message of protocol buffers: fields by number (protobuf.dev/programming-guides/encoding). */
function parse(bytes: Uint8Array): Message {
  const message: Message = new Map();
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++];
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  const take = (length: number): Uint8Array => {
    expect(at + length).toBeLessThanOrEqual(bytes.length);
    at += length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    const [number, kind] = [tag >> 3, tag & 7];
    const value = kind === 0 ? varint() : kind === 5 ? take(4) : take(Number(varint()));
    message.set(number, [...(message.get(number) ?? []), value]);
  }
  return message;
}

const all = (message: Message, field: number) => message.get(field) ?? [];
const text = (value: bigint | Uint8Array) => new TextDecoder().decode(value as Uint8Array);
const inside = (message: Message, ...fields: number[]) => fields.reduce((m, field) => parse(all(m, field)[0] as Uint8Array), message);

const nodesOf = (graph: Message) =>
  all(graph, 1).map((bytes) => {
    const node = parse(bytes as Uint8Array);
    return {
      operator: text(all(node, 4)[0]),
      inputs: all(node, 1).map(text),
      outputs: all(node, 2).map(text),
      attributes: all(node, 5),
      domain: all(node, 7).map(text),
    };
  });

describe("ONNX", () => {
  test("a product: versions, inputs with their shapes, one node, one output", () => {
    const model = parse(matmulModel(2, 300, 4));
    expect(all(model, 1)).toEqual([8n]);
    expect(all(parse(all(model, 8)[0] as Uint8Array), 2)).toEqual([17n]);
    const graph = inside(model, 7);
    const values = (field: number) =>
      all(graph, field).map((bytes) => {
        const value = parse(bytes as Uint8Array);
        const tensor = inside(value, 2, 1);
        const sizes = all(inside(tensor, 2), 1).map((dim) => all(parse(dim as Uint8Array), 1)[0]);
        return [text(all(value, 1)[0]), all(tensor, 1)[0], ...sizes];
      });
    expect(values(11)).toEqual([
      ["a", 1n, 2n, 4n],
      ["b", 1n, 4n, 300n],
    ]);
    const [node] = nodesOf(graph);
    expect(node).toMatchObject({ operator: "MatMul", inputs: ["a", "b"] });
    expect(values(12)).toEqual([[node.outputs[0], 1n, 2n, 300n]]);
  });

  test("constants and attributes of every kind, negative numbers as 64 bits", () => {
    const graph = new Graph();
    const constant = graph.constant(Float32Array.of(1.5, -2), [2]);
    const given = graph.constant(BigInt64Array.of(-1n, 2n), [2]);
    const attributes = { axis: -1, perm: [0, 2, 1], epsilon: { float: 0.5 } };
    const y = graph.node("Some", [constant, given], { attributes, domain: "com.microsoft" });
    const parsed = inside(parse(graph.model(y, [])), 7);
    const tensors = all(parsed, 5).map((bytes) => parse(bytes as Uint8Array));
    expect(tensors.map((t) => all(t, 2)[0])).toEqual([1n, 7n]);
    expect([...new Float32Array((all(tensors[0], 9)[0] as Uint8Array).slice().buffer)]).toEqual([1.5, -2]);
    expect([...new BigInt64Array((all(tensors[1], 9)[0] as Uint8Array).slice().buffer)]).toEqual([-1n, 2n]);
    const [node] = nodesOf(parsed);
    expect(node.domain).toEqual(["com.microsoft"]);
    const [axis, perm, epsilon] = node.attributes.map((bytes) => parse(bytes as Uint8Array));
    expect([text(all(axis, 1)[0]), BigInt.asIntN(64, all(axis, 3)[0] as bigint), all(axis, 20)[0]]).toEqual(["axis", -1n, 2n]);
    expect([all(perm, 8), all(perm, 20)[0]]).toEqual([[0n, 2n, 1n], 7n]);
    expect([new Float32Array((all(epsilon, 2)[0] as Uint8Array).slice().buffer)[0], all(epsilon, 20)[0]]).toEqual([0.5, 1n]);
  });

  test.each([false, true])(
    "the encoder, attention fused: %s: every name that is read was made before, and nothing is left over",
    (fused) => {
      const config = { ...presets["V1-10M"], vocabulary: 20, width: 8, heads: 2, inner: 12, layers: 2, length: 10 };
      const device = openReference();
      const weights = withDevice(
        device,
        () =>
          new Map(
            [...parameters(new Geneformer(config, null))].map(([name, { shape, size }]) => [
              huggingFaceName(name),
              { shape, data: new Float32Array(size) },
            ]),
          ),
      );
      device.close();
      const graph = inside(parse(encoderModel(config, 3, 5, weights, fused)), 7);
      const constants = all(graph, 5).map((bytes) => text(all(parse(bytes as Uint8Array), 8)[0]));
      const known = new Set([...constants, "tokens"]);
      const read = new Set<string>();
      const nodes = nodesOf(graph);
      for (const { inputs, outputs } of nodes) {
        for (const name of inputs) {
          expect(known, name).toContain(name);
          read.add(name);
        }
        known.add(outputs[0]);
      }
      expect([...known].filter((name) => !read.has(name))).toEqual([nodes.at(-1)?.outputs[0]]);
      const count = (operator: string) => nodes.filter((node) => node.operator === operator).length;
      expect([count("LayerNormalization"), count("Relu"), count("Softmax"), count("MultiHeadAttention")]).toEqual([
        5,
        2,
        fused ? 0 : 2,
        fused ? 2 : 0,
      ]);
      expect(count("MatMul")).toBe(2 * (fused ? 6 : 8));
    },
  );
});
