// A chart as a figure with legend, summary in words, lines and table. Lines are drawn only while they are in view.

import { swatch, toggleButton } from "../components.js";
import { el, setChildren, setText } from "../dom.js";
import { brief, duration } from "../format.js";
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

// index.html loads uPlot as a plain script before the modules run.
const { uPlot } = globalThis;

const HEIGHT = 210;
const GAP = 14;
const LABEL_WIDTH = 88;
const X_AXIS = 30;
const dark = matchMedia("(prefers-color-scheme: dark)");
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const fontOf = (size) => `${size}px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif`;

/** Draw into `container`. `chart.share`: the number of plots of the figure; `chart.bare`: no x axis. `marks`: [{x, label}] as
 * vertical lines. `point(index)` moves the cursor. */
function createPlot(container, { chart, series, axis, logarithmic, data, onCursor, marks = [] }) {
  const padding = series.length > 1 ? LABEL_WIDTH : 14;
  const height = HEIGHT / (chart.share ?? 1) + (chart.share > 1 && !chart.bare ? X_AXIS / 2 : 0);
  const grid = { stroke: () => color("--line"), width: 1 };
  const ticks = { show: false };
  const side = { stroke: () => color("--ink-3"), font: fontOf(12), grid, ticks };
  const tick = chart.tick ?? brief;
  const options = {
    width: Math.max(200, container.clientWidth),
    height,
    padding: [10, padding, chart.bare ? 6 : 0, 0],
    legend: { show: false },
    cursor: { drag: { x: false, y: false }, y: false, points: { size: 7 }, sync: { key: `job-${axis}`, scales: ["x", null] } },
    scales: { x: { time: false, range: (_, __, high) => [0, high || 1] }, y: { distr: logarithmic ? 3 : 1, range: logarithmic ? undefined : range(chart) } },
    axes: [
      { ...side, show: !chart.bare, size: X_AXIS, gap: 6, space: 70, grid: { show: false }, values: (_, values) => values.map((value) => xText(axis, value)) },
      { ...side, size: chart.tick ? 66 : 52, gap: 6, space: chart.share > 1 ? 26 : 36, values: (_, values) => values.map((value) => (value === null ? "" : tick(value))) },
    ],
    series: [{}, ...series.map(lineOptions)],
    hooks: {
      setCursor: [(u) => onCursor(u.cursor.idx ?? null)],
      draw: [(u) => marks.length && drawMarks(u, marks), (u) => series.length > 1 && drawEndLabels(u, series)],
    },
  };
  const u = new uPlot(options, data, container);
  const resized = new ResizeObserver(() => {
    const width = Math.max(200, container.clientWidth);
    if (width !== u.width) u.setSize({ width, height });
  });
  resized.observe(container);
  const repaint = () => u.redraw(false, true);
  dark.addEventListener("change", repaint);
  return {
    set: (next) => u.setData(next),
    point(index) {
      const left = index === null ? -10 : u.valToPos(u.data[0][index], "x");
      u.setCursor({ left, top: index === null ? -10 : height / 3 });
    },
    destroy() {
      resized.disconnect();
      dark.removeEventListener("change", repaint);
      u.destroy();
    },
  };
}

function lineOptions({ label, color: name, dash, width, level }) {
  return { label, stroke: () => color(name), dash, width, points: level ? { show: false } : { size: 5, fill: () => color(name) } };
}

function range({ min, max, signed }) {
  return (_, low, high) => {
    const margin = (high - low || Math.abs(high) || 1) * 0.08;
    const top = high + margin;
    const bottom = signed && low < 0 ? low - margin : Math.max(0, low - margin);
    return [min ?? bottom, max === undefined ? top : Math.min(max, top)];
  };
}

const xText = (axis, value) => (axis === "wall_s" ? duration(value) : brief(value));

function drawMarks(u, marks) {
  const ratio = u.ctx.canvas.width / u.width;
  const bottom = u.bbox.top + u.bbox.height;
  u.ctx.save();
  u.ctx.strokeStyle = u.ctx.fillStyle = color("--ink-3");
  u.ctx.lineWidth = ratio;
  u.ctx.setLineDash([5 * ratio, 4 * ratio]);
  u.ctx.font = fontOf(11 * ratio);
  u.ctx.textAlign = "left";
  u.ctx.textBaseline = "top";
  for (const { x, label } of marks) {
    const left = Math.round(u.valToPos(x, "x", true));
    u.ctx.beginPath();
    u.ctx.moveTo(left, u.bbox.top);
    u.ctx.lineTo(left, bottom);
    u.ctx.stroke();
    u.ctx.fillText(label, left + 4 * ratio, u.bbox.top);
  }
  u.ctx.restore();
}

// Labels that would overlap are moved apart.
function drawEndLabels(u, series) {
  const ratio = u.ctx.canvas.width / u.width;
  const labels = series.map(({ label, end, color: name }, index) => {
    const value = u.data[index + 1].findLast((y) => Number.isFinite(y));
    return { label: end ?? label, name, y: value === undefined ? null : u.valToPos(value, "y", true) };
  }).filter(({ y }) => Number.isFinite(y)).sort((a, b) => a.y - b.y);
  const bottom = u.bbox.top + u.bbox.height;
  for (let i = 1; i < labels.length; i += 1) labels[i].y = Math.max(labels[i].y, labels[i - 1].y + GAP * ratio);
  for (let i = labels.length - 1, limit = bottom; i >= 0; i -= 1, limit -= GAP * ratio) labels[i].y = Math.min(labels[i].y, limit);
  u.ctx.save();
  u.ctx.font = fontOf(11.5 * ratio);
  u.ctx.textAlign = "left";
  u.ctx.textBaseline = "middle";
  for (const { label, name, y } of labels) {
    u.ctx.fillStyle = color(name);
    u.ctx.fillText(label, u.bbox.left + u.bbox.width + 8 * ratio, y, (LABEL_WIDTH - 10) * ratio);
  }
  u.ctx.restore();
}
