// Numbers, sizes and times as text. A value that is not finite gives “–”; a negative one has a minus sign, not a hyphen.

const NONE = "–";

export function decimal(value, digits = 1) {
  return finite(value) ? minus(value.toFixed(digits)) : NONE;
}

/** A difference of percentages, in percentage points. */
export function points(value) {
  if (!finite(value)) return NONE;
  const text = decimal(Math.abs(value));
  return Number(text) === 0 ? "±0.0 pt" : `${value > 0 ? "+" : "−"}${text} pt`;
}

export const percent = (value, digits = 2) => (finite(value) ? `${decimal(value, digits)} %` : NONE);

export const ms = (value) => (finite(value) ? `${decimal(value, value < 10 ? 2 : 1)} ms` : NONE);

export const integer = (value) => value?.toLocaleString("en-GB") ?? NONE;

/** "1 job", "2 jobs". */
export const pluralize = (number, one, many = `${one}s`) => `${integer(number)} ${number === 1 ? one : many}`;

/** "born_again" -> "born again". */
export const readable = (name) => String(name).replaceAll("_", " ");
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** Three significant digits. */
export function brief(value) {
  if (!finite(value)) return NONE;
  const size = Math.abs(value);
  if (size >= 1000) return integer(Math.round(value));
  if (size === 0) return "0";
  if (size < 0.001) return minus(value.toExponential(1));
  return minus(String(Number(value.toPrecision(3))));
}

/** Three significant digits with a decimal prefix: "278 k". */
export function si(value, unit = "") {
  if (!finite(value)) return NONE;
  const power = Math.min(4, Math.max(0, Math.floor(Math.log10(Math.max(1, Math.abs(value))) / 3)));
  const scaled = value / 1000 ** power;
  const tail = `${["", "k", "M", "G", "T"][power]}${unit}`;
  return `${scaled >= 100 || power === 0 ? Math.round(scaled) : Number(scaled.toPrecision(3))}${tail ? ` ${tail}` : ""}`;
}

export const bytes = (value) => si(value, "B");

export function times(ratio) {
  return finite(ratio) && ratio > 0 ? `${ratio >= 10 ? Math.round(ratio) : decimal(ratio)}×` : NONE;
}

export function duration(seconds) {
  if (!finite(seconds)) return NONE;
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return two(Math.floor(s / 60), "m", s % 60, "s");
  if (s < 86400) return two(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "m");
  return two(Math.floor(s / 86400), "d", Math.floor((s % 86400) / 3600), "h");
}

const two = (a, unitA, b, unitB) => (b ? `${a} ${unitA} ${b} ${unitB}` : `${a} ${unitA}`);

/** The remaining time, rounded to what an estimate can know. */
export function timeLeft(seconds) {
  if (!finite(seconds)) return "";
  if (seconds < 10) return "a few seconds left";
  if (seconds < 55) return `about ${Math.ceil(seconds / 5) * 5} s left`;
  if (seconds < 5400) return `about ${Math.max(1, Math.round(seconds / 60))} min left`;
  return `about ${decimal(seconds / 3600)} h left`;
}

export function ago(iso, now = Date.now()) {
  const s = (now - Date.parse(iso)) / 1000;
  if (!finite(s)) return NONE;
  if (s < 10) return "just now";
  if (s < 60) return `${Math.floor(s)} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ago`;
  return `${Math.floor(s / 86400)} d ago`;
}

export function secondsBetween(from, to) {
  return ((to ? Date.parse(to) : Date.now()) - Date.parse(from)) / 1000;
}

export function dateTime(iso) {
  return iso ? new Date(iso).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" }) : NONE;
}

export const timeOfDay = (iso) => new Date(iso).toLocaleTimeString("en-GB");

const finite = (value) => typeof value === "number" && Number.isFinite(value);
const minus = (text) => text.replaceAll("-", "−");
