// One job: how it goes, what came out, what it left behind.

import { jobPath, post } from "../api.js";
import { button, copyButton, errorNotice, progressBar, sentence } from "../components.js";
import { el, setChildren, setText } from "../dom.js";
import { ago, secondsBetween, capital, timeOfDay, duration, timeLeft, dateTime, readable, integer } from "../format.js";
import { canCancel, cancelJob, deleteJob } from "../job-actions.js";
import { stateChip, isLive, phaseWords, TERMINAL, stateWord } from "../job-state.js";
import { announce } from "../layout.js";
import { findAssetIfPossible, methodName, studentName, teacherName } from "../lookups.js";
import { href, replaceQuery } from "../router.js";
import { pollWhileVisible } from "../streams.js";
import { tabs } from "../tabs.js";
import { configTab, lineageTab } from "./job/config-tab.js";
import { axisOf, charts, metricsTab } from "./job/curves.js";
import { filesTab, logTab, runsTab } from "./job/files.js";
import { Feed } from "./job/job-store.js";
import { outcome, reportTab } from "./job/report.js";

const DRAW_MS = 500; // at most two updates a second
const QUEUE_MS = 5000; // a place in the queue changes without an event of this job

export function mount(main, { args: [id], query }) {
  let job = null;
  let drawing = 0;
  const feed = new Feed(id, axisOf(query.get("x")), { job: show, report: reported, event: heard, news: drawSoon, failed });
  const log = logTab(id);
  const top = header((changed) => (changed ? feed.take(changed) : feed.look()));
  const parts = { top, line: timeline(), wait: waiting(), going: going(), fault: fault() };
  const result = outcome();
  const lines = charts(feed, () => opened.get("metrics")?.update());
  const opened = new Map();
  const list = [
    ["report", "Report", reportTab],
    ["metrics", "All metrics", metricsTab],
    ["log", "Events & log", () => log],
    ["artifacts", "Checkpoints & artifacts", filesTab],
    ["config", "Configuration", configTab],
    ["runs", "Runs", runsTab],
    ["lineage", "Lineage", lineageTab],
  ].map(([tab, label, make]) => ({ id: tab, label, make: () => open(tab, make) }));

  function open(tab, make) {
    const made = make(feed);
    opened.set(tab, made);
    made.update?.(job, feed.report);
    return made.node;
  }

  function build() {
    const first = query.get("tab") ?? (job.state === "succeeded" && job.kind !== "warm" ? "report" : "log");
    const below = tabs("Details", list, first, (tab) => {
      replaceQuery({ tab });
      if (tab === "log") log.draw();
    });
    setChildren(main, el("div", { class: "stack" }, top.node, parts.line.node, parts.wait.node, parts.going.node, parts.fault.node, result.node, lines.node, below.node));
    log.draw();
    // The page was opened before its name was known: the focus has waited.
    if (document.activeElement === main) top.node.querySelector("h1").focus();
  }

  function show(next) {
    const before = job;
    job = next;
    if (!before) build();
    else if (before.state !== job.state) announce(`${job.resolved.name}: ${stateWord(job.state)}`);
    for (const part of Object.values(parts)) part.update?.(job);
    inside();
    const percent = isLive(job) && job.progress ? `${Math.floor(100 * job.progress.fraction)} % · ` : "";
    document.title = `${percent}${job.resolved.name} – Stillhouse`;
  }

  const inside = () => opened.forEach((part) => part.update?.(job, feed.report));

  function reported(report) {
    result.update(report, job);
    inside();
  }

  function heard(event) {
    log.add(event);
    if (event.type === "state") parts.line.add(event);
  }

  function drawSoon() {
    drawing ||= setTimeout(draw, DRAW_MS);
  }

  function draw() {
    drawing = 0;
    job = feed.job;
    lines.update();
    log.update();
    opened.get("metrics")?.update();
    parts.going.update(job);
  }

  function failed(error) {
    setChildren(main, el("h1", { class: "hidden", tabindex: "-1" }, "Job"), errorNotice(error, error.status === 404 ? null : begin));
  }

  function begin() {
    setChildren(main, el("p", { class: "muted" }, "Loading the job…"));
    feed.begin();
  }

  const queue = pollWhileVisible(() => (job?.state === "queued" ? feed.look() : undefined), () => QUEUE_MS);
  const ticking = setInterval(() => document.hidden || (parts.line.tick(), top.tick()), 1000);
  begin();

  return {
    update() {}, // the query is of this page's own making
    leave() {
      feed.close();
      queue.stop();
      clearInterval(ticking);
      clearTimeout(drawing);
      lines.destroy();
      opened.get("metrics")?.destroy();
    },
  };
}

// The top of the page: name, actions, states, progress, what went wrong.

const WISHES = {
  pause: { label: "Pause", states: ["queued", "starting", "running"] },
  resume: { label: "Resume", states: ["pausing", "paused"] },
  retry: { label: "Retry", states: ["failed"] },
};

