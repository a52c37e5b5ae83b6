// The table of jobs: is it running, how long yet, is the student any good.

import { get, isIgnorable } from "../api.js";
import { button, codeBlock, errorNotice, progressBar, smallButton } from "../components.js";
import { fromTemplate, el, setChildren, setText, svg } from "../dom.js";
import { ago, secondsBetween, timeOfDay, duration, fixed, timeLeft, dateTime, points } from "../format.js";
import { canCancel, cancelJob } from "../job-actions.js";
import { stateChip, isLive, phaseWords } from "../job-state.js";
import { setConnection } from "../layout.js";
import { methodName, studentName, teacherName } from "../lookups.js";
import { href } from "../router.js";
import { asked, countWords, filtered, filters } from "./jobs/filters.js";
import { JobList, keepFresh } from "./jobs/job-list.js";
import { help, picked, tableKeys } from "./jobs/selection.js";

const DRAW_MS = 500; // at most two updates a second
const SETTLE_MS = 2000; // counts and places in the queue follow a change of state

export function mount(main, { query }) {
  let list = null;
  let request = new AbortController();
  let drawing = 0;
  let settling = 0;
  const rows = new Map();
  const body = el("tbody");
  const chosen = picked({ jobs: () => list.jobs, shown: (ids) => { for (const [id, line] of rows) line.pick(ids.has(id)); }, changed });
  const heads = COLUMNS.map((name, at) => el("th", { scope: "col", class: at ? null : "pick" }, at ? name || el("span", { class: "hidden" }, "Actions") : el("label", {}, chosen.all)));
  const grid = el("table", { class: "cards jobs" }, el("caption", { class: "hidden" }, "Jobs, the newest first"), el("thead", {}, el("tr", {}, heads)), body);
  const said = el("div");
  const empty = el("div");
  const count = el("span");
  const fresh = el("span");
  const more = button("Show more", () => load(() => list.more(request.signal)), { hidden: true });
  const bar = filters(show);
  setChildren(main,
    el("div", { class: "jobs-head" }, el("div", { class: "jobs-title" }, el("h1", { tabindex: "-1" }, "Jobs"), el("a", { class: "button primary", href: href("/new") }, "New job")), bar.nodes),
    said, chosen.told,
    el("div", { class: "panel" }, el("div", { class: "scroll" }, grid), empty), chosen.node,
    el("div", { class: "jobs-foot" }, more, count, fresh, el("button", { class: "keys toggle", type: "button", on: { click: help } }, "Keys ", el("kbd", {}, "?"))));

  function show(next) {
    request.abort();
    request = new AbortController();
    list = new JobList(asked(next));
    bar.show(next);
    rows.clear();
    chosen.clear();
    setChildren(empty);
    grid.hidden = false;
    more.hidden = true;
    setText(count, "");
    setChildren(body, skeleton());
    grid.setAttribute("aria-busy", "true");
    load(() => list.more(request.signal)).then(settle);
  }

  async function load(step) {
    const mine = list;
    try {
      await step();
      if (mine !== list) return;
      setChildren(said);
      draw();
      if (!live.streaming) setConnection("idle");
      live.start();
    } catch (error) {
      if (isIgnorable(error) || mine !== list) return;
      setConnection(error.status === 0 ? "offline" : "idle");
      setChildren(said, errorNotice(error, () => load(() => list.refresh(request.signal))));
      if (list.read) return;
      grid.removeAttribute("aria-busy");
      grid.hidden = true; // nothing is on its way any more
    }
  }

  function changed(job) {
    const state = list.jobs.get(job.id)?.state;
    list.take([job]);
    if (state !== job.state) settling ||= setTimeout(settle, SETTLE_MS);
    drawing ||= setTimeout(draw, DRAW_MS);
  }

  /** Counts by state and places in the queue: of the whole project, so no job's own change tells them. */
  async function settle() {
    clearTimeout(settling);
    settling = 0;
    if (document.hidden) return;
    const { signal } = request;
    try {
      bar.count((await get("/v1/usage", {}, signal)).jobs);
      await list.waiting(signal);
      if (list.read && !signal.aborted) draw();
    } catch {
      // The table itself says when the server is away.
    }
  }

  function draw() {
    clearTimeout(drawing);
    drawing = 0;
    if (!list.read) return;
    grid.removeAttribute("aria-busy");
    grid.hidden = false;
    const sorted = list.sorted;
    if (!rows.size) setChildren(body);
    for (const id of rows.keys()) if (!list.jobs.has(id)) drop(id);
    sorted.forEach((job, at) => {
      if (!rows.has(job.id)) rows.set(job.id, row({ changed, pick: chosen.toggle, failed: (text) => setText(chosen.told, text) }));
      const line = rows.get(job.id);
      line.update(job);
      if (body.children[at] !== line.node) body.insertBefore(line.node, body.children[at] ?? null);
    });
    grid.hidden = !sorted.length;
    if (sorted.length) setChildren(empty);
    else if (!empty.firstChild) setChildren(empty, nothing(filtered(list.filter)));
    more.hidden = !list.cursor;
    if (sorted.length) countWords(count, sorted.length, list.cursor);
    else setText(count, "");
    chosen.show();
    setText(fresh, `Updated ${timeOfDay(new Date().toISOString())}${live.streaming ? "" : ", every few seconds"}`);
  }

  function drop(id) {
    const { node } = rows.get(id);
    const next = node.nextElementSibling ?? node.previousElementSibling;
    const focused = node.contains(document.activeElement);
    node.remove();
    rows.delete(id);
    if (focused) next?.querySelector(".name")?.focus();
  }

  const live = keepFresh({
    job: changed,
    again: () => load(() => list.refresh(request.signal)).then(settle),
    ages: () => rows.forEach((line) => line.tick()),
    lively: () => Boolean(list?.live.length),
  });
  const endKeys = tableKeys(body, {
    search: () => bar.box.focus(),
    pick: (node) => [...rows].forEach(([id, line]) => line.node === node && chosen.toggle(id)),
  });
  show(query);

  return {
    update: show,
    leave() {
      request.abort();
      clearTimeout(drawing);
      clearTimeout(settling);
      live.stop();
      bar.stop();
      endKeys();
    },
  };
}

