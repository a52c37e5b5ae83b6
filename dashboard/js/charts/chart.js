// A chart as a figure with legend, summary in words, lines and table. Lines are drawn only while they are in view.

import { swatch, toggleButton } from "../components.js";
import { el, setChildren, setText } from "../dom.js";
import { createPlot } from "./plot.js";
import { AXES, dataTable, formatValue, position, summarize, valueAt } from "./series.js";

/** Arrow keys move a cursor. `text(index)` is read aloud; `move(index)` shows the cursor, `move(null)` hides it. */
function cursorKeys(plot, { length, text, move }) {
  let index = null;
  const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };

  plot.addEventListener("keydown", (event) => {
    if (!(event.key in steps) || !length()) return;
    event.preventDefault();
    const last = length() - 1;
    index = Math.min(last, Math.max(0, (index ?? last) + steps[event.key]));
    show();
  });
  plot.addEventListener("focus", () => {
    if (!length()) return;
    index ??= length() - 1;
    show();
  });
  plot.addEventListener("blur", () => move(null));

  function show() {
    plot.setAttribute("aria-valuemax", length() - 1);
    plot.setAttribute("aria-valuenow", index);
    plot.setAttribute("aria-valuetext", text(index));
    move(index);
  }
  return { reset: () => { index = null; } };
}

const VIEW_MARGIN = "300px";

/** `chart`: {id, title, unit, format, series(curves) -> lines, min?, max?, best?, log?, panes?}. A line: {key, label, color,
 * dash, width, pane?, level?, part?}. `level`: the last value at every x; `part`: not in the summary. */
export function chartFigure(chart) {
  const id = `chart-${chart.id}`;
  const summary = el("p", { class: "summary" });
  const legend = el("ul", { class: "legend", "aria-hidden": "true" });
  const plot = el("div", { class: "plot", tabindex: "0", role: "slider", "aria-label": `${chart.title}: move along the curve`, "aria-valuemin": "0", "aria-valuemax": "0", "aria-valuenow": "0" });
  const panes = (chart.panes ?? [{}]).map((options, index, list) => createPane(plot, { ...chart, ...options }, index, list.length));
  const rows = el("div", { class: "data-table", tabindex: "0", role: "region", "aria-label": `${chart.title} as a table` });
  const details = el("details", { on: { toggle: () => shown && fillTable() } }, el("summary", {}, "View as table"), rows);
  const logButton = chart.log ? toggleButton("Log scale", false, setLog) : null;
  const header = el("div", { class: "section-head" }, el("h3", { id }, chart.title, chart.unit ? el("span", { class: "muted" }, ` · ${chart.unit}`) : null), logButton);
  const node = el("figure", { class: "panel chart", "aria-labelledby": id, hidden: true }, el("figcaption", {}, header, legend, summary), plot, details);
  const values = [];
  let shown = null;
  let legendKey = "";
  let inView = false;
  let logarithmic = false;
  let cursor = null;

  const observer = new IntersectionObserver((entries) => {
    inView = entries.at(-1).isIntersecting;
    if (inView && shown) draw();
  }, { rootMargin: VIEW_MARGIN });
  observer.observe(plot);

  function setLog(on) {
    logarithmic = on;
    if (shown) draw();
  }

  function update(curves, axis, marks = []) {
    const series = chart.series(curves).filter(({ key }) => curves.get(key)?.value.some((value) => value !== null));
    if (!series.some(({ level }) => !level)) return;
    const data = curves.align(series.map(({ key }) => key), axis, series.filter(({ level }) => level).map(({ key }) => key));
    shown = { curves, axis, series, data, marks };
    node.hidden = false;
    const now = JSON.stringify([axis, series.map(({ key }) => key)]);
    if (now !== legendKey) {
      legendKey = now;
      cursor = null;
      keys.reset();
      drawLegend(series);
    }
    showValues();
    setText(summary, summarize(chart, shown));
    if (details.open) fillTable();
    if (inView) draw();
  }

  const draw = () => panes.forEach((pane) => pane.draw(shown, logarithmic, onCursor));

  function onCursor(index) {
    cursor = index;
    showValues();
  }

  function drawLegend(series) {
    values.length = 0;
    setChildren(legend, series.map(({ label, color, dash }) => {
      values.push(el("b"));
      return el("li", {}, swatch(color, dash), label, " ", values.at(-1));
    }));
  }

  function showValues() {
    shown.series.forEach((line, index) => {
      const column = shown.data[index + 1];
      const value = cursor === null ? column.findLast((y) => Number.isFinite(y)) : valueAt(column, cursor);
      setText(values[index], formatValue(chart, line, value));
    });
  }

  function cursorText(at) {
    const parts = shown.series.map((line, index) => `${line.label} ${formatValue(chart, line, valueAt(shown.data[index + 1], at))}`);
    return `${AXES[shown.axis]} ${position(shown.axis, shown.data[0][at])}: ${parts.join(", ")}`;
  }

  const fillTable = () => setChildren(rows, dataTable(chart, shown));
  const keys = cursorKeys(plot, {
    length: () => shown?.data[0].length ?? 0,
    text: cursorText,
    move: (index) => panes.forEach((pane) => pane.point(index)),
  });

  return {
    node,
    update,
    destroy() {
      observer.disconnect();
      panes.forEach((pane) => pane.destroy());
    },
  };
}

// One of the plots of a figure.
function createPane(plot, chart, at, count) {
  const container = count === 1 ? plot : el("div", { class: "pane" });
  const name = count === 1 ? null : el("p", { class: "pane-name" }, chart.name);
  if (count > 1) plot.append(name, container);
  const options = { ...chart, share: count, bare: at < count - 1 };
  let current = null;

  return {
    draw(shown, logarithmic, onCursor) {
      const lines = shown.series.map((_, index) => index).filter((index) => (shown.series[index].pane ?? 0) === at);
      if (name) name.hidden = container.hidden = !lines.length;
      if (!lines.length) return;
      const series = lines.map((index) => shown.series[index]);
      const data = [shown.data[0], ...lines.map((index) => shown.data[index + 1])];
      const log = logarithmic && options.log !== false;
      const key = JSON.stringify([shown.axis, log, shown.marks, series.map(({ key }) => key)]);
      if (current?.key === key) current.plot.set(data);
      else {
        current?.plot.destroy();
        current = { key, plot: createPlot(container, { chart: options, series, axis: shown.axis, logarithmic: log, data, onCursor, marks: shown.marks }) };
      }
    },
    point: (index) => current?.plot.point(index),
    destroy: () => current?.plot.destroy(),
  };
}
