// The jobs that are compared: in the address, as a key, to search for, as curves.

import { chartFigure } from "../../charts/chart.js";
import { AXES, Curves } from "../../charts/series.js";
import { notice, segmentedControl, smallButton } from "../../components.js";
import { el, setChildren, setText, svg } from "../../dom.js";
import { brief, fixed, readable, integer } from "../../format.js";
import { stateChip } from "../../job-state.js";
import { shortName } from "../../lookups.js";
import { href } from "../../router.js";

export const MOST = 10;
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
].map(([color, dash], at) => ({ letter: "ABCDEFGHIJ"[at], color, dash }));

export function mark(at) {
  const { letter, color, dash } = LINES[at];
  const line = svg("line", { x1: 0, x2: 30, y1: 4, y2: 4, "stroke-dasharray": dash.join(" ") || null });
  line.style.stroke = `var(${color})`;
  return el("span", { class: "line-mark" }, el("b", {}, letter), svg("svg", { class: "swatch", viewBox: "0 0 30 8", "aria-hidden": "true" }, line));
}

export function asked(query) {
  const ids = [...new Set((query.get("jobs") ?? "").split(",").map((id) => id.trim()).filter(Boolean))];
  const axis = query.get("x");
  return { ids: ids.slice(0, MOST), axis: axis in AXES ? axis : "epoch", more: ids.length > MOST ? ids.length - MOST : 0 };
}

export const compareHref = (ids, axis) => href("/compare", { jobs: ids.join(","), x: axis === "epoch" ? "" : axis });

const share = { unit: "%", format: (value) => fixed(value), most: 100, best: Math.max };
const loss = { unit: "", format: brief, least: 0, best: Math.min, log: true };
const CHARTS = [
  { id: "top1", key: "val/top1", title: "Top-1 on validation", ...share },
  { id: "loss", key: "train/loss", title: "Loss in training", ...loss },
  { id: "agreement", key: "val/agreement", title: "Agreement with the teacher", ...share },
  { id: "kl", key: "val/kl_to_teacher", title: "KL to the teacher", ...loss, unit: "nats" },
  { id: "lr", key: "train/lr", title: "Learning rate", unit: "", format: brief, least: 0 },
  { id: "pace", key: "train/images_per_s", title: "Throughput", unit: "images/s", format: brief, least: 0 },
];
const WORDY = 4; // of more jobs, the sentences would be a wall of text: they are for screen readers then

class Overlaid extends Curves {
  constructor({ jobs, curves }) {
    super();
    for (const { key } of CHARTS) {
      curves[key]?.forEach((curve, at) => {
        if (curve?.value?.length) this.byKey.set(name(jobs[at], key), curve);
      });
    }
  }
}

const name = (job, key) => `${job.id} ${key}`;

export function curves(onAxis) {
  const axes = segmentedControl("X axis", AXES, onAxis);
  const note = el("p", { class: "muted small" });
  const place = el("div", { class: "charts" });
  const node = el("section", { class: "band", "aria-labelledby": "curves" },
    el("div", { class: "section-head" }, el("h2", { id: "curves" }, "Curves"), note, axes.node), place);
  let figures = [];
  let made = "";

  // A new set of jobs is a new set of charts; new points of the same jobs go into those that are there.
  function make(jobs) {
    const wanted = jobs.map(({ id }) => id).join(" ");
    if (made === wanted) return;
    made = wanted;
    destroy();
    place.dataset.many = String(jobs.length > WORDY);
    figures = CHARTS.map((chart) => chartFigure({
      ...chart,
      series: () => jobs.map((job, at) => ({ key: name(job, chart.key), label: LINES[at].letter, width: 2, ...LINES[at] })),
    }));
    setChildren(place, figures.map((each) => each.node));
  }

  const destroy = () => figures.forEach((each) => each.destroy());

  function update(answer, axis) {
    const overlaid = new Overlaid(answer);
    make(answer.jobs);
    for (const each of figures) each.update(overlaid, axis);
    setText(note, overlaid.points ? `${integer(overlaid.points)} points; letters are the jobs above` : "No curves yet: they begin with the first step.");
  }

  return { node, mark: axes.mark, update, destroy };
}

export function keys({ onMove, onRemove }) {
  const node = el("ol", { class: "compared", "aria-label": "Jobs compared" });
  let seen = "";

  function update(ids, jobs) {
    const now = JSON.stringify([ids, jobs?.map(({ id, name, state }) => [id, name, state])]);
    if (now === seen) return;
    seen = now;
    const focused = [...node.children].findIndex((each) => each.contains(document.activeElement));
    setChildren(node, ids.map((id, at) => entry(id, at, jobs?.find((job) => job.id === id))));
    // Whoever has just removed a job goes on where it was.
    if (focused >= 0) node.children[Math.min(focused, ids.length - 1)]?.querySelector("a").focus();
  }

  function entry(id, at, job) {
    const name = job?.name ?? id;
    return el("li", { class: "panel" },
      el("div", { class: "who" }, mark(at), job ? stateChip(job.state) : null),
      el("a", { class: "name", href: `#/jobs/${encodeURIComponent(id)}`, title: name }, name),
      el("p", { class: "muted small" }, job ? about(job) : "\u00a0"),
      el("div", { class: "do" },
        at === 0 ? el("span", { class: "small" }, "Reference") : smallButton("As reference", () => onMove(id), { "aria-label": `${name} as reference` }),
        smallButton("Remove", () => onRemove(id), { "aria-label": `Remove ${name}` })));
  }

  return { node, update };
}

function about({ student, teacher, methods }) {
  const names = [teacher ?? []].flat().map(shortName).join(" + ");
  const method = [methods ?? []].flat().map((each) => readable(each)).join(" + ");
  const pair = [names, shortName(student)].filter(Boolean).join(" → ");
  return [pair, method].filter(Boolean).join(" · ");
}

export function missing(ids, onDrop) {
  const one = ids.length === 1;
  return notice(one ? "One of the jobs is not there" : `${ids.length} of the jobs are not there`, [`${ids.join(", ")}: deleted, of another project, or never there.`,
    el("div", {}, smallButton(one ? "Compare without it" : "Compare without them", onDrop))], { role: "alert" });
}
