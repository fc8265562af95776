// Sees that there is a Chromium for the tests in a page: the one CHROMIUM names, or Debian's, which is installed where it is missing and root allows.

import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";

const path = process.env.CHROMIUM || "/usr/bin/chromium";
const say = (text) => console.error(`chromium: ${text}`);

if (!existsSync(path) && !process.env.CHROMIUM && process.getuid?.() === 0 && existsSync("/usr/bin/apt-get")) {
  say("not found; installing Debian's (apt-get install chromium)");
  const apt = (...args) =>
    execFileSync("apt-get", args, { stdio: ["ignore", "ignore", "inherit"], env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" } });
  try {
    apt("update", "-qq");
    apt("install", "-y", "-qq", "--no-install-recommends", "chromium");
  } catch (error) {
    say(error.message);
  }
}
if (existsSync(path)) {
  const version = execFileSync(path, ["--version"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  say(version.trim());
} else {
  say(`there is none at ${path}: install Chromium or Chrome, and name it in CHROMIUM`);
  process.exitCode = 1;
}
