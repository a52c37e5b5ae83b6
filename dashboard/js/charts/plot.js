// uPlot in the page's own colors, with labels at the ends of lines.

import { brief, duration } from "../format.js";

// Its own small build is a plain script, which index.html loads before the modules run.
const { uPlot } = globalThis;

const HEIGHT = 210;
const GAP = 14;
const ROOM_FOR_LABELS = 88;
const X_AXIS = 30;
const dark = matchMedia("(prefers-color-scheme: dark)");
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const fontOf = (size) => `${size}px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif`;

/** Draw into `plot`. `set(data)` appends in place, `point(i)` moves the cursor, `destroy()` ends it.
 * `chart.share`: how many plots share the figure's height; `chart.bare`: without an x axis of its own. */
export function createPlot(plot, { chart, series, axis, logarithmic, data, onCursor, marks = [] }) {
  const room = series.length > 1 ? ROOM_FOR_LABELS : 14;
  const height = HEIGHT / (chart.share ?? 1) + (chart.share > 1 && !chart.bare ? X_AXIS / 2 : 0);
  const grid = { stroke: () => color("--line"), width: 1 };
  const ticks = { show: false };
  const side = { stroke: () => color("--ink-3"), font: fontOf(12), grid, ticks };
  const tick = chart.tick ?? brief;
  const options = {
    width: Math.max(200, plot.clientWidth),
    height,
    padding: [10, room, chart.bare ? 6 : 0, 0],
    legend: { show: false },
    cursor: { drag: { x: false, y: false }, y: false, points: { size: 7 }, sync: { key: `job-${axis}`, scales: ["x", null] } },
    scales: { x: { time: false, range: (_, low, high) => [0, high || 1] }, y: { distr: logarithmic ? 3 : 1, range: logarithmic ? undefined : bounds(chart) } },
    axes: [
      { ...side, show: !chart.bare, size: X_AXIS, gap: 6, space: 70, grid: { show: false }, values: (_, at) => at.map((mark) => xText(axis, mark)) },
      { ...side, size: chart.tick ? 66 : 52, gap: 6, space: chart.share > 1 ? 26 : 36, values: (_, at) => at.map((mark) => (mark === null ? "" : tick(mark))) },
    ],
    series: [{}, ...series.map((each) => line(each))],
    hooks: {
      setCursor: [(u) => onCursor(u.cursor.idx ?? null)],
      draw: [(u) => marks.length && upright(u, marks), (u) => series.length > 1 && endLabels(u, series)],
    },
  };
  const u = new uPlot(options, data, plot);
  const resized = new ResizeObserver(() => {
    const width = Math.max(200, plot.clientWidth);
    if (width !== u.width) u.setSize({ width, height });
  });
  resized.observe(plot);
  const repaint = () => u.redraw(false, true);
  dark.addEventListener("change", repaint);
  return {
    set: (next) => u.setData(next),
    point(at) {
      const left = at === null ? -10 : u.valToPos(u.data[0][at], "x");
      u.setCursor({ left, top: at === null ? -10 : height / 3 });
    },
    destroy() {
      resized.disconnect();
      dark.removeEventListener("change", repaint);
      u.destroy();
    },
  };
}

function line({ label, color: name, dash, width, level }) {
  return { label, stroke: () => color(name), dash, width, points: level ? { show: false } : { size: 5, fill: () => color(name) } };
}

function bounds({ least, most, free }) {
  return (_, low, high) => {
    const margin = (high - low || Math.abs(high) || 1) * 0.08;
    const top = high + margin;
    const bottom = free && low < 0 ? low - margin : Math.max(0, low - margin);
    return [least ?? bottom, most === undefined ? top : Math.min(most, top)];
  };
}

const xText = (axis, mark) => (axis === "wall_s" ? duration(mark) : brief(mark));

function upright(u, marks) {
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

// Names at the ends of their lines, moved apart where they would lie on each other.
function endLabels(u, series) {
  const ratio = u.ctx.canvas.width / u.width;
  const labels = series.map(({ label, end, color: name }, index) => {
    const value = u.data[index + 1].findLast((each) => Number.isFinite(each));
    return { label: end ?? label, name, y: value === undefined ? null : u.valToPos(value, "y", true) };
  }).filter(({ y }) => Number.isFinite(y)).sort((a, b) => a.y - b.y);
  const bottom = u.bbox.top + u.bbox.height;
  for (let at = 1; at < labels.length; at += 1) labels[at].y = Math.max(labels[at].y, labels[at - 1].y + GAP * ratio);
  for (let at = labels.length - 1, limit = bottom; at >= 0; at -= 1, limit -= GAP * ratio) labels[at].y = Math.min(labels[at].y, limit);
  u.ctx.save();
  u.ctx.font = fontOf(11.5 * ratio);
  u.ctx.textAlign = "left";
  u.ctx.textBaseline = "middle";
  for (const { label, name, y } of labels) {
    u.ctx.fillStyle = color(name);
    u.ctx.fillText(label, u.bbox.left + u.bbox.width + 8 * ratio, y, (ROOM_FOR_LABELS - 10) * ratio);
  }
  u.ctx.restore();
}
