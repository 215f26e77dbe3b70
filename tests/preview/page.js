// Lays the panels out on Grafana's grid and draws them; stat and table panels are plain HTML.

const DRAW = {
  stat: drawStat,
  table: drawTable,
  timeseries: drawTimeseries,
  heatmap: drawHeatmap,
  "state-timeline": drawStateTimeline,
};

function element(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function drawStat(box, panel) {
  const field = fieldOf(panel, panel.series[0]?.name);
  const tiles = panel.series.length
    ? panel.series.map(({ name, points }) => ({ name, ...display(field, points.at(-1)[1]) }))
    : [{ name: "", text: field.noValue ?? "No data", color: shade(field.thresholds.steps[0].color) }];
  tiles.sort((a, b) => a.name.localeCompare(b.name));
  const height = (box.clientHeight - 4 * (tiles.length - 1)) / tiles.length;
  box.append(
    ...tiles.map(({ name, text, color }) =>
      element(
        "div",
        {
          class: "stat",
          style: `background:${color};height:${height}px;font-size:${Math.min(height * 0.5, box.clientWidth / 11, 36)}px`,
        },
        element("span", { class: "name" }, name),
        element("b", {}, text),
      ),
    ),
  );
}

function cellStyle(type, color) {
  if (!color) return "";
  if (type === "color-text") return `color:${color};font-weight:600`;
  return type === "color-background" ? `background:${color};color:#0d0f12` : "";
}

function drawTable(box, panel) {
  const { columns, rows } = panel.table;
  if (!rows.length) return noData(box, panel);
  const fields = columns.map((column) => fieldOf(panel, column));
  const cell = (value, i) => {
    const { text, color } = display(fields[i], value);
    const type = fields[i].custom.cellOptions.type;
    return element(
      "td",
      {
        style: cellStyle(type, value === null ? undefined : color),
        class: fields[i].links ? "link" : "",
      },
      text,
    );
  };
  const width = ({ custom }) => (custom.width ? `width:${custom.width}px` : "");
  box.append(
    element(
      "table",
      {},
      element("tr", {}, ...columns.map((column, i) => element("th", { style: width(fields[i]) }, column))),
      ...rows.map((row) => element("tr", {}, ...row.map(cell))),
    ),
  );
}

function noData(box, panel) {
  box.append(element("div", { class: "nodata" }, panel.fieldConfig.defaults.noValue ?? "No data"));
}

function drawHeader() {
  const variables = MODEL.variables.map(({ label, text }) =>
    element("span", { class: "variable" }, element("label", {}, label), text),
  );
  const kinds = [...new Map(MODEL.annotations.map(({ name, color }) => [name, color]))].map(([name, color]) =>
    legendItem(name, shade(color)),
  );
  const range = `${clock(MODEL.start)} to ${clock(MODEL.end)}`;
  document.body.append(
    element(
      "header",
      { style: `height:${MODEL.header - 8}px` },
      element("h1", {}, MODEL.title, element("em", {}, "preview with a real Prometheus's data; not Grafana")),
      element(
        "div",
        { class: "right" },
        ...MODEL.links.map((title) => element("span", { class: "link" }, title)),
        element("span", { class: "variable" }, range),
      ),
      element("div", {}, ...variables, element("span", { class: "legend" }, ...kinds)),
    ),
  );
}

drawHeader();
for (const panel of MODEL.panels) {
  const { x, y, w, h } = panel.gridPos;
  const column = (MODEL.width - 16) / 24;
  const place = `left:${8 + x * column}px;top:${MODEL.header + y * MODEL.row}px;width:${w * column - 8}px;height:${h * MODEL.row - 8}px`;
  if (panel.type === "row") {
    document.body.append(element("h2", { style: place }, panel.title));
    continue;
  }
  const box = element("div", { class: "content" });
  document.body.append(element("section", { style: place }, element("h3", {}, panel.title), box));
  if (!DRAW[panel.type]) throw new Error(`the preview does not know the panel type ${panel.type}`);
  if (panel.errors.length) box.append(element("div", { class: "error" }, panel.errors.join("\n")));
  else DRAW[panel.type](box, panel);
}
