// The lines of a chart, drawn by uPlot, with labels at their ends.

import { brief, duration } from "../format.js";

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
export function createPlot(container, { chart, series, axis, logarithmic, data, onCursor, marks = [] }) {
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
