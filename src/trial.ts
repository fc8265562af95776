/** The program of a process that runs one kernel once: what it is to do comes on stdin, what came of it goes to stdout, both as JSON, numbers in base64. */

/** JavaScript for `node --eval`: it imports nothing of ours, so that it runs wherever the package `webgpu` does. */
export const PROGRAM = /* js */ `
let text = "";
for await (const part of process.stdin) text += part;
const { webgpu, flags, features, uniform, buffers, outputs, passes } = JSON.parse(text);
const { create, globals } = await import(webgpu);
Object.assign(globalThis, globals);
const gpu = create(flags);
const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
const { maxComputeWorkgroupStorageSize, maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX, maxStorageBuffersPerShaderStage } = adapter.limits;
const device = await adapter.requestDevice({
  requiredFeatures: features,
  requiredLimits: { maxComputeWorkgroupStorageSize, maxComputeInvocationsPerWorkgroup, maxComputeWorkgroupSizeX, maxStorageBuffersPerShaderStage },
});
const { STORAGE, UNIFORM, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage;
device.pushErrorScope("validation");
const buffer = (bytes, usage, values) => {
  const made = device.createBuffer({ size: Math.max(16, Math.ceil(bytes / 16) * 16), usage });
  if (values) device.queue.writeBuffer(made, 0, values);
  return made;
};
const params = buffer(uniform.length, UNIFORM | COPY_DST, Uint8Array.from(uniform));
const made = Object.fromEntries(
  Object.entries(buffers).map(([name, { bytes, values }]) => [name, buffer(bytes, STORAGE | COPY_SRC | COPY_DST, values && Buffer.from(values, "base64"))]),
);
const encoder = device.createCommandEncoder();
const pass = encoder.beginComputePass();
for (const { code, bound, x, y } of passes) {
  const visibility = GPUShaderStage.COMPUTE;
  const entries = [{ type: "uniform" }, ...bound].map(({ type }, binding) => ({ binding, visibility, buffer: { type } }));
  const layout = device.createBindGroupLayout({ entries });
  const pipeline = device.createComputePipeline({
    layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
    compute: { module: device.createShaderModule({ code }) },
  });
  const resources = [params, ...bound.map(({ name }) => made[name])];
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, device.createBindGroup({ layout, entries: resources.map((buffer, binding) => ({ binding, resource: { buffer } })) }));
  pass.dispatchWorkgroups(x, y);
}
pass.end();
const staged = outputs.map((name) => {
  const to = buffer(buffers[name].bytes, MAP_READ | COPY_DST);
  encoder.copyBufferToBuffer(made[name], 0, to, 0, Math.ceil(buffers[name].bytes / 4) * 4);
  return [name, to];
});
device.queue.submit([encoder.finish()]);
const error = await device.popErrorScope();
if (error) {
  process.stderr.write(error.message);
  process.exit(1);
}
const results = {};
for (const [name, to] of staged) {
  await to.mapAsync(GPUMapMode.READ);
  results[name] = Buffer.from(to.getMappedRange(), 0, buffers[name].bytes).toString("base64");
}
process.stdout.write(JSON.stringify(results), () => process.exit(0));
`;
