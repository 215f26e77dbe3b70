// A picture of an HTML page, drawn by a headless Chromium that asks nobody for anything.

import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import { FLAGS } from "../browser/flags.mjs";

/** Draws a page that needs no network with Chromium, and saves it as a PNG. */
export async function screenshot(html, output, width, height, chromium) {
  const scratch = await mkdtemp(join(tmpdir(), "dashboard-preview-"));
  try {
    const file = join(scratch, "preview.html");
    await writeFile(file, html);
    await promisify(execFile)(
      chromium,
      [
        ...FLAGS,
        `--user-data-dir=${join(scratch, "profile")}`,
        `--window-size=${width},${height}`,
        "--virtual-time-budget=2000",
        `--screenshot=${output}`,
        `file://${file}`,
      ],
      { timeout: 60_000 },
    );
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}
