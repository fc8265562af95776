// Before the tests: makes sure that the WGSL suites find a WebGPU adapter, and on Debian or Ubuntu installs Mesa's software one (llvmpipe) if not.
//
// `npm test` runs this first. Exit status 0: an adapter is there, or TEST_DEVICES leaves webgpu out by hand. 1: none, and the sentence says what to do.

import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";

const say = (line) => console.error(`adapter: ${line}`);
const MISSING =
  "webgpu: no adapter. Install a Vulkan driver (Debian: mesa-vulkan-drivers >= 23, in Debian 12 from bookworm-backports), " +
  "or set TEST_DEVICES=cpu to leave the WGSL suites out by hand";

/** In a child process, since a driver may take its process down: prints the adapter's name, or exits with 3. */
async function describe() {
  const { create } = await import("webgpu");
  globalThis.gpu = create([]); // held to the end: Dawn aborts the process when this object is collected
  const adapter = await globalThis.gpu.requestAdapter();
  if (adapter === null) process.exit(3);
  const device = await adapter.requestDevice();
  const { vendor, architecture, description } = adapter.info;
  console.log([vendor, architecture, description].filter(Boolean).join(", "));
  device.destroy();
  process.exit(0);
}

/** The name of the adapter that Dawn finds, or undefined. */
function probe() {
  const env = { ...process.env, XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR ?? tmpdir() };
  const child = spawnSync(process.execPath, [fileURLToPath(import.meta.url), "--describe"], { env, encoding: "utf8", timeout: 60_000 });
  if (child.status === 0) return child.stdout.trim();
  if (child.status !== 3) say(`looking for one failed (${child.signal ?? `exit status ${child.status}`}): ${child.stderr.trim()}`);
  return undefined;
}

/** The machine's own source of Debian packages, pointed at another suite: [file name, text], or undefined where it has none that we can read. */
export function backports(suite, files) {
  for (const [name, text] of files) {
    // Either form (sources.list(5)): a stanza of fields, or one line `deb [options] URI suite component...`.
    const entries = name.endsWith(".sources") ? text.split(/\n[ \t]*\n/) : text.split("\n");
    for (const entry of entries) {
      const bare = entry.replace(/^#.*\n?/gm, "").trim();
      if (name.endsWith(".sources")) {
        const suites = /^Suites:(.*)$/im.exec(bare)?.[1].trim().split(/\s+/);
        if (!suites?.includes(suite) || !/^Types:.*\bdeb(?!-)/im.test(bare) || /^Enabled:\s*no/im.test(bare)) continue;
        return [`${suite}-backports.sources`, `${bare.replace(/^Suites:.*$/im, `Suites: ${suite}-backports`)}\n`];
      }
      const line = /^(deb\s+(?:\[[^\]]*\]\s+)?\S+\s+)(\S+)(\s.*)$/.exec(bare);
      if (line?.[2] === suite) return [`${suite}-backports.list`, `${line[1]}${suite}-backports${line[3]}\n`];
    }
  }
  return undefined;
}

/** What apt needs to be told to install a Mesa that may do, by /etc/os-release; undefined where we do not know the archive. */
export function archive({ ID, VERSION_CODENAME }) {
  if (ID !== "debian" && ID !== "ubuntu") return undefined;
  // Mesa before 23 lacks a feature that Dawn asks for. Debian 12 has a newer one among its backports; the others' own archive is worth a try.
  return VERSION_CODENAME === "bookworm" ? ["-t", "bookworm-backports"] : [];
}

/** Installs llvmpipe with apt; false where this machine is none that we know how to do it on. */
function install() {
  if (process.getuid?.() !== 0 || !existsSync("/etc/os-release") || !existsSync("/usr/bin/apt-get")) return false;
  const release = Object.fromEntries(
    readFileSync("/etc/os-release", "utf8")
      .split("\n")
      .map((line) => line.replaceAll('"', "").split("=")),
  );
  const from = archive(release);
  if (from === undefined) return false;
  if (from.length > 0) {
    const folder = "/etc/apt/sources.list.d/";
    const parts = existsSync(folder) ? readdirSync(folder).filter((name) => /\.(sources|list)$/.test(name)) : [];
    const paths = [...parts.map((name) => folder + name), "/etc/apt/sources.list"].filter((path) => existsSync(path));
    const texts = paths.map((path) => [path, readFileSync(path, "utf8")]);
    const source = backports("bookworm", texts);
    if (source === undefined) return false;
    if (!texts.some(([, text]) => /^(Suites:|deb\s).*\bbookworm-backports\b/m.test(text))) {
      say(`adding the bookworm-backports suite to apt's sources (${folder}${source[0]})`);
      writeFileSync(folder + source[0], source[1]);
    }
  }
  const apt = (...args) =>
    execFileSync("apt-get", args, { stdio: ["ignore", "ignore", "inherit"], env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" } });
  say("no WebGPU adapter; installing Mesa's software Vulkan driver, llvmpipe (apt-get install mesa-vulkan-drivers libvulkan1)");
  apt("update", "-qq");
  apt("install", "-y", "-qq", "--no-install-recommends", ...from, "mesa-vulkan-drivers", "libvulkan1");
  return true;
}

function main() {
  const devices = process.env.TEST_DEVICES;
  if (devices !== undefined && devices !== "" && !devices.split(",").some((name) => name.trim() === "webgpu")) {
    return say(`TEST_DEVICES=${devices}: the WGSL suites are left out by hand`);
  }
  let adapter = probe();
  if (adapter === undefined) {
    try {
      if (install()) adapter = probe();
    } catch (error) {
      say(error.message);
    }
  }
  if (adapter === undefined) {
    console.error(MISSING);
    process.exitCode = 1;
  } else {
    say(`WebGPU runs on ${adapter}`);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv[2] === "--describe") await describe();
  else main();
}
