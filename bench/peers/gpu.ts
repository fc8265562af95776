/** gpu.js as a contender: matrix products in the fastest of its modes that this machine has. */

import { type Contender, type Job, refuse } from "./task.ts";

/** Its source as text: a compiler before it might rename what gpu.js has to read. */
const PRODUCT = `function (a, b) {
  let sum = 0;
  for (let i = 0; i < this.constants.k; i++) sum += a[this.thread.y][i] * b[i][this.thread.x];
  return sum;
}`;

/** From what runs on a graphics card down to plain JavaScript. */
const MODES = ["webgpu", "headlessgl", "webasm", "cpu"] as const;

export async function openGpu({ task, inputs }: Job): Promise<Contender> {
  if (task.kind !== "matmul") return refuse("gpu.js", task);
  const { GPU, Input } = await import("gpu.js");
  const { m, n, k } = task;
  const failed: string[] = [];
  for (const mode of MODES) {
    try {
      const gpu = new GPU({ mode: mode as "cpu" }); // its types do not know its newer modes
      const kernel = gpu.createKernel(PRODUCT as unknown as () => number, { output: [n, m], constants: { k } });
      const [a, b] = [new Input(inputs.a as unknown as number[], [k, m]), new Input(inputs.b as unknown as number[], [n, k])];
      const once = async () => (await (kernel as unknown as (...given: unknown[]) => unknown)(a, b)) as Float32Array[];
      await once();
      return {
        description: `gpu.js, mode ${mode}${failed.length > 0 ? ` (not: ${failed.join("; ")})` : ""}`,
        async run() {
          await once();
        },
        async result() {
          const y = new Float32Array(m * n);
          (await once()).forEach((row, i) => {
            y.set(row, i * n);
          });
          return { y };
        },
      };
    } catch (error) {
      failed.push(`${mode}: ${(error as Error).message.split("\n")[0].slice(0, 80)}`);
    }
  }
  throw new Error(`gpu.js: no mode works: ${failed.join("; ")}`);
}
