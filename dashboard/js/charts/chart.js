// One chart as a figure: words, lines, keyboard, table. Lines are drawn only while they are in view.

import { el, setChildren, setText, svg } from "../dom.js";
import { createPlot } from "./plot.js";
import { AXES, valueAt, position, formatValue, summarize, dataTable } from "./series.js";

function cursorKeys(plot, { length, text, move }) {
  let at = null;
  const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };

  plot.addEventListener("keydown", (event) => {
    if (!(event.key in steps) || !length()) return;
    event.preventDefault();
    const last = length() - 1;
    at = Math.min(last, Math.max(0, (at ?? last) + steps[event.key]));
    show();
  });
  plot.addEventListener("focus", () => {
    if (!length()) return;
    at ??= length() - 1;
    show();
  });
  plot.addEventListener("blur", () => move(null));

  function show() {
    plot.setAttribute("aria-valuemax", length() - 1);
    plot.setAttribute("aria-valuenow", at);
    plot.setAttribute("aria-valuetext", text(at));
    move(at);
  }
  return { reset: () => { at = null; } };
}

const NEAR = "300px";

export function chartFigure(chart) {
  const id = `chart-${chart.id}`;
  const summary = el("p", { class: "summary" });
  const legend = el("ul", { class: "legend", "aria-hidden": "true" });
  const plot = el("div", { class: "plot", tabindex: "0", role: "slider", "aria-label": `${chart.title}: move along the curve`, "aria-valuemin": "0", "aria-valuemax": "0", "aria-valuenow": "0" });
  const panes = (chart.panes ?? [{}]).map((own, at, all) => pane(plot, { ...chart, ...own }, at, all.length));
  const rows = el("div", { class: "twin", tabindex: "0", role: "region", "aria-label": `${chart.title} as a table` });
  const details = el("details", { on: { toggle: () => shown && tell() } }, el("summary", {}, "View as table"), rows);
  const log = chart.log ? el("button", { class: "toggle", type: "button", "aria-pressed": "false", on: { click: toggle } }, "Log scale") : null;
  const head = el("div", { class: "section-head" }, el("h3", { id }, chart.title, chart.unit ? el("span", { class: "muted" }, ` · ${chart.unit}`) : null), log);
  const node = el("figure", { class: "panel chart", "aria-labelledby": id, hidden: true }, el("figcaption", {}, head, legend, summary), plot, details);
  const values = [];
  let shown = null;
  let listed = "";
  let inView = false;
  let logarithmic = false;
  let cursor = null;

  const seen = new IntersectionObserver((entries) => {
    inView = entries.at(-1).isIntersecting;
    if (inView && shown) draw();
  }, { rootMargin: NEAR });
  seen.observe(plot);

  function toggle() {
    logarithmic = !logarithmic;
    log.setAttribute("aria-pressed", String(logarithmic));
    if (shown) draw();
  }

  function update(curves, axis, marks = []) {
    const series = chart.series(curves).filter(({ key }) => curves.get(key)?.value.some((value) => value !== null));
    if (!series.some((each) => !each.level)) return;
    const data = curves.aligned(series.map(({ key }) => key), axis, series.filter(({ level }) => level).map(({ key }) => key));
    shown = { curves, axis, series, data, marks };
    node.hidden = false;
    const now = JSON.stringify([axis, series.map(({ key }) => key)]);
    if (now !== listed) {
      listed = now;
      cursor = null;
      keys.reset();
      list(series);
    }
    read();
    setText(summary, summarize(chart, shown));
    if (details.open) tell();
    if (inView) draw();
  }

  const draw = () => panes.forEach((each) => each.draw(shown, logarithmic, moved));

  function moved(at) {
    cursor = at;
    read();
  }

  function list(series) {
    values.length = 0;
    setChildren(legend, series.map((each) => {
      const line = svg("line", { x1: 0, x2: 22, y1: 4, y2: 4, "stroke-dasharray": each.dash.join(" ") || null });
      line.style.stroke = `var(${each.color})`;
      values.push(el("b"));
      return el("li", {}, svg("svg", { class: "swatch", viewBox: "0 0 22 8" }, line), each.label, " ", values.at(-1));
    }));
  }

  function read() {
    shown.series.forEach((each, index) => {
      const column = shown.data[index + 1];
      const value = cursor === null ? column.findLast((one) => Number.isFinite(one)) : valueAt(column, cursor);
      setText(values[index], formatValue(chart, each, value));
    });
  }

  function valueText(at) {
    const parts = shown.series.map((each, index) => `${each.label} ${formatValue(chart, each, valueAt(shown.data[index + 1], at))}`);
    return `${AXES[shown.axis]} ${position(shown.axis, shown.data[0][at])}: ${parts.join(", ")}`;
  }

  const tell = () => setChildren(rows, dataTable(chart, shown));
  const keys = cursorKeys(plot, {
    length: () => shown?.data[0].length ?? 0,
    text: valueText,
    move: (at) => panes.forEach((each) => each.point(at)),
  });

  return {
    node,
    update,
    destroy() {
      seen.disconnect();
      panes.forEach((each) => each.destroy());
    },
  };
}

function pane(plot, chart, at, count) {
  const bed = count === 1 ? plot : el("div", { class: "pane" });
  const name = count === 1 ? null : el("p", { class: "pane-name" }, chart.name);
  if (count > 1) plot.append(name, bed);
  const look = { ...chart, share: count, bare: at < count - 1 };
  let made = null;

  return {
    draw(shown, logarithmic, onCursor) {
      const places = shown.series.map((_, index) => index).filter((index) => (shown.series[index].pane ?? 0) === at);
      if (name) name.hidden = bed.hidden = !places.length;
      if (!places.length) return;
      const series = places.map((index) => shown.series[index]);
      const data = [shown.data[0], ...places.map((index) => shown.data[index + 1])];
      const log = logarithmic && look.log !== false;
      const wanted = JSON.stringify([shown.axis, log, shown.marks, series.map(({ key }) => key)]);
      if (made?.wanted === wanted) made.drawn.set(data);
      else {
        made?.drawn.destroy();
        made = { wanted, drawn: createPlot(bed, { chart: look, series, axis: shown.axis, logarithmic: log, data, onCursor, marks: shown.marks }) };
      }
    },
    point: (place) => made?.drawn.point(place),
    destroy: () => made?.drawn.destroy(),
  };
}
