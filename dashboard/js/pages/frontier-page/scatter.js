// The chart of the frontier: a point for every network; arrow keys move between them.

import { scale } from "../../charts/scale.js";
import { el, setChildren, svg } from "../../dom.js";
import { capital } from "../../format.js";
import { keyOf, pointWords, tick, X, Y } from "./controls.js";

const HATCH = "frontier-hatch";

// `area`: edges and scales of the inner chart; `x(value)` and `y(value)` in pixels.

function drawAxes(area, { x, y, tickX, tickY }) {
  const { left, right, top, bottom, sx, sy } = area;
  const horizontal = sy.ticks(6).map((value) => [
    svg("line", { class: "gridline", x1: left, x2: right, y1: area.y(value), y2: area.y(value) }),
    svg("text", { x: left - 8, y: area.y(value), dy: "0.35em", "text-anchor": "end" }, tickY(value)),
  ]);
  const vertical = sx.ticks(Math.max(2, Math.floor((right - left) / 80))).map((value) => [
    svg("line", { class: "tickline", x1: area.x(value), x2: area.x(value), y1: bottom, y2: bottom + 5 }),
    svg("text", { x: area.x(value), y: bottom + 19, "text-anchor": "middle" }, tickX(value)),
  ]);
  const middle = (top + bottom) / 2;
  return [
    horizontal, vertical,
    svg("line", { class: "tickline", x1: left, x2: right, y1: bottom, y2: bottom }),
    svg("text", { class: "axis", x: (left + right) / 2, y: bottom + 39, "text-anchor": "middle" }, x),
    svg("text", { class: "axis", x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }, y),
  ];
}

