// The curves of a job: six charts, and a tab of all metrics.

import { isIgnorable } from "../../fetch.js";
import { chartFigure } from "../../charts/chart.js";
import { AXES } from "../../charts/series.js";
import { namedSection, segmentedControl } from "../../components.js";
import { el, setChildren, setText } from "../../dom.js";
import { brief, bytes, decimal, integer, readable } from "../../format.js";
import { currentAddress, replaceQuery } from "../../router.js";

const student = { label: "Student", color: "--student", dash: [], width: 2.2 };
const teacher = { label: "Teacher", color: "--teacher", dash: [9, 5], width: 1.6, level: true };
const undistilled = { label: "Undistilled", color: "--undistilled", dash: [2, 4], width: 2 };
const TERMS = [
  { color: "--line-1", dash: [7, 3] },
  { color: "--line-2", dash: [3, 3] },
  { color: "--line-3", dash: [10, 3, 2, 3] },
  { color: "--line-4", dash: [2, 2] },
];

const NO_POINTS = "The curves start with the first step.";
const termName = (key) => readable(key.replace("train/loss/", ""));
// The lines of one of two plots. The summary needs the measure's name, the end label does not.
const paneLines = (key, pane, name, more) => [
  { key: `val/${key}`, pane, ...student, label: `Student ${name}`, end: "Student", ...more },
  { key: `baseline/val/${key}`, pane, ...undistilled, label: `Undistilled ${name}`, end: "Undistilled", ...more },
];
const comparedLines = (key) => [{ key, ...student, width: 1.6 }, { key: `baseline/${key}`, ...undistilled, width: 1.6 }];

const CHARTS = [
  {
    id: "loss", title: "Loss and its terms", unit: "", format: brief, min: 0, best: Math.min, log: true,
    series: (curves) => {
      const terms = curves.keys("train/loss/");
      const total = { key: "train/loss", ...student, label: "Total" };
      // A single term equals the total.
      const parts = terms.length > 1 ? terms.map((key, index) => ({ key, label: termName(key), width: 1.5, part: true, ...TERMS[index % TERMS.length] })) : [];
      return [total, ...parts, { key: "baseline/train/loss", ...undistilled, width: 1.5 }];
    },
  },
  {
    id: "top1", title: "Top-1 on validation", unit: "%", format: decimal, max: 100, best: Math.max,
    series: () => [
      { key: "val/top1", ...student },
      { key: "baseline/val/top1", ...undistilled },
      { key: "teacher/top1", ...teacher },
    ],
  },
  {
    id: "fidelity", title: "Agreement with the teacher, and KL to it", unit: "", format: brief, log: true,
    panes: [
      { name: "Agreement, %", max: 100, log: false },
      { name: "KL, nats", min: 0 },
    ],
    series: () => [
      ...paneLines("agreement", 0, "agreement", { format: decimal, best: Math.max }),
      ...paneLines("kl_to_teacher", 1, "KL", { best: Math.min }),
    ],
  },
  {
    id: "lr", title: "Learning rate", unit: "", format: brief, min: 0,
    series: () => [{ key: "train/lr", ...student, label: "Rate" }],
  },
  { id: "pace", title: "Throughput", unit: "images/s", format: brief, min: 0, series: () => comparedLines("train/images_per_s") },
  { id: "memory", title: "Memory", unit: "", format: bytes, tick: bytes, min: 0, series: () => comparedLines("train/memory_bytes") },
];

function chartOf(key) {
  const line = { key, ...(key.startsWith("baseline/") ? undistilled : { ...student }) };
  const format = key.endsWith("_bytes") ? bytes : brief;
  return { id: key.replaceAll(/[^a-z0-9]+/gi, "-"), title: key, unit: "", format, tick: format, log: true, signed: true, series: () => [line] };
}

export const axisOf = (name) => (name in AXES ? name : "epoch");

export function charts(store, onAxis) {
  let axis = store.axis;
  const figures = CHARTS.map(chartFigure);
  const placeholder = el("p", { class: "muted", role: "status" }, NO_POINTS);
  const axes = segmentedControl("X axis", AXES, choose);
  const note = el("span", { class: "muted small num" });
  const node = namedSection("curves", "Curves", [note, axes.node], placeholder, el("div", { class: "charts" }, figures.map(({ node: figure }) => figure)));

  async function choose(name) {
    axis = name;
    axes.mark(axis);
    replaceQuery({ x: name });
    try {
      if (!(await store.setAxis(name)) || axis !== name) return;
    } catch (error) {
      if (!isIgnorable(error)) setText(note, error.message);
      return;
    }
    update();
    onAxis();
  }

  function update() {
    const { curves, numPoints } = store;
    const { points } = curves;
    placeholder.hidden = points > 0;
    setText(placeholder, store.error ? `The curves cannot be loaded: ${store.error.message} The page tries again.` : NO_POINTS);
    if (!points || !curves.has(axis)) return;
    const marks = store.marks(axis);
    for (const figure of figures) figure.update(curves, axis, marks);
    setText(note, points < numPoints ? `showing ${integer(points)} of ${integer(numPoints)} points` : `${integer(points)} points`);
  }

  axes.mark(axis);
  return { node, update, destroy: () => figures.forEach((figure) => figure.destroy()) };
}

/** Every metric of the job with its latest value; an open metric has a chart. */
export function metricsTab(store) {
  const query = currentAddress().query;
  const lines = new Map();
  const box = el("input", { class: "input", type: "search", "aria-label": "Search metrics", placeholder: "Search, such as val/ or loss", maxlength: "100", on: { input: search } });
  const count = el("span", { class: "muted small num", role: "status" });
  const list = el("div", { class: "metrics" });
  const placeholder = el("p", { class: "muted" }, "The metrics start with the first step.");
  const node = el("div", {}, el("div", { class: "tools" }, box, count), placeholder, list);
  box.value = query.get("find") ?? "";

  function search() {
    replaceQuery({ find: box.value.trim() });
    filter();
  }

  function filter() {
    const words = box.value.trim().toLowerCase().split(/\s+/);
    let shown = 0;
    for (const [key, line] of lines) {
      line.node.hidden = !words.every((word) => key.includes(word));
      shown += line.node.hidden ? 0 : 1;
    }
    setText(count, `${shown} of ${lines.size} metrics`);
  }

  function update() {
    const keys = store.curves.keys("").sort();
    const added = keys.filter((key) => !lines.has(key));
    for (const key of added) lines.set(key, metric(store, key, query.get("metric") === key));
    if (added.length) {
      setChildren(list, keys.map((key) => lines.get(key).node));
      filter();
    }
    placeholder.hidden = keys.length > 0;
    for (const line of lines.values()) line.update();
  }

  return { node, update, destroy: () => lines.forEach((line) => line.destroy()) };
}

function metric(store, key, open) {
  const chart = chartOf(key);
  const value = el("b", { class: "num" });
  const content = el("div");
  const node = el("details", { open, on: { toggle } }, el("summary", {}, el("code", {}, key), value), content);
  let figure = null;

  function toggle() {
    if (node.open) replaceQuery({ metric: key });
    else if (currentAddress().query.get("metric") === key) replaceQuery({ metric: "" });
    update();
  }

  function update() {
    setText(value, chart.format(store.curves.get(key)?.value.findLast((y) => Number.isFinite(y))));
    if (!node.open) return;
    if (!figure) setChildren(content, (figure = chartFigure(chart)).node);
    if (store.curves.has(store.axis)) figure.update(store.curves, store.axis, store.marks(store.axis));
  }

  return { node, update, destroy: () => figure?.destroy() };
}
