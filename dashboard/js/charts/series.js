// The curves of a job in bounded memory; their summary in words and their table.

import { el } from "../dom.js";
import { duration, decimal, integer } from "../format.js";

const MAX_POINTS = 4000;
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
    // A resumed run repeats some steps; its points replace those of the earlier run.
    while (this.length && this.step.at(-1) >= point.step) for (const column of this.columns) column.pop();
    this.step.push(point.step);
    this.epoch.push(point.epoch);
    this.wall_s.push(point.wall_s);
    this.value.push(Number.isFinite(value) ? value : null);
    if (this.length > MAX_POINTS) this.thin();
  }

  get columns() {
    return [this.step, this.epoch, this.wall_s, this.value];
  }

  // Of four points the least and the greatest stay, so that peaks survive.
  thin() {
    const indexes = [];
    for (let start = 0; start < this.length; start += 4) {
      const four = Array.from({ length: Math.min(4, this.length - start) }, (_, offset) => start + offset);
      four.sort((a, b) => (this.value[a] ?? -Infinity) - (this.value[b] ?? -Infinity));
      indexes.push(...new Set([four[0], four.at(-1)].sort((a, b) => a - b)));
    }
    for (const name of ["step", "epoch", "wall_s", "value"]) this[name] = indexes.map((index) => this[name][index]);
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

  /** Set the server's columns of one axis: {key: {[axis]: [], value: []}}. Other axes stay if they have as many points. */
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

  /** The position of the first point after `step`, or null. */
  firstAfter(step, axis) {
    for (const key of ["train/loss", "baseline/train/loss"]) {
      const curve = this.byKey.get(key);
      const index = curve?.step.findIndex((other) => other > step) ?? -1;
      if (index >= 0) return curve[axis][index];
    }
    return null;
  }

  get(key) {
    return this.byKey.get(key);
  }

  keys(prefix) {
    return [...this.byKey.keys()].filter((key) => key.startsWith(prefix));
  }

  /** Columns for a plot: the x of all curves, then the y of every key. A key in `levels` has one value at every x. */
  align(keys, axis, levels = []) {
    const curves = keys.map((key) => this.byKey.get(key));
    const xs = new Set();
    curves.forEach((curve, index) => levels.includes(keys[index]) || curve?.[axis].forEach((x) => xs.add(x)));
    const sorted = [...xs].sort((a, b) => a - b);
    const indexOf = new Map(sorted.map((x, index) => [x, index]));
    return [sorted, ...curves.map((curve, column) => {
      if (levels.includes(keys[column])) return sorted.map(() => curve?.value.at(-1) ?? null);
      const ys = new Array(sorted.length).fill(undefined); // undefined: not measured; null: a gap in the line
      curve?.[axis].forEach((x, index) => { ys[indexOf.get(x)] = curve.value[index]; });
      return ys;
    })];
  }
}

const MAX_ROWS = 100;

export const formatValue = (chart, line, value) => (line.format ?? chart.format)(value);

/** "Student rose from 20.1 to 93.9 over 12 epochs, best 93.9 at epoch 11. Teacher 93.8. Run 2 begins at epoch 4." */
export function summarize(chart, { axis, series, data, marks = [] }) {
  const sentences = series.map((line, index) => {
    if (line.part) return "";
    const column = data[index + 1];
    const text = (value) => formatValue(chart, line, value);
    const measured = finiteIndexes(column);
    const first = column[measured[0]];
    const last = column[measured.at(-1)];
    if (line.level) return `${line.label} ${text(last)}.`;
    if (measured.length === 1) return `${line.label} ${text(last)} so far.`;
    // A curve without a best value fluctuates: its range says more than its ends.
    if (text(first) === text(last) || !(line.best ?? chart.best)) return rangeWords(line.label, column, text, last);
    const best = bestWords(chart, line, axis, data[0], column, measured);
    return `${line.label} ${last > first ? "rose" : "fell"} from ${text(first)} to ${text(last)}${best}.`;
  });
  return [...sentences, ...marks.map(({ x, label }) => `${label} begins at ${xWords(axis, x)}.`)].filter(Boolean).join(" ");
}

const finiteIndexes = (column) => [...column.keys()].filter((index) => Number.isFinite(column[index]));

function rangeWords(label, column, text, last) {
  const [low, high] = column.reduce(([min, max], value) => (Number.isFinite(value) ? [Math.min(min, value), Math.max(max, value)] : [min, max]), [last, last]);
  return text(low) === text(high) ? `${label} stayed at ${text(last)}.` : `${label} lay between ${text(low)} and ${text(high)}, last ${text(last)}.`;
}

function bestWords(chart, line, axis, xs, column, measured) {
  const pick = line.best ?? chart.best;
  if (!pick || measured.length < 3) return "";
  const value = pick(...measured.slice(-MAX_POINTS).map((index) => column[index]));
  return `, best ${formatValue(chart, line, value)} at ${xWords(axis, xs[column.indexOf(value)])}`;
}

/** The chart as a table of at most 100 rows. */
export function dataTable(chart, { axis, series, data }) {
  const curves = series.map((line, index) => ({ ...line, column: data[index + 1] })).filter(({ level }) => !level);
  const measured = [...data[0].keys()].filter((index) => curves.some(({ column }) => Number.isFinite(column[index])));
  const stride = Math.max(1, Math.ceil(measured.length / MAX_ROWS));
  const rows = measured.filter((_, index) => index % stride === 0 || index === measured.length - 1);
  const header = [AXES[axis], ...series.map(({ label }) => label)];
  return [
    stride > 1 ? el("p", { class: "muted" }, `Showing ${rows.length} of ${integer(measured.length)} points.`) : null,
    el("table", { class: "plain" },
      el("caption", { class: "hidden" }, chart.title),
      el("thead", {}, el("tr", {}, header.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, rows.map((row) => el("tr", {},
        el("th", { scope: "row" }, position(axis, data[0][row])),
        series.map((line, index) => el("td", {}, formatValue(chart, line, valueAt(data[index + 1], row)))))))),
  ];
}

export function position(axis, value) {
  if (axis === "wall_s") return duration(value);
  return axis === "epoch" ? decimal(value, Number.isInteger(value) ? 0 : 1) : String(value);
}

const xWords = (axis, value) => `${axis === "wall_s" ? "" : `${AXES[axis].toLowerCase()} `}${position(axis, value)}`;

/** The value at an index, or the last one before it: curves are measured at different steps. */
export function valueAt(column, index) {
  for (let i = index; i >= 0; i -= 1) if (Number.isFinite(column[i])) return column[i];
  return null;
}