/** `onChange` takes the job as an action left it, or null to have it looked for. */
export function header(onChange) {
  const title = el("h1", { tabindex: "-1" });
  const state = el("span");
  const facts = el("div", { class: "facts" });
  const actions = el("div", { class: "actions" });
  const said = el("p", { class: "refused small", role: "status" });
  const node = el("div", {}, el("a", { class: "crumb", href: href("/jobs") }, "← Jobs"),
    el("div", { class: "job-head" }, el("div", { class: "title" }, title, state), actions), said, facts);
  let job = null;
  let seen = "";
  const posted = el("span");
  const tick = () => job && setText(posted, ago(job.created_at));

  async function stop(event) {
    event.target.disabled = true;
    try {
      const changed = await cancelJob(job);
      if (changed) onChange(changed);
      else event.target.disabled = false;
    } catch (error) {
      event.target.disabled = false;
      setText(said, `Not cancelled: ${error.message}`);
      onChange(null); // it may have changed meanwhile: look again
    }
  }

  async function wish(event, action) {
    event.target.disabled = true;
    try {
      const changed = await post(jobPath(job.id, `/${action}`));
      announce(`${changed.resolved.name}: ${stateWord(changed.state)}`);
      if (action === "retry") location.reload(); // its stream had ended
      else onChange(changed);
    } catch (error) {
      event.target.disabled = false;
      setText(said, `This was not done: ${error.message}.`);
      onChange(null);
    }
  }

  const wishes = () => Object.entries(WISHES).filter(([, { states }]) => states.includes(job.state))
    .map(([action, { label }]) => button(label, (event) => wish(event, action)));

  async function throwAway(event) {
    event.target.disabled = true;
    try {
      if (await deleteJob(job)) location.hash = href("/jobs");
    } catch (error) {
      setText(said, `Not deleted: ${error.message}.`);
    }
    event.target.disabled = false;
  }

  function buttons() {
    const student = job.state === "succeeded" && job.kind === "distill"; // an evaluation makes none
    const page = (path, text, query) => el("a", { class: "button", href: href(path, query) }, text);
    return [
      ...wishes(),
      canCancel(job) ? button("Cancel job", stop) : null,
      TERMINAL.includes(job.state) ? button("Delete", throwAway) : null,
      page("/new", "Duplicate", { from: job.id }),
      page("/compare", "Compare", { jobs: job.id }),
      student ? page(`/students/${job.id}`, "Student page") : null,
      student ? el("a", { class: "button primary", href: jobPath(job.id, "/student"), download: "student.safetensors" }, "Download student") : null,
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

const fact = (name, value) => el("span", {}, el("span", { class: "muted" }, name), value);

const REASONS = { lost: "its worker was lost", drained: "its worker was shut down", stopped: "its worker was shut down", storage_away: "the object store was away" };

export function timeline() {
  const list = el("ol", { class: "timeline", "aria-label": "States" });
  const states = [];

  function tick() {
    states.forEach(({ state, time, spent }, at) => {
      const next = states[at + 1]?.time;
      const ended = TERMINAL.includes(state);
      setText(spent, ended ? `at ${timeOfDay(time)}` : duration(secondsBetween(time, next)));
    });
  }

  return {
    node: list,
    tick,
    add({ time, data }) {
      const spent = el("span", { class: "num" });
      const why = data.reason && data.state === "queued" ? el("span", {}, ` (${REASONS[data.reason] ?? data.reason})`) : null;
      states.push({ state: data.state, time, spent });
      list.append(el("li", { title: timeOfDay(time) }, el("b", {}, stateWord(data.state)), spent, why));
      tick();
    },
  };
}

const ENDING = { cancelling: "ending at the next step", pausing: "writing a checkpoint" };

export function going() {
  const bar = progressBar("Progress of this job");
  const percent = el("strong", { class: "num" });
  const eta = el("span", { class: "muted num" });
  const where = el("p", { class: "where num" });
  const node = el("div", { class: "panel going" }, percent, bar.node, eta, where);
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
      const both = job.resolved.evaluation?.baseline ? "student and undistilled student counted together" : "";
      const text = [ENDING[job.state] ?? phaseWords(job.phase), steps, progress ? both : ""].filter(Boolean).join(" · ");
      setText(where, capital(text));
    },
  };
}

export function waiting() {
  const node = el("div", { class: "notice", "data-tone": "wait", hidden: true });
  let seen = "";
  return {
    node,
    update(job) {
      node.hidden = !["queued", "paused"].includes(job.state);
      const now = `${job.waiting_reason ?? "its worker is free for others; Resume goes on from the last checkpoint"}`;
      if (node.hidden || now === seen) return;
      seen = now;
      const none = now === "no worker is running";
      setChildren(node, el("strong", {}, job.state === "paused" ? "Paused" : "Waiting in the queue"), sentence(now), none ? [" Workers come with ", el("code", {}, "stillhouse up"), "; the job starts as soon as one is there."] : null);
    },
  };
}

export function fault() {
  const node = el("div", { class: "notice", "data-tone": "bad", hidden: true });
  return {
    node,
    update(job) {
      const { error } = job;
      node.hidden = !error || job.state !== "failed";
      if (node.hidden || node.firstChild) return;
      const where = [error.phase ? `while ${phaseWords(error.phase)}` : "", error.run ? `run ${error.run}` : ""].filter(Boolean).join(", ");
      setChildren(node,
        el("strong", {}, `Failed: ${readable(error.code)}`, where ? el("span", { class: "muted" }, ` · ${where}`) : null),
        el("p", {}, sentence(error.message)),
        error.hint ? el("p", {}, el("b", {}, "What may help: "), sentence(error.hint)) : null,
        error.items?.length ? el("ul", {}, error.items.map((item) => el("li", {}, el("code", {}, item.name), ` ${item.detail}`))) : null);
    },
  };
}
