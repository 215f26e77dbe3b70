// Stands in for Slack's webhook and draws the first message that comes, as Slack shows it, into a PNG.
//
//   node tests/preview/slack.mjs --listen 5005 --output docs/slack-message.png
//   SLACK_WEBHOOK_URL=http://127.0.0.1:5005 cargo demo --stack
//
// A preview, not Slack: it knows the marks that the templates use (bold, code, links) and nothing else.

import { createServer } from "node:http";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { screenshot } from "./screenshot.mjs";

const { values: options } = parseArgs({
  options: {
    listen: { type: "string", default: "5005" },
    output: { type: "string", default: "slack.png" },
    match: { type: "string", default: "" }, // only a message with this text in it
    chromium: { type: "string", default: "chromium" },
  },
});

const COLORS = { good: "#2eb67d", warning: "#ecb22e", danger: "#e01e5a" };

createServer(async (request, response) => {
  let body = "";
  for await (const part of request) body += part;
  response.end("ok");
  if (!body.includes(options.match)) return;
  const message = JSON.parse(body);
  await screenshot(page(message), resolve(options.output), 900, 250, options.chromium);
  console.log(`${options.output}: ${message.attachments[0].title}`);
  process.exit(0);
}).listen(Number(options.listen), "127.0.0.1");

function page({ channel, username, attachments }) {
  const shown = attachments.map(
    ({ color, title, text }) =>
      `<div class="attachment" style="border-color:${COLORS[color]}"><a class="title">${title}</a><div>${marks(text)}</div></div>`,
  );
  return `<!doctype html><meta charset="utf-8"><style>
    body { margin: 16px; font: 15px/22px "Noto Sans", "DejaVu Sans", sans-serif; color: #1d1c1d; background: #fff; }
    .from { font-weight: 700; } .channel { color: #616061; margin-left: 8px; font-size: 13px; }
    .attachment { border-left: 4px solid; border-radius: 3px; padding: 2px 12px; margin-top: 8px; white-space: pre-wrap; overflow-wrap: anywhere; }
    a { color: #1264a3; } .title { font-weight: 700; }
    code { color: #c01343; background: #f6f6f6; border: 1px solid #ddd; border-radius: 3px; padding: 1px 3px; font-size: 13px; }
  </style><span class="from">${username || "Alertmanager"}</span><span class="channel">${channel}</span>${shown.join("")}`;
}

/** Slack's own escapes (&amp; &lt; &gt;) are HTML's. */
function marks(text) {
  return text
    .replace(/<([^|>]+)\|([^>]+)>/g, "<a>$2</a>")
    .replace(/`([^`\n]+)`/g, "<code>$1</code>")
    .replace(/(^|\s)\*([^*\n]+)\*/g, "$1<b>$2</b>");
}
