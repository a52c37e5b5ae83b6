// The chart: every network a point that can be reached by keyboard, in the order of x.

import { scale } from "../../charts/scale.js";
import { el, setChildren, svg } from "../../dom.js";
import { capital } from "../../format.js";
import { keyOf, pointWords, tick, X, Y } from "./controls.js";

const HATCH = "frontier-hatch";

function ground(place, { x, y, tickX, tickY }) {
  const { left, right, top, bottom, sx, sy } = place;
  const across = sy.ticks(6).map((value) => [
    svg("line", { class: "gridline", x1: left, x2: right, y1: place.y(value), y2: place.y(value) }),
    svg("text", { x: left - 8, y: place.y(value), dy: "0.35em", "text-anchor": "end" }, tickY(value)),
  ]);
  const along = sx.ticks(Math.max(2, Math.floor((right - left) / 80))).map((value) => [
    svg("line", { class: "tickline", x1: place.x(value), x2: place.x(value), y1: bottom, y2: bottom + 5 }),
    svg("text", { x: place.x(value), y: bottom + 19, "text-anchor": "middle" }, tickX(value)),
  ]);
  const middle = (top + bottom) / 2;
  return [
    across, along,
    svg("line", { class: "tickline", x1: left, x2: right, y1: bottom, y2: bottom }),
    svg("text", { class: "axis", x: (left + right) / 2, y: bottom + 39, "text-anchor": "middle" }, x),
    svg("text", { class: "axis", x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }, y),
  ];
}

