// One job: its header, progress, outcome and curves, and tabs of details.

import { jobPath, post } from "../fetch.js";
import { announce, button, copyButton, errorNotice, fact, progressBar, sentence } from "../components.js";
import { el, setChildren, setText } from "../dom.js";
import { ago, capital, dateTime, duration, integer, readable, secondsBetween, timeLeft, timeOfDay } from "../format.js";
import { canCancel, cancelJob, deleteJob, studentDownload } from "../job-actions.js";
import { isLive, phaseWords, stateChip, stateWord, TERMINAL } from "../job-state.js";
import { JobStore } from "../live-jobs.js";
import { findAssetIfPossible, methodName, studentName, teacherName } from "../lookups.js";
import { href, replaceQuery } from "../router.js";
import { pollWhileVisible } from "../streams.js";
import { tabs } from "../tabs.js";
import { axisOf, charts } from "./job-page/curves.js";
import { DETAIL_TABS, logTab } from "./job-page/detail-tabs.js";
import { outcome } from "./job-page/job-report.js";

const DRAW_MS = 500; // at most two updates a second
const QUEUE_MS = 5000; // the position in the queue changes without an event of this job

export function mount(main, { args: [id], query }) {
  let job = null;
  let drawing = 0;
  const store = new JobStore(id, axisOf(query.get("x")), { job: show, report: showReport, event: addEvent, change: drawSoon, error: showError });
  const log = logTab(id);
  const header = jobHeader((changed) => (changed ? store.setJob(changed) : store.refresh()));
  const parts = { header, states: timeline(), waiting: waitingNotice(), progress: progressPanel(), failure: failureNotice() };
  const result = outcome();
  const lines = charts(store, () => openTabs.get("metrics")?.update());
  const openTabs = new Map();
  const list = DETAIL_TABS.map(([tab, label, create]) => ({ id: tab, label, create: () => openTab(tab, create) }));

  function openTab(name, create) {
    const tab = create(store, log);
    openTabs.set(name, tab);
    tab.update?.(job, store.report);
    return tab.node;
  }

  function build() {
    const first = query.get("tab") ?? (job.state === "succeeded" && job.kind !== "warm" ? "report" : "log");
    const details = tabs("Details", list, first, (tab) => {
      replaceQuery({ tab });
      if (tab === "log") log.draw();
    });
    setChildren(main, el("div", { class: "stack" }, header.node, parts.states.node, parts.waiting.node, parts.progress.node, parts.failure.node, result.node, lines.node, details.node));
    log.draw();
    // The router focused the page before it had a heading.
    if (document.activeElement === main) header.node.querySelector("h1").focus();
  }

  function show(next) {
    const before = job;
    job = next;
    if (!before) build();
    else if (before.state !== job.state) announce(`${job.resolved.name}: ${stateWord(job.state)}`);
    for (const part of Object.values(parts)) part.update?.(job);
    updateTabs();
    const percent = isLive(job) && job.progress ? `${Math.floor(100 * job.progress.fraction)} % · ` : "";
    document.title = `${percent}${job.resolved.name} – Stillhouse`;
  }

  const updateTabs = () => openTabs.forEach((tab) => tab.update?.(job, store.report));

  function showReport(report) {
    result.update(report, job);
    updateTabs();
  }

  function addEvent(event) {
    log.add(event);
    if (event.type === "state") parts.states.add(event);
  }

  function drawSoon() {
    drawing ||= setTimeout(draw, DRAW_MS);
  }

  function draw() {
    drawing = 0;
    job = store.job;
    lines.update();
    log.update();
    openTabs.get("metrics")?.update();
    parts.progress.update(job);
  }

  function showError(error) {
    setChildren(main, el("h1", { class: "hidden", tabindex: "-1" }, "Job"), errorNotice(error, error.status === 404 ? null : load));
  }

  function load() {
    setChildren(main, el("p", { class: "muted" }, "Loading the job…"));
    store.load();
  }

  const queue = pollWhileVisible(() => (job?.state === "queued" ? store.refresh() : undefined), () => QUEUE_MS);
  const ticking = setInterval(() => document.hidden || (parts.states.tick(), header.tick()), 1000);
  load();

  return {
    update() {}, // only this page changes its query
    leave() {
      store.close();
      queue.stop();
      clearInterval(ticking);
      clearTimeout(drawing);
      lines.destroy();
      openTabs.get("metrics")?.destroy();
    },
  };
}

