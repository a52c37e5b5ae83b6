// One chart as a figure: a summary in words, the lines, and the same as a table.

import { el, put, setText, svg } from "./dom.js";
import { AXES } from "./curves.js";
import { cursorKeys } from "./chartkeys.js";
import { drawing } from "./drawing.js";
import { near, position, summarise, twin } from "./charttext.js";

/** `chart` is an entry of CHARTS. Hidden until it has a point. */
export function figure(chart) {
  const id = `chart-${chart.id}`;
  const summary = el("p", { class: "summary" });
  const legend = el("ul", { class: "legend", "aria-hidden": "true" });
  const plot = el("div", { class: "plot", tabindex: "0", role: "slider", "aria-label": `${chart.title}: move along the curve`, "aria-valuemin": "0", "aria-valuemax": "0", "aria-valuenow": "0" });
  const rows = el("div", { class: "twin", tabindex: "0", role: "region", "aria-label": `${chart.title} as a table` });
  const details = el("details", { on: { toggle: () => shown && tell() } }, el("summary", {}, "View as table"), rows);
  const log = chart.log ? el("button", { class: "toggle", type: "button", "aria-pressed": "false", on: { click: toggle } }, "Log scale") : null;
  const head = el("div", { class: "section-head" }, el("h3", { id }, chart.title, chart.unit ? el("span", { class: "muted" }, ` · ${chart.unit}`) : null), log);
  const node = el("figure", { class: "panel chart", "aria-labelledby": id, hidden: true }, el("figcaption", {}, head, legend, summary), plot, details);
  const values = [];
  let shown = null;
  let made = null;
  let logarithmic = false;
  let cursor = null;

  function toggle() {
    logarithmic = !logarithmic;
    log.setAttribute("aria-pressed", String(logarithmic));
    if (shown) update(shown.curves, shown.axis);
  }

  function update(curves, axis) {
    const series = chart.series(curves).filter(({ key }) => curves.get(key)?.value.some((value) => value !== null));
    if (!series.some((each) => !each.level)) return;
    const data = curves.aligned(series.map(({ key }) => key), axis, series.filter(({ level }) => level).map(({ key }) => key));
    shown = { curves, axis, series, data };
    node.hidden = false;
    const wanted = JSON.stringify([axis, logarithmic, series.map(({ key }) => key)]);
    if (made?.wanted !== wanted) {
      made?.drawn.destroy();
      cursor = null;
      marks(series);
      made = { wanted, drawn: drawing(plot, { chart, series, axis, logarithmic, data, onCursor: (at) => { cursor = at; read(); } }) };
      keys.reset();
    } else {
      made.drawn.set(data);
    }
    read();
    setText(summary, summarise(chart, shown));
    if (details.open) tell();
  }

  function marks(series) {
    values.length = 0;
    put(legend, series.map((each) => {
      const line = svg("line", { x1: 0, x2: 22, y1: 4, y2: 4, "stroke-dasharray": each.dash.join(" ") || null });
      line.style.stroke = `var(${each.colour})`;
      values.push(el("b"));
      return el("li", {}, svg("svg", { class: "swatch", viewBox: "0 0 22 8" }, line), each.label, " ", values.at(-1));
    }));
  }

  // The values under the cursor, or the latest ones.
  function read() {
    shown.series.forEach((_, index) => {
      const column = shown.data[index + 1];
      const value = cursor === null ? column.findLast((each) => Number.isFinite(each)) : near(column, cursor);
      setText(values[index], chart.format(value));
    });
  }

  function valueText(at) {
    const parts = shown.series.map(({ label }, index) => `${label} ${chart.format(near(shown.data[index + 1], at))}`);
    return `${AXES[shown.axis]} ${position(shown.axis, shown.data[0][at])}: ${parts.join(", ")}`;
  }

  const tell = () => put(rows, twin(chart, shown));
  const keys = cursorKeys(plot, { length: () => shown?.data[0].length ?? 0, text: valueText, move: (at) => made.drawn.point(at) });
  return { node, update, destroy: () => made?.drawn.destroy() };
}
