// The panels with a time axis: lines, bars and heatmaps by uPlot, state timelines by plain boxes.

const INK = MODEL.theme === "light" ? "#5a6069" : "#9fa7b3";
const GRID = "rgba(204, 204, 220, 0.08)";
const PANEL = MODEL.theme === "light" ? [255, 255, 255] : [24, 27, 31]; // the panel's background, for fills that must cover what is under them
const FONT = "11px Inter, sans-serif";
const WHOLE = [1, 2, 5]
  .flatMap((digit) => [1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7].map((power) => digit * power))
  .sort((a, b) => a - b);
const clock = (seconds) => new Date(seconds * 1000).toTimeString().slice(0, 5);

const timeAxis = {
  stroke: INK,
  grid: { stroke: GRID },
  ticks: { show: false },
  font: FONT,
  size: 24,
  values: (_, splits) => splits.map(clock),
};
const valueAxis = (more) => ({
  stroke: INK,
  grid: { stroke: GRID },
  ticks: { show: false },
  font: FONT,
  size: 68,
  ...more,
});
const timeScale = { range: [MODEL.start, MODEL.end] };

function drawTimeseries(box, panel) {
  const shown = panel.series
    .map((series) => ({ ...series, field: fieldOf(panel, series.name, series.refId) }))
    .filter(({ field }) => !field.custom.hideFrom?.viz)
    .map((series) => ({
      ...series,
      colour: series.field.color.mode === "fixed" ? shade(series.field.color.fixedColor) : paletteColour(series.name),
    }));
  if (!shown.length) return noData(box, panel);

  const { custom, unit, decimals, min, max, thresholds } = panel.fieldConfig.defaults;
  const times = timesOf(panel);
  const rows = shown.map(({ points }) => align(times, points));
  const bars = custom.drawStyle === "bars";
  const limit = custom.thresholdsStyle && thresholds.steps.find(({ value }) => value !== null).value;
  const legend = drawLegend(panel, shown, rows);
  box.append(legend);

  const style = ({ colour }) => ({
    stroke: colour,
    width: bars ? 0 : custom.lineWidth,
    points: { show: false },
    spanGaps: false,
    fill: custom.stacking ? mix(colour, custom.fillOpacity / 100) : fade(colour, custom.fillOpacity / 100),
    ...(bars && { paths: uPlot.paths.bars({ size: [0.8, 12] }) }),
  });
  // Stacked: sums, the whole stack first, each next one covering it but for the share on top.
  const data = custom.stacking
    ? rows.map((_, i) => times.map((__, t) => sum(rows.slice(0, i + 1), t))).reverse()
    : rows;
  const series = custom.stacking ? shown.map(style).reverse() : shown.map(style);
  const plot = new uPlot(
    {
      ...frame(box, legend),
      scales: { x: timeScale, y: { range: (_, low, high) => bounds(low, high, custom, min, max, limit) } },
      axes: [
        timeAxis,
        valueAxis({
          ...(decimals === 0 && { incrs: WHOLE }),
          values: (_, splits) =>
            splits.map((value) => formatValue(value, unit, unit === "short" ? decimals : undefined)),
        }),
      ],
      series: [{}, ...series],
      hooks: { drawClear: [drawEvents], draw: [(u) => limit !== undefined && drawLimit(u, limit, thresholds)] },
    },
    [times, ...data],
  );
  box.prepend(plot.root);
}

function drawHeatmap(box, panel) {
  const buckets = panel.series
    .map(({ labels, points }) => ({ le: Number(labels.le.replace("+Inf", "Infinity")), points }))
    .sort((a, b) => a.le - b.le);
  if (!buckets.length) return noData(box, panel);
  const times = timesOf(panel);
  const upTo = buckets.map(({ points }) => align(times, points));
  const counts = upTo.map((row, i) => row.map((value, t) => (value ?? 0) - (i ? (upTo[i - 1][t] ?? 0) : 0)));
  const most = Math.max(...counts.flat(), 1e-9);
  const names = buckets.map(({ le }) => (Number.isFinite(le) ? formatValue(le, "s") : "more"));
  const cells = (u) => {
    u.ctx.save();
    u.ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    u.ctx.clip();
    const width = u.valToPos(times[0] + panel.step, "x", true) - u.valToPos(times[0], "x", true);
    counts.forEach((row, i) =>
      row.forEach((count, t) => {
        if (count <= panel.options.filterValues.le) return;
        const [bottom, top] = [u.valToPos(i, "y", true), u.valToPos(i + 1, "y", true)];
        u.ctx.fillStyle = mix("#8ab8ff", 0.15 + 0.85 * (count / most) ** panel.options.color.exponent);
        u.ctx.fillRect(u.valToPos(times[t] - panel.step, "x", true), top, width - 1, bottom - top - 1);
      }),
    );
    u.ctx.restore();
  };
  const plot = new uPlot(
    {
      ...frame(box),
      scales: { x: timeScale, y: { range: [0, buckets.length] } },
      axes: [
        timeAxis,
        valueAxis({
          splits: () => names.map((_, i) => i + 1).filter((i) => i % 2 === 0),
          values: (_, splits) => splits.map((i) => names[i - 1]),
        }),
      ],
      series: [{}, { show: false }],
      hooks: { drawClear: [drawEvents, cells] },
    },
    [times, times.map(() => null)],
  );
  box.prepend(plot.root);
}

