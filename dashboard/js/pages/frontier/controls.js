// What is asked for: axes, limits, who qualifies.

import { scale } from "../../charts/scale.js";
import { segmentedControl, smallButton } from "../../components.js";
import { el, setChildren, setText } from "../../dom.js";
import { bytes, counted, ms, percent, readable, si } from "../../format.js";

const sayPercent = (value) => percent(value, 1);
export const X = {
  latency_ms: { label: "Latency", axis: "Latency, p50", unit: "ms", by: 1, say: ms, least: "fastest" },
  size_bytes: { label: "Size", axis: "Size", unit: "MB", by: 1e6, say: bytes, least: "smallest" },
  macs: { label: "MACs", axis: "Multiply-accumulates", unit: "M", by: 1e6, say: si, least: "cheapest" },
};
export const Y = {
  top1: { label: "Top-1", axis: "Top-1, test", say: sayPercent },
  agreement: { label: "Agreement", axis: "Agreement with the teacher", say: sayPercent },
};

/** A mark on an axis: no unit, it is in the axis' name. */
export const tick = ({ by = 1 }, value) => String(Number((value / by).toPrecision(6)));

/** A student is known by its job, a teacher by its model. */
export const keyOf = (point) => (point.role === "teacher" ? (point.model ?? `teacher of ${point.job}`) : point.job);
export const isStudent = (point) => point.role === "student";

export function devicesOf(data) {
  const counts = new Map();
  for (const point of data) counts.set(point.device, (counts.get(point.device) ?? 0) + (isStudent(point) ? 1 : 0));
  return [...counts].sort((a, b) => b[1] - a[1] || String(a[0]).localeCompare(String(b[0]))).map(([name]) => name);
}

/** What is shown: latencies of one device only, for those of two cannot be compared. By x, the better first. */
export function shownOf(answer, device) {
  const data = answer.x === "latency_ms" ? answer.data.filter((point) => point.device === device) : answer.data;
  return data.filter(({ x, y }) => Number.isFinite(x) && Number.isFinite(y)).sort((a, b) => a.x - b.x || b.y - a.y);
}

export const qualifies = (point, { maxX, minY }) => (maxX === null || point.x <= maxX) && (minY === null || point.y >= minY);

/** "4 of 31 students qualify; the smallest is A (78 kB), the best is B (94.1 %)." */
export function verdict(points, limits, x, y) {
  const students = points.filter(isStudent);
  const good = students.filter((point) => qualifies(point, limits));
  const of = counted(students.length, "student");
  if (!good.length) return `None of ${of} qualifies: allow more, or ask for less.`;
  const least = good[0];
  const best = good.reduce((a, b) => (b.y > a.y ? b : a));
  const verb = good.length === 1 ? "qualifies" : "qualify";
  const named = least === best
    ? `${good.length === 1 ? "it" : `the ${X[x].least} and the best`} is ${least.name} (${X[x].say(least.x)}, ${Y[y].say(least.y)})`
    : `the ${X[x].least} is ${least.name} (${X[x].say(least.x)}), the best is ${best.name} (${Y[y].say(best.y)})`;
  return `${good.length} of ${of} ${verb}; ${named}.`;
}

export function pointWords(point, x, y) {
  const what = !isStudent(point) ? "teacher" : point.on_frontier ? "on the frontier" : "dominated";
  return `${point.name}: ${X[x].label.replace(/^[LS]/, (first) => first.toLowerCase())} ${X[x].say(point.x)}, ${Y[y].label.toLowerCase()} ${Y[y].say(point.y)}, ${what}`;
}

