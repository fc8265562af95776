/** The little of other libraries that the bench calls, so that it type-checks where they are not installed. */

declare module "onnxruntime-common" {
  export interface Value {
    readonly data: Float32Array;
  }
  export interface Session {
    run(feeds: Readonly<Record<string, Value>>): Promise<Readonly<Record<string, Value>>>;
    release(): Promise<void>;
  }
  export interface SessionOptions {
    readonly executionProviders?: readonly string[];
    readonly graphOptimizationLevel?: "all";
    readonly intraOpNumThreads?: number;
    readonly interOpNumThreads?: number;
  }
  export const InferenceSession: { create(model: Uint8Array, options: SessionOptions): Promise<Session> };
  export const Tensor: new (type: "float32" | "int32", data: Float32Array | Int32Array, dims: readonly number[]) => Value;
  export const env: {
    readonly versions: { readonly common: string };
    logLevel: string;
    readonly wasm: { numThreads?: number; wasmPaths?: string };
  };
}

declare module "onnxruntime-node" {
  export * from "onnxruntime-common";
}

declare module "onnxruntime-web" {
  export * from "onnxruntime-common";
}

declare module "onnxruntime-web/webgpu" {
  export * from "onnxruntime-common";
}

declare module "@tensorflow/tfjs" {
  export interface Tensor {
    readonly shape: number[];
    data(): Promise<Float32Array>;
    dispose(): void;
  }
  export interface Variable extends Tensor {
    readonly name: string;
    assign(value: Tensor): void;
  }
  type Gradients = Readonly<Record<string, Tensor>>;
  export type Save = (tensors: readonly Tensor[]) => void;
  interface Tf {
    readonly version: Readonly<Record<string, string>>;
    setBackend(name: string): Promise<boolean>;
    ready(): Promise<void>;
    getBackend(): string;
    tidy<T>(f: () => T): T;
    keep<T extends Tensor>(x: T): T;
    dispose(x: Tensor | Gradients): void;
    tensor(values: Float32Array | Int32Array, shape?: readonly number[], dtype?: "float32" | "int32"): Tensor;
    variable(initial: Tensor, trainable: boolean, name: string): Variable;
    variableGrads(f: () => Tensor, variables?: readonly Variable[]): { readonly value: Tensor; readonly grads: Gradients };
    customGrad(
      f: (...args: [...Tensor[], Save]) => {
        readonly value: Tensor;
        readonly gradFunc: (dy: Tensor, saved: readonly Tensor[]) => Tensor | Tensor[];
      },
    ): (...args: Tensor[]) => Tensor;
    matMul(a: Tensor, b: Tensor, transposeA?: boolean, transposeB?: boolean): Tensor;
    add(a: Tensor, b: Tensor | number): Tensor;
    sub(a: Tensor, b: Tensor | number): Tensor;
    mul(a: Tensor, b: Tensor | number): Tensor;
    square(x: Tensor): Tensor;
    rsqrt(x: Tensor): Tensor;
    sqrt(x: Tensor): Tensor;
    neg(x: Tensor): Tensor;
    relu(x: Tensor): Tensor;
    sum(x: Tensor, axis?: number): Tensor;
    mean(x: Tensor, axis?: number, keepDims?: boolean): Tensor;
    softmax(x: Tensor): Tensor;
    logSoftmax(x: Tensor): Tensor;
    gather(x: Tensor, indices: Tensor): Tensor;
    scatterND(indices: Tensor, updates: Tensor, shape: readonly number[]): Tensor;
    slice(x: Tensor, begin: readonly number[], size: readonly number[]): Tensor;
    oneHot(indices: Tensor, depth: number): Tensor;
    cast(x: Tensor, dtype: "float32"): Tensor;
    unstack(x: Tensor): Tensor[];
    stack(x: readonly Tensor[]): Tensor;
    reshape(x: Tensor, shape: readonly number[]): Tensor;
    transpose(x: Tensor, order: readonly number[]): Tensor;
    readonly train: { adam(rate: number, beta1: number, beta2: number, epsilon: number): { applyGradients(grads: Gradients): void } };
  }
  /** What a bundler sees are the names themselves; Node sees a CommonJS module, whose names are those of its default export. */
  const tf: Tf;
  export default tf;
}

declare module "@tensorflow/tfjs-backend-wasm" {
  export const setWasmPaths: (folder: string) => void;
  export const setThreadsCount: (count: number) => void;
}

declare module "@tensorflow/tfjs-backend-webgpu" {
  export const version_webgpu: string;
}

declare module "@jax-js/jax" {
  /** Passing an array on gives it away; `ref` keeps it. */
  export interface Array {
    readonly ref: this;
    readonly shape: number[];
    add(other: Array | number): Array;
    sub(other: Array | number): Array;
    mul(other: Array | number): Array;
    div(other: Array | number): Array;
    neg(): Array;
    sum(axis?: number): Array;
    reshape(shape: readonly number[]): Array;
    transpose(order?: readonly number[]): Array;
    slice(range: readonly [from: number, to: number]): Array;
    data(): Promise<Float32Array>;
    dispose(): void;
  }
  export type Arrays = Record<string, Array>;
  export const init: (...devices: string[]) => Promise<string[]>;
  export const defaultDevice: (device: string) => string;
  export const numpy: {
    readonly int32: string;
    array(values: Float32Array | Int32Array | number, options?: { readonly dtype?: string }): Array;
    matmul(a: Array, b: Array): Array;
    mean(x: Array, axis: number, options: { readonly keepdims: boolean }): Array;
    square(x: Array): Array;
    sqrt(x: Array): Array;
    take(x: Array, indices: Array, axis: number): Array;
  };
  export const nn: {
    relu(x: Array): Array;
    logSoftmax(x: Array, axis: number): Array;
    oneHot(x: Array, classes: number): Array;
    dotProductAttention(q: Array, k: Array, v: Array): Array;
  };
  export const valueAndGrad: <A extends readonly unknown[]>(
    f: (weights: Arrays, ...rest: A) => Array,
  ) => (weights: Arrays, ...rest: A) => [Array, Arrays];
  export const jit: <A extends readonly unknown[], R>(f: (...args: A) => R) => (...args: A) => R;
  export const blockUntilReady: <T>(x: T) => Promise<T>;
}
