/** One number everywhere: what constants and zeros are made by, without a copy from the host. */

import { each, kernel, lanes, variants } from "./kernel.ts";

/** y[i] = value */
export const fill = variants("fill", (dtype: "f32" | "u32" | "i32") =>
  kernel({
    name: `fill ${dtype}`,
    inputs: {},
    outputs: { y: dtype },
    params: { n: "u32", value: dtype },
    passes: [{ groups: ({ n }) => lanes(n), wgsl: each("y[i] = p.value;") }],
    loops({ y }, { n, value }) {
      y.fill(value, 0, n);
    },
  }),
);