export function asked(query) {
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
  const where = field("Measured on", device);
  const x = choice("Along", X, (name) => onChange({ x: name }));
  const y = choice("Up", Y, (name) => onChange({ y: name }));
  where.hidden = true;
  return {
    node: el("div", { class: "frontier-controls" }, field("Data set", dataset), y.node, x.node, where),
    datasets(datasets, chosen) {
      const known = datasets.some(({ id }) => id === chosen);
      setChildren(dataset, chosen && !known ? el("option", { value: chosen }, chosen) : null, datasets.map(({ id, name }) => el("option", { value: id }, name)));
      dataset.value = chosen ?? "";
    },
    /** With one device there is nothing to choose. */
    devices(devices, chosen) {
      where.hidden = devices.length < 2;
      setChildren(device, devices.map((name) => el("option", { value: name }, name)));
      device.value = chosen ?? "";
    },
    mark(state) {
      x.mark(state.x);
      y.mark(state.y);
    },
  };
}

const field = (name, select) => el("div", { class: "field" }, el("label", { for: select.id }, name), select);

function choice(name, list, onChoose) {
  const labels = Object.fromEntries(Object.entries(list).map(([id, { label }]) => [id, label]));
  const { node, mark } = segmentedControl(name, labels, onChoose);
  return { node: el("div", { class: "field" }, el("span", { class: "label", "aria-hidden": "true" }, name), node), mark };
}

export const methodWords = ({ methods }) => methods.map((each) => readable(each)).join(" + ") || "–";

const STEPS = 500;
const round = (value) => Number(value.toPrecision(3));

export function limits(onChange) {
  let now = { maxX: null, minY: null };
  let view = null;
  let sx = null;
  let sy = null;
  const said = el("p", { class: "verdict", role: "status" });
  const most = one("most", (text) => tell({ maxX: text === "" ? null : Number(text) * X[view.x].by }), (part) => tell({ maxX: part >= STEPS ? null : round(sx.value(part / STEPS)) }));
  const least = one("least", (text) => tell({ minY: text === "" ? null : Number(text) }), (part) => tell({ minY: part <= 0 ? null : round(sy.value(part / STEPS)) }));
  const clear = smallButton("No limits", () => tell({ maxX: null, minY: null }));
  const node = el("div", { class: "frontier-limits" }, most.node, least.node, clear, said);

  function tell(change) {
    now = { ...now, ...change };
    onChange(now);
  }

  return {
    node,
    say: (text) => setText(said, text),
    update(next) {
      if (view?.points !== next.points) {
        sx = scale(next.points.map((point) => point.x), { logarithmic: true });
        sy = scale(next.points.map((point) => point.y));
      }
      view = next;
      now = next.limits;
      const { by, label, unit, say } = X[view.x];
      most.show(`${label} at most`, unit, now.maxX === null ? "" : String(round(now.maxX / by)), now.maxX === null ? STEPS : STEPS * sx.at(now.maxX), now.maxX === null ? "any" : say(now.maxX));
      least.show(`${Y[view.y].label} at least`, "%", now.minY === null ? "" : String(now.minY), now.minY === null ? 0 : STEPS * sy.at(now.minY), now.minY === null ? "any" : Y[view.y].say(now.minY));
      clear.hidden = now.maxX === null && now.minY === null;
    },
  };
}

function one(id, onNumber, onPart) {
  const label = el("label", { for: `${id}-number` });
  const number = el("input", { class: "input", id: `${id}-number`, type: "number", min: "0", step: "any", inputmode: "decimal", placeholder: "any", on: { input: () => number.validity.valid && onNumber(number.value) } });
  const unit = el("span", { class: "muted" });
  const slider = el("input", { type: "range", min: "0", max: String(STEPS), step: "1", on: { input: () => onPart(Number(slider.value)) } });
  return {
    node: el("div", { class: "one-limit" }, label, el("span", { class: "typed" }, number, unit), slider),
    show(name, unitText, text, part, words) {
      setText(label, name);
      setText(unit, unitText);
      slider.setAttribute("aria-label", `${name}, slider`);
      slider.setAttribute("aria-valuetext", words);
      // Whoever is typing or sliding is not corrected meanwhile.
      if (document.activeElement !== number && number.value !== text) number.value = text;
      if (document.activeElement === slider && text !== "") return;
      const edge = text === "" ? 0 : 1; // the ends mean "any": from a limit there must be a way to them
      slider.value = String(Math.round(Math.min(STEPS - edge, Math.max(edge, part))));
    },
  };
}
