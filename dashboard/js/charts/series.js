// The curves of a job, in bounded memory; and what a chart says of them, in words and as a table.

import { el } from "../dom.js";
import { duration, fixed, integer } from "../format.js";

const MOST = 4000;
export const AXES = { step: "Step", epoch: "Epoch", wall_s: "Time" };

class Curve {
  constructor() {
    this.step = [];
    this.epoch = [];
    this.wall_s = [];
    this.value = [];
  }

  get length() {
    return this.value.length;
  }

  add(point, value) {
    // A resumed run makes some steps again: the later run's are the ones that count.
    while (this.length && this.step.at(-1) >= point.step) for (const column of this.columns) column.pop();
    this.step.push(point.step);
    this.epoch.push(point.epoch);
    this.wall_s.push(point.wall_s);
    this.value.push(Number.isFinite(value) ? value : null);
    if (this.length > MOST) this.thin();
  }

  get columns() {
    return [this.step, this.epoch, this.wall_s, this.value];
  }

  thin() {
    const kept = [];
    for (let start = 0; start < this.length; start += 4) {
      const four = Array.from({ length: Math.min(4, this.length - start) }, (_, at) => start + at);
      four.sort((a, b) => (this.value[a] ?? -Infinity) - (this.value[b] ?? -Infinity));
      kept.push(...new Set([four[0], four.at(-1)].sort((a, b) => a - b)));
    }
    for (const name of ["step", "epoch", "wall_s", "value"]) this[name] = kept.map((at) => this[name][at]);
  }
}

export class Curves {
  constructor() {
    this.byKey = new Map();
  }

  add(data) {
    for (const [key, value] of Object.entries(data.values)) {
      if (!this.byKey.has(key)) this.byKey.set(key, new Curve());
      this.byKey.get(key).add(data, value);
    }
  }

  /** Take the server's own columns of one axis: {key: {axis: [], value: []}}. The other axes of a curve fit to them. */
  load(axis, columns) {
    for (const [key, column] of Object.entries(columns)) {
      const curve = this.byKey.get(key) ?? new Curve();
      if (curve.length !== column.value.length) for (const name of Object.keys(AXES)) curve[name] = [];
      curve[axis] = column[axis];
      curve.value = column.value;
      this.byKey.set(key, curve);
    }
  }

  has(axis) {
    return [...this.byKey.values()].every((curve) => curve[axis].length === curve.length);
  }

  get points() {
    return [...this.byKey.values()].reduce((sum, curve) => sum + curve.value.length, 0);
  }

  after(step, axis) {
    for (const key of ["train/loss", "baseline/train/loss"]) {
      const curve = this.byKey.get(key);
      const at = curve?.step.findIndex((each) => each > step) ?? -1;
      if (at >= 0) return curve[axis][at];
    }
    return null;
  }

  get(key) {
    return this.byKey.get(key);
  }

  keys(prefix) {
    return [...this.byKey.keys()].filter((key) => key.startsWith(prefix));
  }

  /** One column of x and one of y for each key. A key in `levels` is drawn from end to end. */
  aligned(keys, axis, levels = []) {
    const curves = keys.map((key) => this.byKey.get(key));
    const xs = new Set();
    curves.forEach((curve, at) => levels.includes(keys[at]) || curve?.[axis].forEach((x) => xs.add(x)));
    const sorted = [...xs].sort((a, b) => a - b);
    const place = new Map(sorted.map((x, at) => [x, at]));
    return [sorted, ...curves.map((curve, at) => {
      if (levels.includes(keys[at])) return sorted.map(() => curve?.value.at(-1) ?? null);
      const ys = new Array(sorted.length).fill(undefined); // undefined: not measured here; null: a gap
      curve?.[axis].forEach((x, from) => { ys[place.get(x)] = curve.value[from]; });
      return ys;
    })];
  }
}

const ROWS = 100;

export const formatValue = (chart, each, value) => (each.format ?? chart.format)(value);

/** "Student rose from 20.1 to 93.9 over 12 epochs, best 93.9 at epoch 11. Teacher 93.8. Run 2 begins at epoch 4." */
export function summarize(chart, { axis, series, data, marks = [] }) {
  const told = series.map((each, index) => {
    if (each.part) return "";
    const column = data[index + 1];
    const text = (value) => formatValue(chart, each, value);
    const measured = column.map((value, at) => at).filter((at) => Number.isFinite(column[at]));
    const first = column[measured[0]];
    const last = column[measured.at(-1)];
    if (each.level) return `${each.label} ${text(last)}.`;
    if (measured.length === 1) return `${each.label} ${text(last)} so far.`;
    // What has no best goes up and down: its ends alone would say nothing.
    if (text(first) === text(last) || !(each.best ?? chart.best)) return level(each.label, column, text, last);
    const most = best(chart, each, axis, data[0], column, measured);
    return `${each.label} ${last > first ? "rose" : "fell"} from ${text(first)} to ${text(last)}${most}.`;
  });
  return [...told, ...marks.map(({ x, label }) => `${label} begins at ${place(axis, x)}.`)].filter(Boolean).join(" ");
}

function level(label, column, text, last) {
  const [low, high] = column.reduce(([least, most], one) => (Number.isFinite(one) ? [Math.min(least, one), Math.max(most, one)] : [least, most]), [last, last]);
  return text(low) === text(high) ? `${label} stayed at ${text(last)}.` : `${label} lay between ${text(low)} and ${text(high)}, last ${text(last)}.`;
}

function best(chart, each, axis, xs, column, measured) {
  const pick = each.best ?? chart.best;
  if (!pick || measured.length < 3) return "";
  const value = pick(...measured.slice(-4000).map((at) => column[at]));
  return `, best ${formatValue(chart, each, value)} at ${place(axis, xs[column.indexOf(value)])}`;
}

export function dataTable(chart, { axis, series, data }) {
  const curves = series.map((each, index) => ({ ...each, column: data[index + 1] })).filter(({ level }) => !level);
  const measured = data[0].map((_, at) => at).filter((at) => curves.some(({ column }) => Number.isFinite(column[at])));
  const every = Math.max(1, Math.ceil(measured.length / ROWS));
  const rows = measured.filter((_, at) => at % every === 0 || at === measured.length - 1);
  const head = [AXES[axis], ...series.map(({ label }) => label)];
  return [
    every > 1 ? el("p", { class: "muted" }, `Showing ${rows.length} of ${integer(measured.length)} points.`) : null,
    el("table", { class: "plain" },
      el("caption", { class: "hidden" }, chart.title),
      el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, rows.map((at) => el("tr", {},
        el("th", { scope: "row" }, position(axis, data[0][at])),
        series.map((each, index) => el("td", {}, formatValue(chart, each, valueAt(data[index + 1], at)))))))),
  ];
}

export function position(axis, value) {
  if (axis === "wall_s") return duration(value);
  return axis === "epoch" ? fixed(value, Number.isInteger(value) ? 0 : 1) : String(value);
}

const place = (axis, value) => `${axis === "wall_s" ? "" : `${AXES[axis].toLowerCase()} `}${position(axis, value)}`;

/** The value at a place, or the last one before it: curves are not measured at the same steps. */
export function valueAt(column, at) {
  for (let from = at; from >= 0; from -= 1) if (Number.isFinite(column[from])) return column[from];
  return null;
}
