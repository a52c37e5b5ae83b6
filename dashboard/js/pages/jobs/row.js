// One job as a row; it changes only where the job did.

import { cancel, canCancel } from "../../cancel.js";
import { el, put } from "../../dom.js";
import { ago, between, duration, fixed, left, moment, points } from "../../format.js";
import { methodOf, studentOf, teacherOf } from "../../names.js";
import { progressBar } from "../../parts.js";
import { href } from "../../router.js";
import { spark } from "../../spark.js";
import { chip, isLive, phaseWords } from "../../state.js";

export const COLUMNS = ["State", "Job", "Teacher → student", "Progress", "Top-1", "Curve", "Age", ""];

export function row(onChange) {
  const cell = (name, label) => el("td", { class: name, "data-label": label });
  const cells = {
    state: cell("state"),
    job: cell("job"),
    pair: cell("pair-cell", "Teacher → student"),
    progress: cell("progress", "Progress"),
    score: cell("score", "Top-1"),
    curve: cell("curve"),
    age: cell("age num"),
    do: cell("do"),
  };
  const node = el("tr", { on: { click: open } }, Object.values(cells));
  let job = null;
  let seen = "";

  function open(event) {
    if (event.target.closest("a, button") || String(getSelection())) return;
    location.hash = href(`/jobs/${job.id}`);
  }

  async function stop(event) {
    event.target.disabled = true;
    try {
      const changed = await cancel(job);
      if (changed) onChange(changed);
    } catch (error) {
      event.target.title = error.message;
    }
    event.target.disabled = false;
  }

  function update(next) {
    job = next;
    tick();
    const now = JSON.stringify([job.state, job.phase, job.name, job.progress, job.summary, job.result, job.waiting_reason]);
    if (now === seen) return;
    seen = now;
    const name = job.resolved.name;
    if (cells.state.firstChild?.dataset?.state !== job.state) put(cells.state, chip(job.state));
    // The link stays the same element: it may have the focus.
    if (cells.job.firstChild?.textContent !== name) put(cells.job, el("a", { class: "name", href: href(`/jobs/${job.id}`), title: name }, name));
    if (!cells.pair.firstChild) pair();
    put(cells.score, score(job));
    put(cells.curve, spark(job.summary?.curve, job.summary?.["teacher/top1"]) ?? "");
    if (!canCancel(job)) put(cells.do);
    else if (!cells.do.firstChild) {
      put(cells.do, el("button", { class: "button small", type: "button", "aria-label": `Cancel ${name}`, on: { click: stop } }, "Cancel"));
    }
    put(cells.progress, progress(job));
  }

  async function pair() {
    const student = studentOf(job);
    const method = el("span", { class: "muted small" }, methodOf(job));
    put(cells.pair, el("span", { class: "pair" }, student), method);
    const teacher = await teacherOf(job);
    if (teacher) put(cells.pair, el("span", { class: "pair" }, `${teacher} → ${student}`), method);
  }

  function tick() {
    put(cells.age, el("span", { class: "muted", title: moment(job.created_at) }, ago(job.created_at)));
  }

  return { node, update, tick, get job() { return job; } };
}

function progress(job) {
  if (job.state === "queued") return el("span", { class: "muted small" }, job.waiting_reason ?? "waiting");
  if (isLive(job)) {
    const bar = progressBar(`Progress of ${job.resolved.name}`);
    const fraction = job.progress?.fraction ?? 0;
    bar.set(fraction);
    const words = job.phase === "training" || !job.phase ? left(job.eta_s) : phaseWords(job.phase);
    return [bar.node, el("span", { class: "muted small num" }, `${Math.floor(100 * fraction)} %`, words ? ` · ${words}` : "")];
  }
  if (job.state === "failed") return el("span", { class: "small" }, job.error?.code?.replaceAll("_", " ") ?? "failed");
  const took = job.started_at && job.finished_at ? `took ${duration(between(job.started_at, job.finished_at))}` : "never started";
  return el("span", { class: "muted small num" }, took);
}

function score(job) {
  const test = job.result?.student_top1;
  const value = test ?? job.summary?.["val/top1"];
  if (!Number.isFinite(value)) return el("span", { class: "muted" }, "–");
  const teacher = job.result ? job.result.teacher_top1 : job.summary?.["teacher/top1"];
  const title = job.result ? "On the test split" : "On the validation split, so far";
  return el(
    "span", { title, class: job.result ? null : "muted" },
    el("b", {}, fixed(value)),
    Number.isFinite(teacher) ? el("span", { class: "delta" }, ` · ${points(value - teacher)}`) : null,
  );
}
