/** The cpu device: WebAssembly memory, the kernels compiled from AssemblyScript, and the loops of those that have none. */

import { arrayOf, bytesOf, type Dtype, type Kernel, type Values } from "../kernels/kernel.ts";
import type { Device, Memory } from "./device.ts";
import { Pool, sizeClass } from "./pool.ts";

interface Region extends Memory {
  readonly address: number;
}

type Compiled = (...args: number[]) => void;

/** A WebAssembly page, bytes (WebAssembly 2.0, 2.5.5). */
const PAGE = 65536;
/** The most pages a 32-bit memory may have: 4 GiB. */
const MOST_PAGES = 65536;
/** What a vector load likes best, bytes. */
const ALIGNMENT = 16;

/** The event loop gets a turn at a read so often, ms: work done in place would leave timers and signals unheard. */
const TURN = 100;

let compiling: Promise<WebAssembly.Module> | null = null;

/** The compiled kernels, beside this file's folder: found by bundlers through `new URL`. */
function kernels(): Promise<WebAssembly.Module> {
  compiling ??= (async () => {
    const url = new URL("../kernels/cpu/kernels.wasm", import.meta.url);
    if (url.protocol !== "file:") return WebAssembly.compile(await (await fetch(url)).arrayBuffer());
    const { readFile } = await import("node:fs/promises");
    const bytes = await readFile(url).catch(() => {
      throw new Error("cpu: kernels/cpu/kernels.wasm is missing; run npm run build");
    });
    return WebAssembly.compile(new Uint8Array(bytes));
  })();
  return compiling;
}

/** Open the cpu device: its own memory, which grows as it is asked to, up to 4 GiB. */
export async function openCpu(): Promise<Device> {
  const memory = new WebAssembly.Memory({ initial: 64, maximum: MOST_PAGES });
  const { exports } = await WebAssembly.instantiate(await kernels(), { env: { memory, abort: () => {} } });
  const compiled = exports as unknown as Record<string, Compiled> & { heapBase(): number };
  let top = Math.ceil(compiled.heapBase() / ALIGNMENT) * ALIGNMENT;

  /** Some pages more, and a quarter of what there is if it can be had: growing moves nothing, but takes time. */
  const grow = (missing: number): boolean => {
    const pages = memory.buffer.byteLength / PAGE;
    for (const more of [Math.min(Math.max(missing, pages >> 2), MOST_PAGES - pages), missing]) {
      if (more < missing) continue;
      try {
        memory.grow(more);
        return true;
      } catch {} // the next is smaller
    }
    return false;
  };

  const pool = new Pool<number>((bytes) => {
    const pages = memory.buffer.byteLength / PAGE;
    const missing = Math.ceil((top + bytes) / PAGE) - pages;
    if (missing > 0 && !grow(missing)) {
      const mib = (n: number) => `${Math.ceil(n / 2 ** 20).toLocaleString("en-US")} MiB`;
      throw new RangeError(
        `cpu: out of memory; asked for ${mib(bytes)} with ${mib(pool.live)} held of the ${mib(MOST_PAGES * PAGE)} there can be; use smaller batches, or --device webgpu`,
      );
    }
    const address = top;
    top += bytes;
    return address;
  });

  let turned = performance.now();
  const view = ({ dtype, address, length }: Region): Values => arrayOf(dtype, memory.buffer, address, length);

  const allocate = (dtype: Dtype, length: number): Region => ({ dtype, length, address: pool.take(bytesOf(dtype, length)) });

  return {
    name: "cpu",
    description: "WebAssembly SIMD, one thread",
    memory: pool,
    allocate,
    free: (region) => pool.give((region as Region).address),
    upload: (to, values) => view(to as Region).set(values),
    run(kernel: Kernel, buffers, params) {
      const made = kernel.compiled;
      if (!made) {
        kernel.loops(Object.fromEntries(Object.entries(buffers).map(([name, region]) => [name, view(region as Region)])), params);
        return;
      }
      const addresses = made.buffers.map((name) => (name === null ? 0 : (buffers[name] as Region).address));
      const numbers = [...Object.keys(kernel.params).map((name) => params[name]), ...(made.constants ?? [])];
      if (!made.scratch) {
        compiled[made.name](...addresses, ...numbers);
        return;
      }
      const bytes = sizeClass(made.scratch(params));
      const scratch = pool.take(bytes);
      try {
        compiled[made.name](...addresses, scratch, ...numbers);
      } finally {
        pool.give(scratch);
      }
    },
    async read(region): Promise<Values> {
      if (performance.now() - turned > TURN) {
        await new Promise((turn) => setTimeout(turn));
        turned = performance.now();
      }
      return view(region as Region).slice();
    },
    close() {},
  };
}
