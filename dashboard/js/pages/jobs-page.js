// The table of jobs: state, progress, quality of the student.

import { get, isIgnorable } from "../fetch.js";
import { button, codeBlock, errorNotice, progressBar, showOutcome, smallButton } from "../components.js";
import { el, fromTemplate, setChildren, setText, svg } from "../dom.js";
import { ago, dateTime, decimal, duration, pluralize, points, readable, secondsBetween, timeLeft, timeOfDay } from "../format.js";
import { canCancel, cancelJob } from "../job-actions.js";
import { isLive, phaseWords, stateChip } from "../job-state.js";
import { JobList, keepUpdated } from "../live-jobs.js";
import { methodName, studentName, teacherName } from "../lookups.js";
import { href } from "../router.js";
import { createSelection, filters, isFiltered, matches, parseQuery, showHelp, tableKeys } from "./jobs-page/table-controls.js";

const DRAW_MS = 500; // at most two updates a second
const COUNTS_MS = 2000; // after a change of state, before the counts are loaded

export function mount(main, { query }) {
  let list = null;
  let request = new AbortController();
  let drawing = 0;
  let countTimer = 0;
  const rows = new Map();
  const body = el("tbody");
  const selection = createSelection({ jobs: () => list.jobs, select: (ids) => { for (const [id, line] of rows) line.select(ids.has(id)); }, put });
  const headers = COLUMNS.map((name, index) => el("th", { scope: "col", class: index ? null : "select" }, index ? name || el("span", { class: "hidden" }, "Actions") : el("label", {}, selection.all)));
  const table = el("table", { class: "cards jobs" }, el("caption", { class: "hidden" }, "Jobs, the newest first"), el("thead", {}, el("tr", {}, headers)), body);
  const message = el("div");
  const empty = el("div");
  const count = el("span");
  const updated = el("span");
  const more = button("Show more", () => load(() => list.more(request.signal)), { hidden: true });
  const bar = filters(show);
  setChildren(main,
    el("div", { class: "jobs-head" }, el("div", { class: "jobs-title" }, el("h1", { tabindex: "-1" }, "Jobs"), el("a", { class: "button primary", href: href("/new") }, "New job")), bar.nodes),
    message, selection.message,
    el("div", { class: "panel" }, el("div", { class: "scroll" }, table), empty), selection.node,
    el("div", { class: "jobs-foot" }, more, count, updated, el("button", { class: "keys toggle", type: "button", on: { click: showHelp } }, "Keys ", el("kbd", {}, "?"))));

  function show(next) {
    request.abort();
    request = new AbortController();
    list = new JobList(parseQuery(next), matches);
    bar.show(next);
    rows.clear();
    selection.clear();
    setChildren(empty);
    table.hidden = false;
    more.hidden = true;
    setText(count, "");
    setChildren(body, skeletonRows());
    table.setAttribute("aria-busy", "true");
    load(() => list.more(request.signal)).then(loadCounts);
  }

  async function load(action) {
    const current = list;
    try {
      await action();
      if (current !== list) return;
      setChildren(message);
      draw();
      if (!live.streaming) showOutcome();
      live.start();
    } catch (error) {
      if (isIgnorable(error) || current !== list) return;
      showOutcome(error);
      setChildren(message, errorNotice(error, () => load(() => list.refresh(request.signal))));
      if (list.loaded) return;
      table.removeAttribute("aria-busy");
      table.hidden = true;
    }
  }

  function put(job) {
    const state = list.jobs.get(job.id)?.state;
    list.update([job]);
    if (state !== job.state) countTimer ||= setTimeout(loadCounts, COUNTS_MS);
    drawing ||= setTimeout(draw, DRAW_MS);
  }

  // The counts by state and the positions in the queue depend on all jobs of the project, so no event carries them.
  async function loadCounts() {
    clearTimeout(countTimer);
    countTimer = 0;
    if (document.hidden) return;
    const { signal } = request;
    try {
      bar.count((await get("/v1/usage", {}, signal)).jobs);
      await list.refreshQueued(signal);
      if (list.loaded && !signal.aborted) draw();
    } catch {
      // The request of the table shows this error.
    }
  }

  function draw() {
    clearTimeout(drawing);
    drawing = 0;
    if (!list.loaded) return;
    table.removeAttribute("aria-busy");
    table.hidden = false;
    const sorted = list.sorted;
    if (!rows.size) setChildren(body);
    for (const id of rows.keys()) if (!list.jobs.has(id)) drop(id);
    sorted.forEach((job, index) => {
      if (!rows.has(job.id)) rows.set(job.id, jobRow({ put, select: selection.toggle, fail: (text) => setText(selection.message, text) }));
      const line = rows.get(job.id);
      line.update(job);
      if (body.children[index] !== line.node) body.insertBefore(line.node, body.children[index] ?? null);
    });
    table.hidden = !sorted.length;
    if (sorted.length) setChildren(empty);
    else if (!empty.firstChild) setChildren(empty, noJobs(isFiltered(list.filter)));
    more.hidden = !list.cursor;
    setText(count, sorted.length ? pluralize(sorted.length, "job") + (list.cursor ? " shown" : "") : "");
    selection.show();
    setText(updated, `Updated ${timeOfDay(new Date().toISOString())}${live.streaming ? "" : ", every few seconds"}`);
  }

  function drop(id) {
    const { node } = rows.get(id);
    const next = node.nextElementSibling ?? node.previousElementSibling;
    const focused = node.contains(document.activeElement);
    node.remove();
    rows.delete(id);
    if (focused) next?.querySelector(".name")?.focus();
  }

  const live = keepUpdated({
    job: put,
    refresh: () => load(() => list.refresh(request.signal)).then(loadCounts),
    tick: () => rows.forEach((line) => line.tick()),
    hasLive: () => Boolean(list?.live.length),
  });
  const endKeys = tableKeys(body, {
    search: () => bar.box.focus(),
    select: (node) => [...rows].forEach(([id, line]) => line.node === node && selection.toggle(id)),
  });
  show(query);

  return {
    update: show,
    leave() {
      request.abort();
      clearTimeout(drawing);
      clearTimeout(countTimer);
      live.stop();
      bar.stop();
      endKeys();
    },
  };
}

