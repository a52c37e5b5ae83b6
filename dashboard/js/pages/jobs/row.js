// One job as a row, which changes only where the job did; and the table with nothing in it.

import { ago, between, canCancel, cancel, chip, code, copyOf, duration, el, fixed, href, isLive, left, methodOf, moment, phaseWords, points, progressBar, put, small, studentOf, svg, teacherOf } from "../../kit.js";

const WIDTH = 88;
const HEIGHT = 26;

/** Validation top-1 over the epochs, with the teacher's as a dashed line; null without a curve. */
function spark(curve, teacher) {
  const values = (curve ?? []).filter((value) => Number.isFinite(value));
  if (values.length < 2) return null;
  const level = Number.isFinite(teacher) ? [teacher] : [];
  const low = Math.min(...values, ...level);
  const high = Math.max(...values, ...level);
  const y = (value) => HEIGHT - 3 - ((value - low) / (high - low || 1)) * (HEIGHT - 6);
  const x = (at) => 2 + (at / (values.length - 1)) * (WIDTH - 6);
  const path = values.map((value, at) => `${at ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const label = `Validation top-1 from ${fixed(values[0])} to ${fixed(values.at(-1))}`;
  return svg(
    "svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label },
    level.length ? svg("line", { x1: 0, x2: WIDTH, y1: y(teacher), y2: y(teacher) }) : null,
    svg("path", { d: path }),
    svg("circle", { cx: x(values.length - 1), cy: y(values.at(-1)), r: 2.2 }),
  );
}

export const COLUMNS = ["", "State", "Job", "Teacher → student", "Progress", "Top-1", "Curve", "Age", ""];

export function row(on) {
  const cell = (name, label) => el("td", { class: name, "data-label": label });
  const box = el("input", { type: "checkbox", on: { change: () => on.pick(job.id) } });
  const cells = {
    pick: el("td", { class: "pick" }, el("label", {}, box)),
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
    if (event.target.closest("a, button, label, input") || String(getSelection())) return;
    location.hash = href(`/jobs/${job.id}`);
  }

  async function stop(event) {
    event.target.disabled = true;
    try {
      const changed = await cancel(job);
      if (changed) on.changed(changed);
    } catch (error) {
      on.failed(`Not cancelled: ${error.message}`);
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
    box.setAttribute("aria-label", `Choose ${name}`);
    if (!cells.pair.firstChild) pair();
    put(cells.score, score(job));
    put(cells.curve, spark(job.summary?.curve, job.summary?.["teacher/top1"]) ?? "");
    if (!canCancel(job)) put(cells.do);
    else if (!cells.do.firstChild) {
      put(cells.do, small("Cancel", stop, { "aria-label": `Cancel ${name}` }));
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
    const text = ago(job.created_at);
    if (cells.age.textContent !== text) put(cells.age, el("span", { class: "muted", title: moment(job.created_at) }, text));
  }

  function pick(chosen) {
    box.checked = chosen;
    node.toggleAttribute("data-chosen", chosen);
  }

  return { node, update, tick, pick, get job() { return job; } };
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
    job.result ? null : el("span", { class: "small" }, " validation"),
  );
}

export function skeleton(lines = 6) {
  const widths = ["", "70%", "85%", "75%", "90%", "60%", "90%", "60%", ""];
  return Array.from({ length: lines }, () =>
    el("tr", { "aria-hidden": "true" }, COLUMNS.map((_, at) => {
      const bone = el("span", { class: "bone" });
      bone.style.width = widths[at];
      return el("td", {}, widths[at] ? bone : null);
    })));
}

export function nothing(filtered) {
  const node = el("div", { class: "empty" }, copyOf(filtered ? "jobs-filtered" : "jobs-none"));
  node.querySelector("pre")?.replaceWith(code(node.querySelector("pre").textContent.replace("ORIGIN", location.origin), "The first job with curl"));
  return node;
}
