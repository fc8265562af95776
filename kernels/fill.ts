/** One number everywhere: what constants and zeros are made by, without a copy from the host. */

import { DTYPES } from "./cast.ts";
import { each, kernel, lanes, variants } from "./kernel.ts";

/** y[i] = value */
export const fill = variants("fill", (dtype: "f32" | "u32" | "i32") =>
  kernel({
    name: `fill ${dtype}`,
    inputs: {},
    outputs: { y: dtype },
    params: { n: "u32", value: dtype },
    passes: [{ groups: ({ n }) => lanes(n), wgsl: each("y[i] = p.value;") }],
    compiled: { name: "fill", buffers: ["y"], constants: [DTYPES.indexOf(dtype)], split: () => ({ over: "n", strides: [1], work: 1 }) },
    loops({ y }, { n, value }) {
      y.fill(value, 0, n);
    },
  }),
);
