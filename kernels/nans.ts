/** How many NaNs there are in a tensor: what detectAnomaly asks after every op. */

import { kernel, LANES } from "./kernel.ts";

/** counts[slot] = the number of NaNs in x, told by their bits: a compiler may take x != x for false (WGSL, 15.7.2). */
export const nans = kernel({
  name: "nans",
  inputs: { x: "f32" },
  outputs: { counts: "u32" },
  params: { n: "u32", slot: "u32" },
  passes: [
    {
      groups: () => 1,
      wgsl: /* wgsl */ `
var<workgroup> found: array<u32, ${LANES}>;
@compute @workgroup_size(${LANES})
fn main(@builtin(local_invocation_index) lane: u32) {
  var count = 0u;
  for (var i = lane; i < p.n; i += ${LANES}u) { count += select(0u, 1u, (bitcast<u32>(x[i]) & 0x7fffffffu) > 0x7f800000u); }
  found[lane] = count;
  workgroupBarrier();
  if (lane == 0u) {
    for (var other = 1u; other < ${LANES}u; other++) { count += found[other]; }
    counts[p.slot] = count;
  }
}`,
    },
  ],
  compiled: { name: "nans", buffers: ["x", "counts"] },
  loops({ x, counts }, { n, slot }) {
    let count = 0;
    for (let i = 0; i < n; i++) if (Number.isNaN(x[i])) count++;
    counts[slot] = count;
  },
});
