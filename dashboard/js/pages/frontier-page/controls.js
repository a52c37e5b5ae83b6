// The controls of the frontier: data set, axes, device, limits.

import { scale } from "../../charts/scale.js";
import { labeledInput, segmentedControl, smallButton } from "../../components.js";
import { el, setChildren, setText } from "../../dom.js";
import { bytes, pluralize, ms, percent, readable, si } from "../../format.js";

const formatPercent = (value) => percent(value, 1);
export const X = {
  latency_ms: { label: "Latency", axis: "Latency, p50", unit: "ms", scale: 1, format: ms, best: "fastest" },
  size_bytes: { label: "Size", axis: "Size", unit: "MB", scale: 1e6, format: bytes, best: "smallest" },
  macs: { label: "MACs", axis: "Multiply-accumulates", unit: "M", scale: 1e6, format: si, best: "cheapest" },
};
export const Y = {
  top1: { label: "Top-1", axis: "Top-1, test", format: formatPercent },
  agreement: { label: "Agreement", axis: "Agreement with the teacher", format: formatPercent },
};

/** The text of a tick, in the unit of the axis. */
export const tick = ({ scale: factor = 1 }, value) => String(Number((value / factor).toPrecision(6)));

/** The key of a point: a student's job or a teacher's model. */
export const keyOf = (point) => (point.role === "teacher" ? (point.model ?? `teacher of ${point.job}`) : point.job);
export const isStudent = (point) => point.role === "student";

/** The point with words for a device that the report does not name. */
export const nameDevice = (point) => ({ ...point, device: point.device ?? "an unknown device" });

export function devicesOf(data) {
  const counts = new Map();
  for (const point of data) counts.set(point.device, (counts.get(point.device) ?? 0) + (isStudent(point) ? 1 : 0));
  return [...counts].sort((a, b) => b[1] - a[1] || String(a[0]).localeCompare(String(b[0]))).map(([name]) => name);
}

/** The points by x, the best first: latencies of one device only. */
export function pointsOf(frontier, device) {
  const data = frontier.x === "latency_ms" ? frontier.data.filter((point) => point.device === device) : frontier.data;
  return data.filter(({ x, y }) => Number.isFinite(x) && Number.isFinite(y)).sort((a, b) => a.x - b.x || b.y - a.y);
}

export const qualifies = (point, { maxX, minY }) => (maxX === null || point.x <= maxX) && (minY === null || point.y >= minY);

/** "4 of 31 students qualify; the smallest is A (78 kB), …" */
export function verdict(points, limits, x, y) {
  const students = points.filter(isStudent);
  const qualified = students.filter((point) => qualifies(point, limits));
  const of = pluralize(students.length, "student");
  if (!qualified.length) return `None of ${of} qualifies: relax a limit.`;
  const cheapest = qualified[0];
  const best = qualified.reduce((a, b) => (b.y > a.y ? b : a));
  const verb = qualified.length === 1 ? "qualifies" : "qualify";
  const names = cheapest === best
    ? `${qualified.length === 1 ? "it" : `the ${X[x].best} and the best`} is ${cheapest.name} (${X[x].format(cheapest.x)}, ${Y[y].format(cheapest.y)})`
    : `the ${X[x].best} is ${cheapest.name} (${X[x].format(cheapest.x)}), the best is ${best.name} (${Y[y].format(best.y)})`;
  return `${qualified.length} of ${of} ${verb}; ${names}.`;
}

export function pointWords(point, x, y) {
  const kind = !isStudent(point) ? "teacher" : point.on_frontier ? "on the frontier" : "dominated";
  return `${point.name}: ${X[x].label.replace(/^[LS]/, (first) => first.toLowerCase())} ${X[x].format(point.x)}, ${Y[y].label.toLowerCase()} ${Y[y].format(point.y)}, ${kind}`;
}

/** The state of the page by its address. */
export function parseQuery(query) {
  const number = (name) => (query.get(name) && Number.isFinite(Number(query.get(name))) ? Number(query.get(name)) : null);
  return {
    dataset: query.get("dataset"),
    x: query.get("x") in X ? query.get("x") : "latency_ms",
    y: query.get("y") in Y ? query.get("y") : "top1",
    limits: { maxX: number("max_x"), minY: number("min_y") },
    device: query.get("device"),
    open: query.get("open"),
    jobs: [...new Set((query.get("jobs") ?? "").split(",").filter(Boolean))],
    sort: query.get("sort") ?? "x",
  };
}

