// From a dashboard file and a Prometheus to what each panel shows: queries, variables, annotations
// and the two transformations in use. Does no drawing.

const UNITS = { s: 1, m: 60, h: 3600, d: 86400 };

/** "15s", "1h" → seconds. */
export function seconds(text) {
  const [, number, unit] = /^(\d+(?:\.\d+)?)([smhd])$/.exec(text) ?? [];
  if (!unit) throw new Error(`${text}: a duration such as 15s, 10m or 1h was expected`);
  return Number(number) * UNITS[unit];
}

/** Runs every query of the dashboard. A query that Prometheus refuses is listed in its panel's `errors`. */
export async function collect(dashboard, context) {
  const panels = await Promise.all(
    dashboard.panels.map((panel) => (panel.type === "row" ? { ...panel, errors: [] } : run(panel, context))),
  );
  const annotations = await Promise.all(
    dashboard.annotations.list.filter(({ enable }) => enable).map((it) => events(it, context)),
  );
  return {
    title: dashboard.title,
    variables: dashboard.templating.list.map(({ label, name, current }) => ({
      label,
      text:
        name === "network"
          ? context.network.replace(/^\.\+$/, "All")
          : [current?.text ?? "Prometheus"].flat().join(" + "),
    })),
    links: dashboard.links.map(({ title }) => title),
    annotations: annotations.flat(),
    panels,
    start: context.end - context.range,
    end: context.end,
  };
}

async function run(panel, context) {
  const step = stepOf(panel, context);
  const errors = [];
  const series = [];
  for (const target of panel.targets) {
    try {
      for (const { metric, value, values } of await query(target, step, context)) {
        series.push({
          refId: target.refId,
          labels: metric,
          name: legend(target.legendFormat, metric),
          points: (values ?? [value]).map(([t, v]) => [t, Number(v)]),
        });
      }
    } catch (error) {
      errors.push(error.message);
    }
  }
  const table = panel.type === "table" ? tabulate(panel, series) : undefined;
  return { ...panel, step, errors, series, table };
}

/** As many points as the panel has room for, in steps a person would choose, never below the scrape interval. */
function stepOf({ gridPos, interval }, { range, width, scrapeInterval }) {
  const least = Math.max(scrapeInterval, interval ? seconds(interval) : 0);
  const wanted = range / ((width * gridPos.w) / 24);
  return (
    [1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 1800, 3600].find((step) => step >= Math.max(wanted, least)) ?? 7200
  );
}

function interpolate(expr, step, { range, network, scrapeInterval }) {
  return expr
    .replaceAll("$__rate_interval", `${Math.max(step + scrapeInterval, 4 * scrapeInterval)}s`)
    .replaceAll("$__interval", `${step}s`)
    .replaceAll("$__range", `${range}s`)
    .replaceAll("$network", network);
}

async function query({ expr, instant }, step, context) {
  const { prometheus, end, range } = context;
  const parameters = instant ? { time: end } : { start: Math.floor((end - range) / step) * step, end, step };
  const body = new URLSearchParams({ query: interpolate(expr, step, context), ...parameters });
  const endpoint = `${prometheus}/api/v1/${instant ? "query" : "query_range"}`;
  const response = await fetch(endpoint, { method: "POST", body }).catch(({ cause }) => {
    throw new Error(`${prometheus}: no Prometheus answers there: ${cause?.message}`);
  });
  const answer = await response.json();
  if (answer.status !== "success") throw new Error(answer.error);
  return answer.data.result;
}

/** Grafana's rule for Prometheus annotations: neighbouring values above 0 are one event, from first to last. */
async function events({ name, iconColor, target, useValueForTime }, context) {
  const step = seconds(target.interval);
  const found = [];
  for (const { values } of await query(target, step, context)) {
    let open;
    for (const [time, value] of values.map(([t, v]) => (useValueForTime ? [Number(v) / 1000, 1] : [t, Number(v)]))) {
      if (!(value > 0)) continue;
      if (open && open.to + step >= time) open.to = time;
      else found.push((open = { name, color: iconColor, from: time, to: time }));
    }
  }
  return found.filter(({ to }) => to >= context.end - context.range);
}

function legend(format, labels) {
  return (format ?? "").replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? "") || JSON.stringify(labels);
}

/** Instant vectors as the rows of a table, after `merge` and `organize`. */
function tabulate({ targets, transformations, options }, series) {
  const rows = [];
  for (const { refId, labels, points } of series) {
    const cell = { ...labels, [targets.length > 1 ? `Value #${refId}` : "Value"]: points[0][1] };
    const mergeable = rows.find(
      (row) =>
        Object.keys(labels).some((key) => key in row) &&
        Object.keys(cell).every((key) => !(key in row) || row[key] === cell[key]),
    );
    if (targets.length > 1 && mergeable) Object.assign(mergeable, cell);
    else rows.push(cell);
  }
  const { excludeByName, indexByName, renameByName } = transformations.find(({ id }) => id === "organize").options;
  const columns = [...new Set(rows.flatMap(Object.keys))]
    .filter((key) => !excludeByName[key])
    .sort((a, b) => (indexByName[a] ?? 99) - (indexByName[b] ?? 99));
  const shown = columns.map((key) => renameByName[key] ?? key);
  const { displayName, desc } = options.sortBy?.[0] ?? {};
  const by = columns[shown.indexOf(displayName)];
  const compare = (a, b) => (typeof a === "number" ? a - b : String(a).localeCompare(String(b)));
  rows.sort((a, b) => (desc ? -1 : 1) * compare(a[by], b[by]));
  return { columns: shown, rows: rows.map((row) => columns.map((key) => row[key] ?? null)) };
}
