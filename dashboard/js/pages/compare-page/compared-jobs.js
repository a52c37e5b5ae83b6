// The compared jobs: in the address, as a list, as curves.

import { chartFigure } from "../../charts/chart.js";
import { AXES, Curves } from "../../charts/series.js";
import { namedSection, notice, segmentedControl, smallButton, swatch } from "../../components.js";
import { el, setChildren, setText } from "../../dom.js";
import { brief, decimal, integer, readable } from "../../format.js";
import { stateChip } from "../../job-state.js";
import { shortName } from "../../lookups.js";
import { href } from "../../router.js";

export const MAX_JOBS = 10;
export const LINES = [
  ["--student", []],
  ["--line-2", [9, 4]],
  ["--line-1", [2, 3]],
  ["--line-3", [12, 3, 2, 3]],
  ["--line-4", [5, 3]],
  ["--ink", [16, 4]],
  ["--student", [5, 3]],
  ["--line-2", [2, 3]],
  ["--line-1", [12, 3, 2, 3]],
  ["--line-3", []],
].map(([color, dash], index) => ({ letter: "ABCDEFGHIJ"[index], color, dash }));

export function jobMark(index) {
  const { letter, color, dash } = LINES[index];
  return el("span", { class: "line-mark" }, el("b", {}, letter), swatch(color, dash, 30));
}

/** {ids, axis, more}; `more`: how many ids of the address exceed the limit. */
export function parseQuery(query) {
  const ids = [...new Set((query.get("jobs") ?? "").split(",").map((id) => id.trim()).filter(Boolean))];
  const axis = query.get("x");
  return { ids: ids.slice(0, MAX_JOBS), axis: axis in AXES ? axis : "epoch", more: ids.length > MAX_JOBS ? ids.length - MAX_JOBS : 0 };
}

export const compareHref = (ids, axis) => href("/compare", { jobs: ids.join(","), x: axis === "epoch" ? "" : axis });

const share = { unit: "%", format: (value) => decimal(value), max: 100, best: Math.max };
const loss = { unit: "", format: brief, min: 0, best: Math.min, log: true };
const CHARTS = [
  { id: "top1", key: "val/top1", title: "Top-1 on validation", ...share },
  { id: "loss", key: "train/loss", title: "Loss in training", ...loss },
  { id: "agreement", key: "val/agreement", title: "Agreement with the teacher", ...share },
  { id: "kl", key: "val/kl_to_teacher", title: "KL to the teacher", ...loss, unit: "nats" },
  { id: "lr", key: "train/lr", title: "Learning rate", unit: "", format: brief, min: 0 },
  { id: "pace", key: "train/images_per_s", title: "Throughput", unit: "images/s", format: brief, min: 0 },
];
const MAX_SUMMARIES = 4; // with more jobs only screen readers get the summaries in words

class JobCurves extends Curves {
  constructor({ jobs, curves }) {
    super();
    for (const { key } of CHARTS) {
      curves[key]?.forEach((curve, index) => {
        if (curve?.value?.length) this.byKey.set(curveKey(jobs[index], key), curve);
      });
    }
  }
}

const curveKey = (job, key) => `${job.id} ${key}`;

export function createCurves(onAxis) {
  const axes = segmentedControl("X axis", AXES, onAxis);
  const note = el("p", { class: "muted small" });
  const container = el("div", { class: "charts" });
  const node = namedSection("curves", "Curves", [note, axes.node], container);
  let figures = [];
  let shown = "";

  // Other jobs need other charts; new points of the same jobs go into the existing charts.
  function createFigures(jobs) {
    const ids = jobs.map(({ id }) => id).join(" ");
    if (shown === ids) return;
    shown = ids;
    destroy();
    container.dataset.many = String(jobs.length > MAX_SUMMARIES);
    figures = CHARTS.map((chart) => chartFigure({
      ...chart,
      series: () => jobs.map((job, index) => ({ key: curveKey(job, chart.key), label: LINES[index].letter, width: 2, ...LINES[index] })),
    }));
    setChildren(container, figures.map(({ node: figure }) => figure));
  }

  const destroy = () => figures.forEach((figure) => figure.destroy());

  function update(comparison, axis) {
    const curves = new JobCurves(comparison);
    createFigures(comparison.jobs);
    for (const figure of figures) figure.update(curves, axis);
    setText(note, curves.points ? `${integer(curves.points)} points; the letters stand for the jobs above` : "No curves yet: they start with the first step.");
  }

  return { node, mark: axes.mark, update, destroy };
}

export function comparedJobs({ onMove, onRemove }) {
  const node = el("ol", { class: "compared", "aria-label": "Jobs compared" });
  let seen = "";

  function update(ids, jobs) {
    const now = JSON.stringify([ids, jobs?.map(({ id, name, state }) => [id, name, state])]);
    if (now === seen) return;
    seen = now;
    const focused = [...node.children].findIndex((entry) => entry.contains(document.activeElement));
    setChildren(node, ids.map((id, index) => entry(id, index, jobs?.find((job) => job.id === id))));
    // After a removal the focus stays at the same position.
    if (focused >= 0) node.children[Math.min(focused, ids.length - 1)]?.querySelector("a").focus();
  }

  function entry(id, index, job) {
    const name = job?.name ?? id;
    return el("li", { class: "panel" },
      el("div", { class: "who" }, jobMark(index), job ? stateChip(job.state) : null),
      el("a", { class: "name", href: `#/jobs/${encodeURIComponent(id)}`, title: name }, name),
      el("p", { class: "muted small" }, job ? about(job) : "\u00a0"),
      el("div", { class: "row-actions" },
        index === 0 ? el("span", { class: "small" }, "Reference") : smallButton("As reference", () => onMove(id), { "aria-label": `${name} as reference` }),
        smallButton("Remove", () => onRemove(id), { "aria-label": `Remove ${name}` })));
  }

  return { node, update };
}

function about({ student, teacher, methods }) {
  const names = [teacher ?? []].flat().map(shortName).join(" + ");
  const method = [methods ?? []].flat().map(readable).join(" + ");
  const pair = [names, readable(shortName(student).replace("+width-", " × ").replaceAll("+", ", "))].filter(Boolean).join(" → ");
  return [pair, method].filter(Boolean).join(" · ");
}

export function missingJobs(ids, onDrop) {
  const single = ids.length === 1;
  return notice(single ? "One of the jobs was not found" : `${ids.length} of the jobs were not found`, [`${ids.join(", ")}: deleted, of another project, or a wrong id.`,
    el("div", {}, smallButton(single ? "Compare without it" : "Compare without them", onDrop))], { role: "alert" });
}
