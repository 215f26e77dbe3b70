// Draws a Grafana dashboard file with the data of a running Prometheus, and saves a PNG.
//
//   node tests/preview/preview.mjs dashboards/tesseract-overview.json \
//     --prometheus http://localhost:9090 --output overview.png
//
// A preview, not Grafana: it knows the panel types and options that the dashboards of this
// repository use, and stops at any other. It never writes to Prometheus and never edits a dashboard.

import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { collect, seconds } from "./data.mjs";
import { screenshot } from "./screenshot.mjs";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    prometheus: { type: "string", default: "http://localhost:9090" },
    output: { type: "string", default: "preview.png" },
    range: { type: "string", default: "1h" },
    "scrape-interval": { type: "string", default: "15s" },
    network: { type: "string", default: ".+" }, // a regular expression; all by default
    theme: { type: "string", default: "dark" }, // or light
    width: { type: "string", default: "1600" },
    chromium: { type: "string", default: "chromium" },
  },
});

const USAGE =
  "usage: node preview.mjs DASHBOARD.json [--prometheus URL] [--output FILE.png] [--range 1h] [--network REGEX] [--theme dark|light] [--width 1600]";
const ROW = 38; // Grafana's grid: 30 px a row, 8 px between them
const HEADER = 92;

main().then(
  (failed) => process.exit(failed ? 1 : 0),
  (error) => {
    console.error(`preview: ${error.message}`);
    process.exit(1);
  },
);

/** Returns how many queries failed. */
async function main() {
  if (positionals.length !== 1) throw new Error(USAGE);
  const dashboard = JSON.parse(await readFile(positionals[0], "utf8"));
  const width = Number(options.width);
  const data = await collect(dashboard, {
    prometheus: options.prometheus.replace(/\/$/, ""),
    end: Math.floor(Date.now() / 1000),
    range: seconds(options.range),
    scrapeInterval: seconds(options["scrape-interval"]),
    network: options.network,
    width,
  });
  const failed = data.panels.flatMap((panel) => panel.errors.map((error) => `${panel.title}: ${error}`));
  failed.forEach((line) => console.error(line));

  const rows = Math.max(...dashboard.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
  const height = HEADER + ROW * rows + 8;
  await screenshot(await page({ ...data, theme: options.theme, width, row: ROW, header: HEADER }), resolve(options.output), width, height, options.chromium);
  console.log(`${options.output}: ${width}x${height}, ${data.panels.length} panels, ${failed.length} failed queries`);
  return failed.length;
}

/** One HTML page with everything in it, so that the browser needs neither network nor other files. */
async function page(model) {
  const here = (name) => readFile(fileURLToPath(new URL(name, import.meta.url)), "utf8");
  const uplot = new URL(".", import.meta.resolve("uplot"));
  const part = (name) => readFile(fileURLToPath(new URL(name, uplot)), "utf8");
  const styles = [await part("uPlot.min.css"), await here("style.css")].map((css) => `<style>${css}</style>`);
  const scripts = [
    await part("uPlot.iife.min.js"),
    await here("format.js"),
    await here("charts.js"),
    await here("page.js"),
  ];
  const json = JSON.stringify(model).replaceAll("<", "\\u003c");
  return `<!doctype html><html class="${model.theme}"><meta charset="utf-8"><title>preview</title>${styles.join("")}<body>
<script>const MODEL = ${json};</script>${scripts.map((js) => `<script>${js}</script>`).join("")}`;
}