// One job as a row, which changes only where the job did; and the table with nothing in it.

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
      const changed = await cancelJob(job);
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
    if (cells.state.firstChild?.dataset?.state !== job.state) setChildren(cells.state, stateChip(job.state));
    // The link stays the same element: it may have the focus.
    if (cells.job.firstChild?.textContent !== name) setChildren(cells.job, el("a", { class: "name", href: href(`/jobs/${job.id}`), title: name }, name));
    box.setAttribute("aria-label", `Choose ${name}`);
    if (!cells.pair.firstChild) pair();
    setChildren(cells.score, score(job));
    setChildren(cells.curve, spark(job.summary?.curve, job.summary?.["teacher/top1"]) ?? "");
    if (!canCancel(job)) setChildren(cells.do);
    else if (!cells.do.firstChild) {
      setChildren(cells.do, smallButton("Cancel", stop, { "aria-label": `Cancel ${name}` }));
    }
    setChildren(cells.progress, progress(job));
  }

  async function pair() {
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
    const words = job.phase === "training" || !job.phase ? timeLeft(job.eta_s) : phaseWords(job.phase);
    return [bar.node, el("span", { class: "muted small num" }, `${Math.floor(100 * fraction)} %`, words ? ` · ${words}` : "")];
  }
  if (job.state === "failed") return el("span", { class: "small" }, job.error?.code?.replaceAll("_", " ") ?? "failed");
  const took = job.started_at && job.finished_at ? `took ${duration(secondsBetween(job.started_at, job.finished_at))}` : "never started";
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
  const node = el("div", { class: "empty" }, fromTemplate(filtered ? "jobs-filtered" : "jobs-none"));
  node.querySelector("pre")?.replaceWith(codeBlock(node.querySelector("pre").textContent.replace("ORIGIN", location.origin), "The first job with curl"));
  return node;
}