const ACTIONS = {
  pause: { label: "Pause", states: ["queued", "starting", "running"] },
  resume: { label: "Resume", states: ["pausing", "paused"] },
  retry: { label: "Retry", states: ["failed"] },
};

/** `onChange(job)` gets the job after an action, or null if the job must be loaded again. */
function jobHeader(onChange) {
  const title = el("h1", { tabindex: "-1" });
  const state = el("span");
  const facts = el("div", { class: "facts" });
  const actions = el("div", { class: "actions" });
  const message = el("p", { class: "refused small", role: "status" });
  const node = el("div", {}, el("a", { class: "crumb", href: href("/jobs") }, "← Jobs"),
    el("div", { class: "job-head" }, el("div", { class: "title" }, title, state), actions), message, facts);
  let job = null;
  let seen = "";
  const posted = el("span");
  const tick = () => job && setText(posted, ago(job.created_at));

  async function cancel(event) {
    event.target.disabled = true;
    try {
      const changed = await cancelJob(job);
      if (changed) onChange(changed);
      else event.target.disabled = false;
    } catch (error) {
      event.target.disabled = false;
      setText(message, `Not cancelled: ${error.message}`);
      onChange(null); // its state may have changed meanwhile
    }
  }

  async function act(event, action) {
    event.target.disabled = true;
    try {
      const changed = await post(jobPath(job.id, `/${action}`));
      announce(`${changed.resolved.name}: ${stateWord(changed.state)}`);
      if (action === "retry") location.reload(); // the stream of the failed job has ended
      else onChange(changed);
    } catch (error) {
      event.target.disabled = false;
      setText(message, `The job did not accept this: ${error.message}.`);
      onChange(null);
    }
  }

  const actionButtons = () => Object.entries(ACTIONS).filter(([, { states }]) => states.includes(job.state))
    .map(([action, { label }]) => button(label, (event) => act(event, action)));

  async function remove(event) {
    event.target.disabled = true;
    try {
      if (await deleteJob(job)) location.hash = href("/jobs");
    } catch (error) {
      setText(message, `Not deleted: ${error.message}.`);
    }
    event.target.disabled = false;
  }

  function buttons() {
    const student = job.state === "succeeded" && job.kind === "distill"; // other kinds train no student
    const pageLink = (path, text, query) => el("a", { class: "button", href: href(path, query) }, text);
    return [
      ...actionButtons(),
      canCancel(job) ? button("Cancel job", cancel) : null,
      TERMINAL.includes(job.state) ? button("Delete", remove) : null,
      pageLink("/new", "Duplicate", { from: job.id }),
      pageLink("/compare", "Compare", { jobs: job.id }),
      student ? pageLink(`/students/${job.id}`, "Student page") : null,
      student ? studentDownload(job) : null,
    ];
  }

  return {
    node,
    tick,
    async update(next) {
      job = next;
      tick();
      const now = JSON.stringify([job.state, job.resolved.name]);
      if (now === seen) return;
      seen = now;
      setChildren(title, job.resolved.name);
      setChildren(state, stateChip(job.state));
      setChildren(actions, buttons());
      const [teacher, dataset] = await Promise.all([teacherName(job), findAssetIfPossible("datasets", job.dataset)]);
      const student = studentName(job);
      setChildren(facts,
        fact(teacher ? "Teacher → student" : "Student", teacher ? `${teacher} → ${student}` : student),
        fact("Method", methodName(job)),
        fact("Data", dataset?.name ?? job.dataset),
        ...Object.entries(job.labels ?? {}).map(([key, value]) => fact("Label", el("a", { href: href("/jobs", { label: `${key}:${value}` }) }, `${key}:${value}`))),
        el("span", { title: dateTime(job.created_at) }, el("span", { class: "muted" }, "Posted"), posted),
        job.usage?.device_s && TERMINAL.includes(job.state) ? fact("Device time", duration(job.usage.device_s)) : null,
        el("span", {}, el("code", { class: "muted" }, job.id), copyButton(() => job.id, "Copy the job's id")));
    },
  };
}

