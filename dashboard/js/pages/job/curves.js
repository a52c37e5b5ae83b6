// The curves of a job: six charts, and every one by its key.

import { isIgnorable } from "../../api.js";
import { chartFigure } from "../../charts/chart.js";
import { AXES } from "../../charts/series.js";
import { segmentedControl } from "../../components.js";
import { el, setChildren, setText } from "../../dom.js";
import { brief, bytes, fixed, readable, integer } from "../../format.js";
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

const BEFORE = "The curves begin with the first step.";
const named = (key) => readable(key.replace("train/loss/", ""));
// A figure of two small plots: the words tell which, the label at the line's end need not.
const both = (key, pane, name, more) => [
  { key: `val/${key}`, pane, ...student, label: `Student ${name}`, end: "Student", ...more },
  { key: `baseline/val/${key}`, pane, ...undistilled, label: `Undistilled ${name}`, end: "Undistilled", ...more },
];
const pair = (key, more) => [{ key, ...student, width: 1.6, ...more }, { key: `baseline/${key}`, ...undistilled, width: 1.6 }];

const CHARTS = [
  {
    id: "loss", title: "Loss and its terms", unit: "", format: brief, least: 0, best: Math.min, log: true,
    series: (curves) => {
      const terms = curves.keys("train/loss/");
      const total = { key: "train/loss", ...student, label: "Total" };
      // One term alone, with weight one, is the total itself.
      const parts = terms.length > 1 ? terms.map((key, at) => ({ key, label: named(key), width: 1.5, part: true, ...TERMS[at % TERMS.length] })) : [];
      return [total, ...parts, { key: "baseline/train/loss", ...undistilled, width: 1.5 }];
    },
  },
  {
    id: "top1", title: "Top-1 on validation", unit: "%", format: fixed, most: 100, best: Math.max,
    series: () => [
      { key: "val/top1", ...student },
      { key: "baseline/val/top1", ...undistilled },
      { key: "teacher/top1", ...teacher },
    ],
  },
  {
    id: "fidelity", title: "Agreement with the teacher, and KL to it", unit: "", format: brief, log: true,
    panes: [
      { name: "Agreement, %", most: 100, log: false },
      { name: "KL, nats", least: 0 },
    ],
    series: () => [
      ...both("agreement", 0, "agreement", { format: fixed, best: Math.max }),
      ...both("kl_to_teacher", 1, "KL", { best: Math.min }),
    ],
  },
  {
    id: "lr", title: "Learning rate", unit: "", format: brief, least: 0,
    series: () => [{ key: "train/lr", ...student, label: "Rate" }],
  },
  { id: "pace", title: "Throughput", unit: "images/s", format: brief, least: 0, series: () => pair("train/images_per_s") },
  { id: "memory", title: "Memory", unit: "", format: bytes, tick: bytes, least: 0, series: () => pair("train/memory_bytes") },
];

function chartOf(key) {
  const own = { key, ...(key.startsWith("baseline/") ? undistilled : { ...student }) };
  const format = key.endsWith("_bytes") ? bytes : brief;
  return { id: key.replaceAll(/[^a-z0-9]+/gi, "-"), title: key, unit: "", format, tick: format, log: true, free: true, series: () => [own] };
}

export const axisOf = (chosen) => (chosen in AXES ? chosen : "epoch");

export function charts(feed, onTurn) {
  let axis = feed.axis;
  const figures = CHARTS.map(chartFigure);
  const none = el("p", { class: "muted", role: "status" }, BEFORE);
  const axes = segmentedControl("X axis", AXES, choose);
  const note = el("span", { class: "muted small num" });
  const node = el("section", { class: "band", "aria-labelledby": "curves" },
    el("div", { class: "section-head" }, el("h2", { id: "curves" }, "Curves"), note, axes.node), none, el("div", { class: "charts" }, figures.map((each) => each.node)));

  async function choose(name) {
    axis = name;
    axes.mark(axis);
    replaceQuery({ x: name });
    try {
      if (!(await feed.turn(name)) || axis !== name) return;
    } catch (error) {
      if (!isIgnorable(error)) setText(note, error.message);
      return;
    }
    update();
    onTurn();
  }

  function update() {
    const { curves, all } = feed;
    const { points } = curves;
    none.hidden = points > 0;
    setText(none, feed.trouble ? `The curves cannot be read just now, and are asked for again: ${feed.trouble.message}` : BEFORE);
    if (!points || !curves.has(axis)) return;
    const marks = feed.marks(axis);
    for (const each of figures) each.update(curves, axis, marks);
    setText(note, points < all ? `showing ${integer(points)} of ${integer(all)} points` : `${integer(points)} points`);
  }

  axes.mark(axis);
  return { node, update, destroy: () => figures.forEach((each) => each.destroy()) };
}

/** Every curve that the job has, by its key: its latest value, and its chart when it is opened. */
export function metricsTab(feed) {
  const query = currentAddress().query;
  const lines = new Map();
  const box = el("input", { class: "input", type: "search", "aria-label": "Search metrics", placeholder: "Search, such as val/ or loss", maxlength: "100", on: { input: search } });
  const count = el("span", { class: "muted small num", role: "status" });
  const list = el("div", { class: "metrics" });
  const none = el("p", { class: "muted" }, "The metrics begin with the first step.");
  const node = el("div", {}, el("div", { class: "tools" }, box, count), none, list);
  box.value = query.get("find") ?? "";

  function search() {
    replaceQuery({ find: box.value.trim() });
    sift();
  }

  function sift() {
    const words = box.value.trim().toLowerCase().split(/\s+/);
    let shown = 0;
    for (const [key, line] of lines) {
      line.node.hidden = !words.every((each) => key.includes(each));
      shown += line.node.hidden ? 0 : 1;
    }
    setText(count, `${shown} of ${lines.size} metrics`);
  }

  function update() {
    const keys = feed.curves.keys("").sort();
    const fresh = keys.filter((key) => !lines.has(key));
    for (const key of fresh) lines.set(key, metric(feed, key, query.get("metric") === key));
    if (fresh.length) {
      setChildren(list, keys.map((key) => lines.get(key).node));
      sift();
    }
    none.hidden = keys.length > 0;
    for (const line of lines.values()) line.update();
  }

  return { node, update, destroy: () => lines.forEach((line) => line.destroy()) };
}

function metric(feed, key, open) {
  const chart = chartOf(key);
  const value = el("b", { class: "num" });
  const place = el("div");
  const node = el("details", { open, on: { toggle } }, el("summary", {}, el("code", {}, key), value), place);
  let made = null;

  function toggle() {
    if (node.open) replaceQuery({ metric: key });
    else if (currentAddress().query.get("metric") === key) replaceQuery({ metric: "" });
    update();
  }

  function update() {
    setText(value, chart.format(feed.curves.get(key)?.value.findLast((each) => Number.isFinite(each))));
    if (!node.open) return;
    if (!made) setChildren(place, (made = chartFigure(chart)).node);
    if (feed.curves.has(feed.axis)) made.update(feed.curves, feed.axis, feed.marks(feed.axis));
  }

  return { node, update, destroy: () => made?.destroy() };
}