export function controls(onChange) {
  const dataset = el("select", { class: "input", id: "frontier-dataset", on: { change: () => onChange({ dataset: dataset.value }) } });
  const device = el("select", { class: "input", id: "frontier-device", on: { change: () => onChange({ device: device.value }) } });
  const deviceField = labeledInput("Measured on", device);
  const x = choice("X axis", X, (name) => onChange({ x: name }));
  const y = choice("Y axis", Y, (name) => onChange({ y: name }));
  deviceField.hidden = true;
  return {
    node: el("div", { class: "frontier-controls" }, labeledInput("Data set", dataset), y.node, x.node, deviceField),
    datasets(datasets, selected) {
      const listed = datasets.some(({ id }) => id === selected);
      setChildren(dataset, selected && !listed ? el("option", { value: selected }, selected) : null, datasets.map(({ id, name }) => el("option", { value: id }, name)));
      dataset.value = selected ?? "";
    },
    devices(devices, selected) {
      deviceField.hidden = devices.length < 2;
      setChildren(device, devices.map((name) => el("option", { value: name }, name)));
      device.value = selected ?? "";
    },
    mark(state) {
      x.mark(state.x);
      y.mark(state.y);
    },
  };
}

function choice(name, list, onChoose) {
  const labels = Object.fromEntries(Object.entries(list).map(([id, { label }]) => [id, label]));
  const { node, mark } = segmentedControl(name, labels, onChoose);
  return { node: el("div", { class: "field" }, el("span", { class: "label", "aria-hidden": "true" }, name), node), mark };
}

export const methodWords = ({ methods }) => methods.map(readable).join(" + ") || "–";

const STEPS = 500;
const round = (value) => Number(value.toPrecision(3));

export function limits(onChange) {
  let values = { maxX: null, minY: null };
  let view = null;
  let sx = null;
  let sy = null;
  const verdictText = el("p", { class: "verdict", role: "status" });
  const maximum = limit("max-x", (text) => set({ maxX: text === "" ? null : Number(text) * X[view.x].scale }), (step) => set({ maxX: step >= STEPS ? null : round(sx.value(step / STEPS)) }));
  const minimum = limit("min-y", (text) => set({ minY: text === "" ? null : Number(text) }), (step) => set({ minY: step <= 0 ? null : round(sy.value(step / STEPS)) }));
  const clear = smallButton("No limits", () => set({ maxX: null, minY: null }));
  const node = el("div", { class: "frontier-limits" }, maximum.node, minimum.node, clear, verdictText);

  function set(change) {
    values = { ...values, ...change };
    onChange(values);
  }

  return {
    node,
    showVerdict: (text) => setText(verdictText, text),
    update(next) {
      if (view?.points !== next.points) {
        sx = scale(next.points.map((point) => point.x), { logarithmic: true });
        sy = scale(next.points.map((point) => point.y));
      }
      view = next;
      values = next.limits;
      const { scale: factor, label, unit, format } = X[view.x];
      maximum.show(`${label} at most`, unit, values.maxX === null ? "" : String(round(values.maxX / factor)), values.maxX === null ? STEPS : STEPS * sx.at(values.maxX), values.maxX === null ? "any" : format(values.maxX));
      minimum.show(`${Y[view.y].label} at least`, "%", values.minY === null ? "" : String(values.minY), values.minY === null ? 0 : STEPS * sy.at(values.minY), values.minY === null ? "any" : Y[view.y].format(values.minY));
      clear.hidden = values.maxX === null && values.minY === null;
    },
  };
}

// A limit as a number field and a slider that show the same value.
function limit(id, onNumber, onSlide) {
  const label = el("label", { for: `${id}-number` });
  const number = el("input", { class: "input", id: `${id}-number`, type: "number", min: "0", step: "any", inputmode: "decimal", placeholder: "any", on: { input: () => number.validity.valid && onNumber(number.value) } });
  const unit = el("span", { class: "muted" });
  const slider = el("input", { type: "range", min: "0", max: String(STEPS), step: "1", on: { input: () => onSlide(Number(slider.value)) } });
  return {
    node: el("div", { class: "limit-field" }, label, el("span", { class: "limit-number" }, number, unit), slider),
    show(name, unitText, text, step, words) {
      setText(label, name);
      setText(unit, unitText);
      slider.setAttribute("aria-label", `${name}, slider`);
      slider.setAttribute("aria-valuetext", words);
      // Do not overwrite the control in use.
      if (document.activeElement !== number && number.value !== text) number.value = text;
      if (document.activeElement === slider && text !== "") return;
      const edge = text === "" ? 0 : 1; // the ends of the slider mean "any"
      slider.value = String(Math.round(Math.min(STEPS - edge, Math.max(edge, step))));
    },
  };
}