function drawStateTimeline(box, panel) {
  if (!panel.series.length) return noData(box, panel);
  const place = (seconds) => `${(100 * (seconds - MODEL.start)) / (MODEL.end - MODEL.start)}%`;
  // A page at a time, as in Grafana.
  const rows = panel.series.slice(0, panel.options.perPage).map(({ name, refId, points }) => {
    const field = fieldOf(panel, name, refId);
    const states = [];
    for (const [from, value] of points) {
      const last = states.at(-1);
      if (last?.value === value && last.to >= from) last.to = from + panel.step;
      else states.push({ value, from, to: from + panel.step });
    }
    const bars = states.map(({ value, from, to }) => {
      const { text, color } = display(field, value);
      return element(
        "div",
        {
          class: "state",
          style: `left:${place(Math.max(from, MODEL.start))};right:calc(100% - ${place(Math.min(to, MODEL.end))});background:${color}`,
        },
        to - from > (MODEL.end - MODEL.start) * 0.06 ? text : "",
      );
    });
    return element(
      "div",
      { class: "timeline" },
      element("span", { class: "name" }, name),
      element("div", { class: "states" }, ...bars),
    );
  });
  const seen = new Set(panel.series.flatMap(({ points }) => points.map(([, value]) => value)));
  const legend = [...seen]
    .sort()
    .map((value) => display(fieldOf(panel), value))
    .map(({ text, color }) => legendItem(text, color));
  box.append(element("div", { class: "timelines" }, ...rows), element("div", { class: "legend" }, ...legend));
}

function frame(box, legend) {
  return {
    width: box.clientWidth,
    height: box.clientHeight - (legend?.offsetHeight ?? 0),
    legend: { show: false },
    cursor: { show: false },
    padding: [10, 18, 0, 0],
  };
}

/** The dashboard's time grid at the panel's step; what a series lacks there is a gap. */
function timesOf({ step }) {
  const times = [];
  for (let t = Math.floor(MODEL.start / step) * step; t <= MODEL.end; t += step) times.push(t);
  return times;
}

function align(times, points) {
  const at = new Map(points);
  return times.map((t) => (Number.isFinite(at.get(t)) ? at.get(t) : null));
}

function sum(rows, t) {
  return rows.reduce((total, row) => total + (row[t] ?? 0), 0);
}

function bounds(low, high, { axisSoftMin, axisSoftMax }, min, max, limit) {
  const bottom = min ?? Math.min(low ?? 0, axisSoftMin ?? Infinity, limit ?? Infinity);
  const top = max ?? Math.max(high ?? 0, axisSoftMax ?? -Infinity, limit ?? -Infinity);
  const room = (top - bottom || 1) * 0.08;
  return [min ?? (bottom < 0 ? bottom - room : bottom), max ?? top + room];
}

function drawLimit(u, limit, { steps }) {
  const y = u.valToPos(limit, "y", true);
  u.ctx.save();
  u.ctx.strokeStyle = shade(steps.find(({ value }) => value !== null).color);
  u.ctx.setLineDash([8, 6]);
  u.ctx.lineWidth = 1.5;
  u.ctx.beginPath();
  u.ctx.moveTo(u.bbox.left, y);
  u.ctx.lineTo(u.bbox.left + u.bbox.width, y);
  u.ctx.stroke();
  u.ctx.restore();
}

function drawEvents(u) {
  for (const { color, from, to } of MODEL.annotations) {
    const [left, right] = [Math.max(from, MODEL.start), Math.min(to, MODEL.end)].map((t) => u.valToPos(t, "x", true));
    u.ctx.fillStyle = fade(shade(color), 0.12);
    u.ctx.fillRect(left, u.bbox.top, right - left, u.bbox.height);
    u.ctx.fillStyle = fade(shade(color), 0.6);
    u.ctx.fillRect(left, u.bbox.top, 1, u.bbox.height);
    u.ctx.fillStyle = shade(color);
    u.ctx.fillRect(left - 3, u.bbox.top + u.bbox.height - 2, Math.max(right - left, 0) + 7, 4);
  }
}

function drawLegend(panel, shown, rows) {
  const calcs = panel.options.legend.calcs;
  const names = { lastNotNull: "Last", max: "Max", min: "Min" };
  return element(
    "div",
    { class: "legend" },
    ...shown.map(({ name, field, colour }, i) => {
      const known = rows[i].filter((value) => value !== null);
      const results = { lastNotNull: known.at(-1), max: Math.max(...known), min: Math.min(...known) };
      const figures = known.length
        ? calcs.map((calc) => `${names[calc]}: ${formatValue(results[calc], field.unit, field.decimals)}`)
        : [];
      return legendItem(field.displayName ?? name, colour, figures.join("  "));
    }),
  );
}

function legendItem(name, colour, figures = "") {
  return element("span", {}, element("i", { style: `background:${colour}` }), name, element("small", {}, figures));
}

function rgb(colour) {
  return [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
}

function fade(colour, opacity) {
  return `rgba(${rgb(colour)}, ${opacity})`;
}

/** The colour that a see-through fill would have over an empty panel, but opaque. */
function mix(colour, opacity) {
  return `rgb(${rgb(colour).map((channel, i) => Math.round(channel * opacity + PANEL[i] * (1 - opacity)))})`;
}
