// Opens pages in a headless Chromium as people see them, and says what is wrong with them.
//
//   echo '[{"url": …, "name": "well", "width": 1280, "dark": false}]' | node tests/browser/check.mjs OUTPUT_DIRECTORY
//
// Reads the list of pages from standard input, writes a screenshot of each to OUTPUT_DIRECTORY/NAME.png, and prints an
// array with an object for each page: what the console said, what axe-core found, and how wide the content is. Speaks the
// DevTools protocol over the browser's own pipe. Never judges: that is up to the caller.

import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { text } from "node:stream/consumers";

import { FLAGS } from "./flags.mjs";

const [output] = process.argv.slice(2);
const pages = JSON.parse(await text(process.stdin));
const axe = await readFile(fileURLToPath(import.meta.resolve("axe-core")), "utf8");
const profile = await mkdtemp(join(tmpdir(), "pages-"));

const browser = spawn(
  process.env.CHROMIUM ?? "chromium",
  [...FLAGS, "--remote-debugging-pipe", `--user-data-dir=${profile}`],
  { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] },
);
const ended = new Promise((resolve) => browser.once("exit", resolve));
browser.once("error", (error) => {
  console.error(`cannot start the browser: ${error.message}`);
  process.exit(1);
});

const pending = new Map();
let listen = () => {};
let received = "";
browser.stdio[4].setEncoding("utf8").on("data", (data) => {
  const messages = (received + data).split("\0");
  received = messages.pop();
  for (const message of messages.map((json) => JSON.parse(json))) {
    if (message.id) pending.get(message.id)(message);
    else listen(message);
  }
});

let last = 0;
async function send(method, params = {}, sessionId = undefined) {
  const id = ++last;
  const answer = new Promise((resolve) => pending.set(id, resolve));
  browser.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
  const { result, error } = await answer;
  if (error) throw new Error(`${method}: ${error.message}`);
  return result;
}

const results = [];
for (const page of pages) results.push(await look(page));
console.log(JSON.stringify(results));
await send("Browser.close");
await ended;
await rm(profile, { recursive: true, force: true });

async function look({ url, name, width, dark }) {
  const { targetId } = await send("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
  const ask = (method, params) => send(method, params, sessionId);
  const said = [];
  const loaded = new Promise((resolve) => {
    listen = ({ method, params }) => {
      if (method === "Page.loadEventFired") resolve();
      if (method === "Log.entryAdded") said.push(params.entry.text);
      if (method === "Runtime.consoleAPICalled") said.push(params.args.map((it) => it.value).join(" "));
      if (method === "Runtime.exceptionThrown") said.push(params.exceptionDetails.text);
    };
  });
  for (const domain of ["Page", "Log", "Runtime"]) await ask(`${domain}.enable`);
  const mobile = width < 600;
  await ask("Emulation.setDeviceMetricsOverride", { width, height: 800, deviceScaleFactor: 1, mobile });
  const value = dark ? "dark" : "light";
  await ask("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value }] });
  await ask("Page.navigate", { url });
  await loaded;
  const evaluate = async (expression) => {
    const { result, exceptionDetails } = await ask("Runtime.evaluate", {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    if (exceptionDetails) throw new Error(`${name}: ${exceptionDetails.exception?.description}`);
    return result.value;
  };
  const contentWidth = await evaluate("document.documentElement.scrollWidth");
  const contentHeight = await evaluate("document.documentElement.scrollHeight");
  const styled = await evaluate("document.styleSheets.length > 0 && document.styleSheets[0].cssRules.length > 0");
  const shot = await ask("Page.captureScreenshot", {
    captureBeyondViewport: true,
    clip: { x: 0, y: 0, width, height: contentHeight, scale: 1 },
  });
  await writeFile(join(output, `${name}.png`), Buffer.from(shot.data, "base64"));
  const violations = await evaluate(
    // A page that is loaded again by itself has a link that stops it, which the rule cannot see.
    `${axe}; axe.run({ rules: { "meta-refresh": { enabled: false } } }).then(({ violations }) => violations.map((it) =>
      it.id + ": " + it.help + ": " + it.nodes.map((node) => node.target + " " + node.failureSummary).join("; ")))`,
  );
  await send("Target.closeTarget", { targetId });
  return { name, console: said, violations, contentWidth, styled };
}