const WIDTH = 88;
const HEIGHT = 26;

// Top-1 on the validation split over the epochs, with the teacher's as a dashed line; null without a curve.
function sparkline(curve, teacher) {
  const values = (curve ?? []).filter((value) => Number.isFinite(value));
  if (values.length < 2) return null;
  const level = Number.isFinite(teacher) ? [teacher] : [];
  const low = Math.min(...values, ...level);
  const high = Math.max(...values, ...level);
  const y = (value) => HEIGHT - 3 - ((value - low) / (high - low || 1)) * (HEIGHT - 6);
  const x = (index) => 2 + (index / (values.length - 1)) * (WIDTH - 6);
  const path = values.map((value, index) => `${index ? "L" : "M"}${x(index).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const label = `Validation top-1 from ${decimal(values[0])} to ${decimal(values.at(-1))}`;
  return svg(
    "svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label },
    level.length ? svg("line", { x1: 0, x2: WIDTH, y1: y(teacher), y2: y(teacher) }) : null,
    svg("path", { d: path }),
    svg("circle", { cx: x(values.length - 1), cy: y(values.at(-1)), r: 2.2 }),
  );
}

const COLUMNS = ["", "State", "Job", "Teacher → student", "Progress", "Top-1", "Curve", "Age", ""];

/** The row of one job. `on`: {put(job), select(id), fail(text)}. */
function jobRow(on) {
  const cell = (name, label) => el("td", { class: name, "data-label": label });
  const box = el("input", { type: "checkbox", on: { change: () => on.select(job.id) } });
  const cells = {
    select: el("td", { class: "select" }, el("label", {}, box)),
    state: cell("state"),
    job: cell("job"),
    pair: cell("pair-cell", "Teacher → student"),
    progress: cell("progress", "Progress"),
    score: cell("score", "Top-1"),
    curve: cell("curve"),
    age: cell("age num"),
    actions: cell("row-actions"),
  };
  const node = el("tr", { on: { click: open } }, Object.values(cells));
  let job = null;
  let seen = "";

  function open(event) {
    if (event.target.closest("a, button, label, input") || String(getSelection())) return;
    location.hash = href(`/jobs/${job.id}`);
  }

  async function cancel(event) {
    event.target.disabled = true;
    try {
      const changed = await cancelJob(job);
      if (changed) on.put(changed);
    } catch (error) {
      on.fail(`Not cancelled: ${error.message}`);
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
    if (cells.state.firstChild?.dataset?.state !== job.state) setChildren(cells.state, stateChip(job.state));
    // The link is replaced only if its text changes, because it may have the focus.
    if (cells.job.firstChild?.textContent !== name) setChildren(cells.job, el("a", { class: "name", href: href(`/jobs/${job.id}`), title: name }, name));
    box.setAttribute("aria-label", `Select ${name}`);
    if (!cells.pair.firstChild) showPair();
    setChildren(cells.score, score(job));
    setChildren(cells.curve, sparkline(job.summary?.curve, job.summary?.["teacher/top1"]) ?? "");
    if (!canCancel(job)) setChildren(cells.actions);
    else if (!cells.actions.firstChild) {
      setChildren(cells.actions, smallButton("Cancel", cancel, { "aria-label": `Cancel ${name}` }));
    }
    setChildren(cells.progress, progress(job));
  }

  async function showPair() {
    const student = studentName(job);
    const method = el("span", { class: "muted small" }, methodName(job));
    setChildren(cells.pair, el("span", { class: "pair" }, student), method);
    const teacher = await teacherName(job);
    if (teacher) setChildren(cells.pair, el("span", { class: "pair" }, `${teacher} → ${student}`), method);
  }

  function tick() {
    const text = ago(job.created_at);
    if (cells.age.textContent !== text) setChildren(cells.age, el("span", { class: "muted", title: dateTime(job.created_at) }, text));
  }

  function select(selected) {
    box.checked = selected;
    node.toggleAttribute("data-selected", selected);
  }

  return { node, update, tick, select, get job() { return job; } };
}

function progress(job) {
  if (job.state === "queued") return el("span", { class: "muted small" }, job.waiting_reason ?? "waiting");
  if (isLive(job)) {
    const bar = progressBar(`Progress of ${job.resolved.name}`);
    const fraction = job.progress?.fraction ?? 0;
    bar.set(fraction);
    const text = job.phase === "training" || !job.phase ? timeLeft(job.eta_s) : phaseWords(job.phase);
    return [bar.node, el("span", { class: "muted small num" }, `${Math.floor(100 * fraction)} %`, text ? ` · ${text}` : "")];
  }
  if (job.state === "failed") return el("span", { class: "small" }, readable(job.error?.code ?? "failed"));
  const time = job.started_at && job.finished_at ? `took ${duration(secondsBetween(job.started_at, job.finished_at))}` : "never started";
  return el("span", { class: "muted small num" }, time);
}

function score(job) {
  const test = job.result?.student_top1;
  const value = test ?? job.summary?.["val/top1"];
  if (!Number.isFinite(value)) return el("span", { class: "muted" }, "–");
  const teacher = job.result ? job.result.teacher_top1 : job.summary?.["teacher/top1"];
  const title = job.result ? "On the test split" : "On the validation split, so far";
  return el(
    "span", { title, class: job.result ? null : "muted" },
    el("b", {}, decimal(value)),
    Number.isFinite(teacher) ? el("span", { class: "delta" }, ` · ${points(value - teacher)}`) : null,
    job.result ? null : el("span", { class: "small" }, " validation"),
  );
}

function skeletonRows(lines = 6) {
  const widths = ["", "70%", "85%", "75%", "90%", "60%", "90%", "60%", ""];
  return Array.from({ length: lines }, () =>
    el("tr", { "aria-hidden": "true" }, COLUMNS.map((_, index) => {
      const bone = el("span", { class: "bone" });
      bone.style.width = widths[index];
      return el("td", {}, widths[index] ? bone : null);
    })));
}

function noJobs(filtered) {
  const node = el("div", { class: "empty" }, fromTemplate(filtered ? "jobs-filtered" : "jobs-none"));
  node.querySelector("pre")?.replaceWith(codeBlock(node.querySelector("pre").textContent.replace("ORIGIN", location.origin), "The first job with curl"));
  return node;
}
