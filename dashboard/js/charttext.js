// What a chart says, in words and as a table.

import { AXES } from "./curves.js";
import { el } from "./dom.js";
import { duration, fixed } from "./format.js";

const ROWS = 100;

/** "Student rose from 20.1 to 93.9 over 12 epochs, best 93.9 at epoch 11. Teacher 93.8." */
export function summarise(chart, { axis, series, data }) {
  return series.map(({ label, level, part }, index) => {
    if (part) return "";
    const column = data[index + 1];
    const measured = column.map((value, at) => at).filter((at) => Number.isFinite(column[at]));
    const first = column[measured[0]];
    const last = column[measured.at(-1)];
    if (level) return `${label} ${chart.format(last)}.`;
    if (measured.length === 1) return `${label} ${chart.format(last)} so far.`;
    const verb = first === last ? "stayed at" : last > first ? "rose from" : "fell from";
    const way = first === last ? chart.format(last) : `${chart.format(first)} to ${chart.format(last)}`;
    return `${label} ${verb} ${way}${best(chart, axis, data[0], column, measured)}.`;
  }).filter(Boolean).join(" ");
}

function best(chart, axis, xs, column, measured) {
  if (!chart.best || measured.length < 3) return "";
  const value = chart.best(...measured.slice(-4000).map((at) => column[at]));
  const at = column.indexOf(value);
  return `, best ${chart.format(value)} at ${axis === "wall_s" ? "" : `${AXES[axis].toLowerCase()} `}${position(axis, xs[at])}`;
}

/** Rows where something was measured, thinned evenly when there are many. */
export function twin(chart, { axis, series, data }) {
  const curves = series.map((each, index) => ({ ...each, column: data[index + 1] })).filter(({ level }) => !level);
  const measured = data[0].map((_, at) => at).filter((at) => curves.some(({ column }) => Number.isFinite(column[at])));
  const every = Math.max(1, Math.ceil(measured.length / ROWS));
  const rows = measured.filter((_, at) => at % every === 0 || at === measured.length - 1);
  const head = [AXES[axis], ...series.map(({ label }) => label)];
  return [
    every > 1 ? el("p", { class: "muted" }, `Showing ${rows.length} of ${measured.length.toLocaleString("en-GB")} points.`) : null,
    el("table", { class: "plain" },
      el("caption", { class: "hidden" }, chart.title),
      el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, rows.map((at) => el("tr", {},
        el("th", { scope: "row" }, position(axis, data[0][at])),
        series.map((_, index) => el("td", {}, chart.format(near(data[index + 1], at)))))))),
  ];
}

/** A value of the x axis in words. */
export function position(axis, value) {
  if (axis === "wall_s") return duration(value);
  return axis === "epoch" ? fixed(value, Number.isInteger(value) ? 0 : 1) : String(value);
}

/** The value at a place, or the last one before it: curves are not measured at the same steps. */
export function near(column, at) {
  for (let place = at; place >= 0; place -= 1) if (Number.isFinite(column[place])) return column[place];
  return null;
}