/** A student is a disc, hollow where dominated; a teacher is a star. The clear ring makes it easy to hit. */
export function marker({ role, on_frontier }, x, y) {
  const at = { transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` };
  const ring = svg("circle", { class: "hit", r: 12 });
  const halo = svg("circle", { class: "halo", r: 11 });
  const shape = role === "teacher" ? svg("path", { class: "teacher", d: star(9, 4) }) : svg("circle", { class: on_frontier ? "ahead" : "behind", r: on_frontier ? 6 : 5 });
  return svg("g", at, ring, halo, shape);
}

function star(outer, inner) {
  const corners = Array.from({ length: 10 }, (_, at) => {
    const radius = at % 2 ? inner : outer;
    const angle = (Math.PI * at) / 5 - Math.PI / 2;
    return `${(radius * Math.cos(angle)).toFixed(2)} ${(radius * Math.sin(angle)).toFixed(2)}`;
  });
  return `M${corners.join("L")}Z`;
}

/** From one student on the frontier to the next: the best that can be had at each x. */
function steps(place, points) {
  const ahead = points.filter(({ on_frontier }) => on_frontier);
  if (!ahead.length) return [];
  const d = ahead.map((point, at) => (at ? `H${place.x(point.x)}V${place.y(point.y)}` : `M${place.x(point.x)} ${place.bottom}V${place.y(point.y)}`)).join("");
  return svg("path", { class: "steps", d: `${d}H${place.right}` });
}

function shade(place, { maxX, minY }) {
  const { left, right, top, bottom } = place;
  const within = (value, low, high) => Math.min(high, Math.max(low, value));
  const x = maxX === null ? right : within(place.x(maxX), left, right);
  const y = minY === null ? bottom : within(place.y(minY), top, bottom);
  const area = (from, to, width, height) => (width > 0 && height > 0 ? svg("rect", { class: "out", x: from, y: to, width, height, fill: `url(#${HATCH})` }) : null);
  return [
    svg("defs", {}, svg("pattern", { id: HATCH, width: 8, height: 8, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      svg("rect", { class: "wash", width: 8, height: 8 }), svg("line", { class: "hatch", x1: 0, x2: 0, y1: 0, y2: 8 }))),
    area(x, top, right - x, bottom - top),
    area(left, y, x - left, bottom - y),
    maxX === null ? null : svg("line", { class: "limit", x1: x, x2: x, y1: top, y2: bottom }),
    minY === null ? null : svg("line", { class: "limit", x1: left, x2: right, y1: y, y2: y }),
  ].filter(Boolean);
}

const EDGE = { top: 14, right: 16, bottom: 46, left: 54 };
const INSET = 16; // room for points at the ends of an axis

export function scatter(onOpen) {
  const tip = el("div", { class: "tip", "aria-hidden": "true", hidden: true });
  const back = svg("g", { "aria-hidden": "true" });
  const shaded = svg("g", { "aria-hidden": "true" });
  const line = svg("g", { "aria-hidden": "true" });
  const list = svg("g", { role: "listbox", on: { keydown } });
  const drawing = svg("svg", {}, back, shaded, line, list);
  const node = el("div", { class: "scatter" }, drawing, tip);
  const resized = new ResizeObserver(() => node.clientWidth && node.clientWidth !== width && draw());
  resized.observe(node);
  let view = null;
  let options = [];
  let width = 0;
  let place = null;
  let current = null; // the point that Tab comes to

  function update(next) {
    const before = view;
    view = next;
    if (!width || before?.points !== view.points) draw();
    else marks();
  }

  function draw() {
    if (!view) return;
    width = node.clientWidth;
    const height = width < 560 ? 320 : 420;
    const { points, x, y } = view;
    const sx = scale(points.map((point) => point.x), { logarithmic: true });
    const sy = scale(points.map((point) => point.y));
    const inner = { left: EDGE.left, right: width - EDGE.right, top: EDGE.top, bottom: height - EDGE.bottom };
    place = {
      ...inner, sx, sy,
      x: (value) => inner.left + INSET + sx.at(value) * (inner.right - inner.left - 2 * INSET),
      y: (value) => inner.bottom - INSET - sy.at(value) * (inner.bottom - inner.top - 2 * INSET),
    };
    drawing.setAttribute("width", width);
    drawing.setAttribute("height", height);
    setChildren(back, ground(place, { x: `${X[x].axis}, ${X[x].unit}${sx.log ? " (logarithmic)" : ""}`, y: `${Y[y].axis}, %`, tickX: (value) => tick(X[x], value), tickY: (value) => tick(Y[y], value) }));
    setChildren(line, steps(place, points));
    list.setAttribute("aria-label", `Networks by ${X[x].label}`);
    const focused = list.contains(document.activeElement);
    if (!points.some((point) => keyOf(point) === current)) current = keyOf(points[0]);
    options = points.map((point) => option(point));
    setChildren(list, [...options].sort((a, b) => layer(a.point) - layer(b.point)).map((each) => each.node));
    hide();
    marks();
    if (focused) focus(current);
  }

  // The dominated ones lie beneath.
  const layer = ({ role, on_frontier }) => (role === "teacher" ? 2 : on_frontier ? 1 : 0);

  function option(point) {
    const key = keyOf(point);
    const shape = marker(point, place.x(point.x), place.y(point.y));
    const each = svg("g", {
      role: "option", class: "point", "data-key": key,
      on: { click: () => onOpen(key, false), mouseenter: () => show(point), mouseleave: hide, focus: () => { current = key; rove(); show(point); }, blur: hide },
    }, shape);
    return { key, point, node: each };
  }

  function marks() {
    const { x, y, limits, open, jobs } = view;
    setChildren(shaded, shade(place, limits));
    for (const { key, point, node: each } of options) {
      const chosen = jobs.includes(key);
      each.setAttribute("aria-selected", String(key === open));
      each.classList.toggle("chosen", chosen);
      each.setAttribute("aria-label", pointWords(point, x, y) + (chosen ? ", chosen to compare" : ""));
    }
    rove();
  }

  const rove = () => options.forEach(({ key, node: each }) => each.setAttribute("tabindex", key === current ? "0" : "-1"));

  function show(point) {
    const words = pointWords(point, view.x, view.y).slice(point.name.length + 2);
    setChildren(tip, el("b", {}, point.name), capital(words));
    tip.hidden = false;
    const left = place.x(point.x);
    const half = tip.offsetWidth / 2;
    const above = place.y(point.y) - tip.offsetHeight - 14;
    tip.style.left = `${Math.min(width - half - 4, Math.max(half + 4, left)) - half}px`;
    tip.style.top = `${above > 0 ? above : place.y(point.y) + 16}px`;
  }

  const hide = () => { tip.hidden = true; };

  function focus(key) {
    options.find((each) => each.key === key)?.node.focus();
  }

  function keydown(event) {
    const at = options.findIndex(({ key }) => key === current);
    const byY = [...options].sort((a, b) => a.point.y - b.point.y);
    const up = byY.indexOf(options[at]);
    const next = {
      ArrowRight: () => options[at + 1], ArrowLeft: () => options[at - 1], Home: () => options[0], End: () => options.at(-1),
      ArrowUp: () => byY[up + 1], ArrowDown: () => byY[up - 1],
    }[event.key];
    if (next) focus(next()?.key ?? current);
    else if (event.key === "Enter" || event.key === " ") onOpen(current, true);
    else if (event.key === "Escape") hide();
    else return;
    event.preventDefault();
  }

  return { node, update, focus, destroy: () => resized.disconnect() };
}