/** A student is a disc, hollow if dominated; a teacher is a star. The invisible ring eases clicks. */
export function marker({ role, on_frontier }, x, y) {
  const position = { transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` };
  const ring = svg("circle", { class: "hit", r: 12 });
  const halo = svg("circle", { class: "halo", r: 11 });
  const shape = role === "teacher" ? svg("path", { class: "teacher", d: star(9, 4) }) : svg("circle", { class: on_frontier ? "on-frontier" : "dominated", r: on_frontier ? 6 : 5 });
  return svg("g", position, ring, halo, shape);
}

function star(outer, inner) {
  const corners = Array.from({ length: 10 }, (_, index) => {
    const radius = index % 2 ? inner : outer;
    const angle = (Math.PI * index) / 5 - Math.PI / 2;
    return `${(radius * Math.cos(angle)).toFixed(2)} ${(radius * Math.sin(angle)).toFixed(2)}`;
  });
  return `M${corners.join("L")}Z`;
}

// A stepped line through the students on the frontier: the best y at every x.
function steps(area, points) {
  const frontier = points.filter(({ on_frontier }) => on_frontier);
  if (!frontier.length) return [];
  const d = frontier.map((point, index) => (index ? `H${area.x(point.x)}V${area.y(point.y)}` : `M${area.x(point.x)} ${area.bottom}V${area.y(point.y)}`)).join("");
  return svg("path", { class: "steps", d: `${d}H${area.right}` });
}

// The hatched part of the chart, which the limits exclude.
function shade(area, { maxX, minY }) {
  const { left, right, top, bottom } = area;
  const within = (value, low, high) => Math.min(high, Math.max(low, value));
  const x = maxX === null ? right : within(area.x(maxX), left, right);
  const y = minY === null ? bottom : within(area.y(minY), top, bottom);
  const hatch = (start, end, width, height) => (width > 0 && height > 0 ? svg("rect", { class: "out", x: start, y: end, width, height, fill: `url(#${HATCH})` }) : null);
  return [
    svg("defs", {}, svg("pattern", { id: HATCH, width: 8, height: 8, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      svg("rect", { class: "wash", width: 8, height: 8 }), svg("line", { class: "hatch", x1: 0, x2: 0, y1: 0, y2: 8 }))),
    hatch(x, top, right - x, bottom - top),
    hatch(left, y, x - left, bottom - y),
    maxX === null ? null : svg("line", { class: "limit", x1: x, x2: x, y1: top, y2: bottom }),
    minY === null ? null : svg("line", { class: "limit", x1: left, x2: right, y1: y, y2: y }),
  ].filter(Boolean);
}

const MARGIN = { top: 14, right: 16, bottom: 46, left: 54 };
const INSET = 16; // keeps points off the ends of the axes

export function scatter(onOpen) {
  const tip = el("div", { class: "tip", "aria-hidden": "true", hidden: true });
  const back = svg("g", { "aria-hidden": "true" });
  const shaded = svg("g", { "aria-hidden": "true" });
  const line = svg("g", { "aria-hidden": "true" });
  const list = svg("g", { role: "listbox", on: { keydown } });
  const chart = svg("svg", {}, back, shaded, line, list);
  const node = el("div", { class: "scatter" }, chart, tip);
  const resized = new ResizeObserver(() => node.clientWidth && node.clientWidth !== width && draw());
  resized.observe(node);
  let view = null;
  let options = [];
  let width = 0;
  let area = null;
  let current = null; // key of the point in the tab order

  function update(next) {
    const before = view;
    view = next;
    if (!width || before?.points !== view.points) draw();
    else drawMarks();
  }

  function draw() {
    if (!view) return;
    width = node.clientWidth;
    const height = width < 560 ? 320 : 420;
    const { points, x, y } = view;
    const sx = scale(points.map((point) => point.x), { logarithmic: true });
    const sy = scale(points.map((point) => point.y));
    const inner = { left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: height - MARGIN.bottom };
    area = {
      ...inner, sx, sy,
      x: (value) => inner.left + INSET + sx.at(value) * (inner.right - inner.left - 2 * INSET),
      y: (value) => inner.bottom - INSET - sy.at(value) * (inner.bottom - inner.top - 2 * INSET),
    };
    chart.setAttribute("width", width);
    chart.setAttribute("height", height);
    setChildren(back, drawAxes(area, { x: `${X[x].axis}, ${X[x].unit}${sx.log ? " (logarithmic)" : ""}`, y: `${Y[y].axis}, %`, tickX: (value) => tick(X[x], value), tickY: (value) => tick(Y[y], value) }));
    setChildren(line, steps(area, points));
    list.setAttribute("aria-label", `Networks by ${X[x].label}`);
    const focused = list.contains(document.activeElement);
    if (!points.some((point) => keyOf(point) === current)) current = keyOf(points[0]);
    options = points.map((point) => option(point));
    setChildren(list, [...options].sort((a, b) => layer(a.point) - layer(b.point)).map(({ node: group }) => group));
    hide();
    drawMarks();
    if (focused) focus(current);
  }

  // Drawing order: dominated students below, teachers on top.
  const layer = ({ role, on_frontier }) => (role === "teacher" ? 2 : on_frontier ? 1 : 0);

  function option(point) {
    const key = keyOf(point);
    const shape = marker(point, area.x(point.x), area.y(point.y));
    const group = svg("g", {
      role: "option", class: "point", "data-key": key,
      on: { click: () => onOpen(key, false), mouseenter: () => show(point), mouseleave: hide, focus: () => { current = key; updateTabOrder(); show(point); }, blur: hide },
    }, shape);
    return { key, point, node: group };
  }

  function drawMarks() {
    const { x, y, limits, open, jobs } = view;
    setChildren(shaded, shade(area, limits));
    for (const { key, point, node: group } of options) {
      const selected = jobs.includes(key);
      group.setAttribute("aria-selected", String(key === open));
      group.classList.toggle("selected", selected);
      group.setAttribute("aria-label", pointWords(point, x, y) + (selected ? ", selected to compare" : ""));
    }
    updateTabOrder();
  }

  const updateTabOrder = () => options.forEach(({ key, node: group }) => group.setAttribute("tabindex", key === current ? "0" : "-1"));

  function show(point) {
    const words = pointWords(point, view.x, view.y).slice(point.name.length + 2);
    setChildren(tip, el("b", {}, point.name), capital(words));
    tip.hidden = false;
    const left = area.x(point.x);
    const half = tip.offsetWidth / 2;
    const above = area.y(point.y) - tip.offsetHeight - 14;
    tip.style.left = `${Math.min(width - half - 4, Math.max(half + 4, left)) - half}px`;
    tip.style.top = `${above > 0 ? above : area.y(point.y) + 16}px`;
  }

  const hide = () => { tip.hidden = true; };

  function focus(key) {
    options.find((entry) => entry.key === key)?.node.focus();
  }

  function keydown(event) {
    const index = options.findIndex(({ key }) => key === current);
    const byY = [...options].sort((a, b) => a.point.y - b.point.y);
    const rank = byY.indexOf(options[index]);
    const next = {
      ArrowRight: () => options[index + 1], ArrowLeft: () => options[index - 1], Home: () => options[0], End: () => options.at(-1),
      ArrowUp: () => byY[rank + 1], ArrowDown: () => byY[rank - 1],
    }[event.key];
    if (next) focus(next()?.key ?? current);
    else if (event.key === "Enter" || event.key === " ") onOpen(current, true);
    else if (event.key === "Escape") hide();
    else return;
    event.preventDefault();
  }

  return { node, update, focus, destroy: () => resized.disconnect() };
}