const REASONS = { lost: "its worker was lost", stopped: "its worker was shut down", stalled: "its engine stopped responding", crashed: "its engine crashed", storage_unavailable: "the object store was down" };

/** The states of the job and the time it spent in them. */
function timeline() {
  const list = el("ol", { class: "timeline", "aria-label": "States" });
  const states = [];

  function tick() {
    states.forEach(({ state, time, spent }, index) => {
      const next = states[index + 1]?.time;
      const ended = TERMINAL.includes(state);
      setText(spent, ended ? `at ${timeOfDay(time)}` : duration(secondsBetween(time, next)));
    });
  }

  return {
    node: list,
    tick,
    add({ time, data }) {
      const spent = el("span", { class: "num" });
      const reason = data.reason && data.state === "queued" ? el("span", {}, ` (${REASONS[data.reason] ?? data.reason})`) : null;
      states.push({ state: data.state, time, spent });
      list.append(el("li", { title: timeOfDay(time) }, el("b", {}, stateWord(data.state)), spent, reason));
      tick();
    },
  };
}

const TRANSITIONS = { cancelling: "ending at the next step", pausing: "writing a checkpoint" };

function progressPanel() {
  const bar = progressBar("Progress of this job");
  const percent = el("strong", { class: "num" });
  const eta = el("span", { class: "muted num" });
  const position = el("p", { class: "where num" });
  const node = el("div", { class: "panel going" }, percent, bar.node, eta, position);
  return {
    node,
    update(job) {
      node.hidden = !isLive(job) || job.state === "queued";
      if (node.hidden) return;
      const { progress } = job;
      bar.set(progress?.fraction);
      setText(percent, `${Math.floor(100 * (progress?.fraction ?? 0))} %`);
      setText(eta, timeLeft(job.eta_s));
      const steps = progress ? `epoch ${progress.epoch} of ${progress.epochs} · step ${integer(progress.step)} of ${integer(progress.steps)}` : "";
      const scope = job.resolved.evaluation?.baseline ? "student and undistilled student together" : "";
      const text = [TRANSITIONS[job.state] ?? phaseWords(job.phase), steps, progress ? scope : ""].filter(Boolean).join(" · ");
      setText(position, capital(text));
    },
  };
}

function waitingNotice() {
  const node = el("div", { class: "notice", "data-tone": "wait", hidden: true });
  let seen = "";
  return {
    node,
    update(job) {
      node.hidden = !["queued", "paused"].includes(job.state);
      const now = `${job.waiting_reason ?? "the worker is free for other jobs; Resume continues from the last checkpoint"}`;
      if (node.hidden || now === seen) return;
      seen = now;
      const noWorker = now === "no worker is running";
      setChildren(node, el("strong", {}, job.state === "paused" ? "Paused" : "Waiting in the queue"), sentence(now), noWorker ? [" ", el("code", {}, "stillhouse up"), " starts workers; then the job starts by itself."] : null);
    },
  };
}

function failureNotice() {
  const node = el("div", { class: "notice", "data-tone": "bad", hidden: true });
  return {
    node,
    update(job) {
      const { error } = job;
      node.hidden = !error || job.state !== "failed";
      if (node.hidden || node.firstChild) return;
      const context = [error.phase ? `while ${phaseWords(error.phase)}` : "", error.run ? `run ${error.run}` : ""].filter(Boolean).join(", ");
      setChildren(node,
        el("strong", {}, `Failed: ${readable(error.code)}`, context ? el("span", { class: "muted" }, ` · ${context}`) : null),
        el("p", {}, sentence(error.message)),
        error.hint ? el("p", {}, el("b", {}, "Possible fix: "), sentence(error.hint)) : null,
        error.items?.length ? el("ul", {}, error.items.map((item) => el("li", {}, el("code", {}, item.name), ` ${item.detail}`))) : null);
    },
  };
}
