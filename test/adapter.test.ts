/** Where the set-up takes a newer Mesa from, and when it leaves WebGPU out. */

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";

type Source = [name: string, text: string];
const script = new URL("./adapter.mjs", import.meta.url);
const { archive, backports } = (await import(/* @vite-ignore */ script.href)) as {
  archive(release: Record<string, string>): string[] | undefined;
  backports(suite: string, files: Source[]): Source | undefined;
};

test("every Debian and Ubuntu tries its own archive, but for Debian 12, whose backports have a newer Mesa", () => {
  expect(archive({ ID: "ubuntu", VERSION_ID: "22.04", VERSION_CODENAME: "jammy" })).toEqual([]);
  expect(archive({ ID: "debian", VERSION_CODENAME: "trixie" })).toEqual([]);
  expect(archive({ ID: "debian", VERSION_CODENAME: "bookworm" })).toEqual(["-t", "bookworm-backports"]);
  expect(archive({ ID: "fedora" })).toBeUndefined();
});

describe("the source of backports", () => {
  test("is the machine's own, from a stanza of fields", () => {
    const text = [
      "Types: deb deb-src\n# a comment\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: /usr/share/keyrings/k.gpg",
      "Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\nComponents: main",
    ].join("\n\n");
    expect(backports("bookworm", [["/etc/apt/sources.list.d/debian.sources", text]])).toEqual([
      "bookworm-backports.sources",
      "Types: deb deb-src\nURIs: http://mirror.example/debian\nSuites: bookworm-backports\nComponents: main\nSigned-By: /usr/share/keyrings/k.gpg\n",
    ]);
  });

  test("is the machine's own, from a line", () => {
    const text =
      "# deb http://old.example/debian bookworm main\ndeb-src http://mirror.example/debian bookworm main\n\ndeb [signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib\n";
    const expected = ["bookworm-backports.list", "deb [signed-by=/k.gpg] http://mirror.example/debian bookworm-backports main contrib\n"];
    expect(backports("bookworm", [["/etc/apt/sources.list", text]])).toEqual(expected);
  });

  test("is no other product's, and none that is switched off", () => {
    const others: Source[] = [
      ["a.list", "deb https://other.example/apt cloud-bookworm main\n"],
      ["b.sources", "Types: deb\nURIs: https://other.example\nSuites: nodistro\nComponents: main\n"],
      ["c.sources", "Enabled: no\nTypes: deb\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\n"],
      ["d.sources", "Types: deb-src\nURIs: http://mirror.example/debian\nSuites: bookworm\nComponents: main\n"],
    ];
    expect(backports("bookworm", others)).toBeUndefined();
  });
});

test("TEST_DEVICES without webgpu leaves the WGSL suites out by hand, and says so", () => {
  const env = { ...process.env, TEST_DEVICES: "cpu" };
  const { status, stderr } = spawnSync(process.execPath, [fileURLToPath(script)], { env, encoding: "utf8" });
  expect([status, stderr]).toEqual([0, "adapter: TEST_DEVICES=cpu: the WGSL suites are left out by hand\n"]);
});
