/** How Chromium is started without a screen: which one, and with WebGPU on its own software adapter (SwiftShader). */

export const executablePath = process.env.CHROMIUM || "/usr/bin/chromium";

export const args: readonly string[] = [
  "--no-sandbox", // root has no other
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
