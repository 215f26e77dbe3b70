// Values as Grafana writes them: the units, value mappings and thresholds that the dashboards use.

const SHADES = {
  green: "#73bf69",
  orange: "#ff9830",
  red: "#f2495c",
  "dark-red": "#c4162a",
  yellow: "#fade2a",
  blue: "#5794f2",
  "dark-blue": "#1f60c4",
  purple: "#b877d9",
  text: MODEL.theme === "light" ? "#24292e" : "#ccccdc",
  transparent: "transparent",
};
const PALETTE = [
  "#73bf69",
  "#f2cc0c",
  "#8ab8ff",
  "#ff780a",
  "#f2495c",
  "#5794f2",
  "#b877d9",
  "#705da0",
  "#37872d",
  "#fade2a",
];
const paletteByName = new Map();

function shade(name) {
  return SHADES[name] ?? name;
}

/** The same name has the same colour in every panel. */
function paletteColour(name) {
  if (!paletteByName.has(name)) paletteByName.set(name, PALETTE[paletteByName.size % PALETTE.length]);
  return paletteByName.get(name);
}

/** The panel's field settings with the overrides for one series or column laid over them. */
function fieldOf(panel, name, refId) {
  const { defaults, overrides } = panel.fieldConfig;
  const field = { ...defaults, custom: { ...defaults.custom } };
  for (const { matcher, properties } of overrides) {
    if (matcher.options !== (matcher.id === "byFrameRefID" ? refId : name)) continue;
    for (const { id, value } of properties) {
      if (id.startsWith("custom.")) field.custom[id.slice(7)] = value;
      else field[id] = value;
    }
  }
  return field;
}

/** Text and colour of a value: a mapping if one matches, else unit and threshold. */
function display(field, value) {
  if (typeof value === "string" || value === null) {
    const mapped = mapping(field, value);
    return { text: mapped?.text ?? value ?? "", color: mapped?.color && shade(mapped.color) };
  }
  const mapped = mapping(field, value);
  return {
    text: mapped?.text ?? formatValue(value, field.unit, field.decimals),
    color: shade(mapped?.color ?? threshold(field, value)),
  };
}

function mapping(field, value) {
  for (const { type, options } of field.mappings ?? []) {
    if (type === "value" && options[String(value)]) return options[String(value)];
    if (type === "special" && (value === null || Number.isNaN(value))) return options.result; // JSON has no NaN
  }
}

function threshold(field, value) {
  const steps = field.thresholds?.steps ?? [{ color: "text", value: null }];
  return steps.findLast((step) => step.value === null || value >= step.value).color;
}

function formatValue(value, unit = "none", decimals) {
  if (value === null || Number.isNaN(value)) return "";
  if (unit.startsWith("suffix:")) return digits(value, decimals) + unit.slice(7);
  switch (unit) {
    case "percentunit":
      return digits(value * 100, decimals) + " %";
    case "reqps":
      return digits(value, decimals) + " req/s";
    case "bytes":
      return scaled(value, 1024, ["B", "KiB", "MiB", "GiB"], decimals);
    case "short":
      return scaled(value, 1000, ["", "K", "Mil", "Bil"], decimals);
    case "s":
      return duration(value, decimals);
    case "dateTimeFromNow":
      return `${duration(MODEL.end - value / 1000, 0)} ago`;
    case "none":
      return digits(value, decimals);
    default:
      throw new Error(`the preview does not know the unit ${unit}`);
  }
}

function digits(value, decimals) {
  if (decimals === undefined) decimals = value === 0 || Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return decimals > 0 && Number.isInteger(value) ? String(value) : value.toFixed(decimals);
}

function scaled(value, base, names, decimals) {
  let power = 0;
  while (Math.abs(value) >= base && power < names.length - 1) [value, power] = [value / base, power + 1];
  return `${digits(value, power ? undefined : decimals)} ${names[power]}`.trim();
}

function duration(value, decimals) {
  const size = Math.abs(value);
  if (size < 1 && size > 0 && decimals !== 0) return `${digits(value * 1000, 0)} ms`;
  if (size < 60) return `${digits(value, decimals)} s`;
  if (size < 3600) return `${digits(value / 60, 1)} min`;
  if (size < 86400) return `${digits(value / 3600, 1)} h`;
  return `${digits(value / 86400, 1)} d`;
}
