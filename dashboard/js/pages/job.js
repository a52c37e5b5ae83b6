// One job: how it goes, what came out, and everything it left behind.

import { get, jobPath } from "../api.js";
import { Curves } from "../curves.js";
import { el, put } from "../dom.js";
import { problem } from "../parts.js";
import { replaceQuery } from "../router.js";
import { announce, connection } from "../shell.js";
import { TERMINAL, isLive, word } from "../state.js";
import { JobStream } from "../stream.js";
import { tabs } from "../tabs.js";
import { whileVisible } from "../visible.js";
import { charts } from "./job/charts.js";
import { configTab } from "./job/config.js";
import { artifactsTab, runsTab } from "./job/files.js";
import { fault, going, timeline, waiting } from "./job/going.js";
import { header } from "./job/header.js";
import { logTab } from "./job/log.js";
import { outcome } from "./job/outcome.js";
import { reportTab } from "./job/report.js";

const DRAW_MS = 500; // at most two updates a second
const LOOK_MS = 400;
const QUEUE_MS = 5000; // a place in the queue changes without an event of this job

export function mount(main, { args: [id], query }) {
  let job = null;
  let report = null;
  let stream = null;
  let drawing = 0;
  let looking = 0;
  const gone = new AbortController();
  const curves = new Curves();
  const log = logTab(id);
  const top = header((changed) => (changed ? show(changed) : look()));
  const parts = { top, line: timeline(), wait: waiting(), going: going(), fault: fault() };
  const result = outcome();
  const lines = charts(query.get("x"));
  const opened = new Map();
  const lazy = (make) => (tab) => () => {
    const made = make();
    opened.set(tab, made);
    made.update?.(job, report);
    return made.node;
  };
  const list = [
    ["report", "Report", reportTab], ["artifacts", "Artifacts", artifactsTab],
    ["log", "Events & log", () => ({ ...log, update: () => log.flush() })],
    ["config", "Configuration", configTab], ["runs", "Runs", runsTab],
  ].map(([tab, label, make]) => ({ id: tab, label, make: lazy(make)(tab) }));

  function build() {
    const first = query.get("tab") ?? (job.state === "succeeded" ? "report" : "log");
    const below = tabs("Details", list, first, (tab) => { replaceQuery({ tab }); if (tab === "log") log.draw(); });
    put(main, el("div", { class: "stack" }, top.node, parts.line.node, parts.wait.node, parts.going.node, parts.fault.node, result.node, lines.node, below.node));
    log.draw();
    // The page was opened before its name was known: the focus has waited.
    if (document.activeElement === main) top.node.querySelector("h1").focus();
  }

  function show(next) {
    const before = job;
    job = next;
    if (!before) build();
    else if (before.state !== job.state) announce(`${job.resolved.name}: ${word(job.state)}`);
    for (const part of Object.values(parts)) part.update?.(job);
    for (const part of opened.values()) part.update?.(job, report);
    const percent = isLive(job) && job.progress ? `${Math.floor(100 * job.progress.fraction)} % · ` : "";
    document.title = `${percent}${job.resolved.name} – Stillhouse`;
    if (job.state === "succeeded" && !report) fetchReport();
  }

  async function fetchReport() {
    try {
      report = await get(jobPath(id, "/report"), {}, gone.signal);
      result.update(report);
      for (const part of opened.values()) part.update?.(job, report);
    } catch (error) {
      if (error.name !== "AbortError" && error.status !== 401) setTimeout(() => stream && !report && fetchReport(), QUEUE_MS);
    }
  }

  /** Get the job again; false if there is no use in going on. */
  async function look() {
    try {
      show(await get(jobPath(id), {}, gone.signal));
      return true;
    } catch (error) {
      if (error.name === "AbortError" || error.status === 401) return false;
      if (!job) put(main, el("h1", { class: "hidden", tabindex: "-1" }, "Job"), problem(error, error.status === 404 ? null : begin));
      return error.status !== 404;
    }
  }

  function lookSoon() {
    clearTimeout(looking);
    looking = setTimeout(look, LOOK_MS);
  }

  function drawSoon() {
    drawing ||= setTimeout(() => {
      drawing = 0;
      lines.update(curves);
      log.flush();
      if (job) parts.going.update(job);
    }, DRAW_MS);
  }

  function take(event) {
    if (event.type === "metrics") {
      curves.add(event.data);
      const { progress, eta_s } = event.data;
      // A replay tells of earlier steps than the snapshot does.
      if (progress && job && !TERMINAL.includes(job.state) && progress.step >= (job.progress?.step ?? 0)) {
        job = { ...job, progress, eta_s: eta_s ?? job.eta_s };
      }
    } else {
      log.add(event);
      if (event.type === "state") parts.line.add(event);
      if (["state", "phase", "report", "error"].includes(event.type) && isLive(job)) lookSoon();
    }
    drawSoon();
  }

  async function begin() {
    put(main, el("p", { class: "muted" }, "Loading the job…"));
    if (!(await look()) || gone.signal.aborted) return;
    stream = new JobStream(jobPath(id, "/events"), {
      snapshot: (snapshot) => show(snapshot),
      event: take,
      status: (name) => connection(name === "live" && !isLive(job) ? "idle" : name),
      check: look,
      end: () => { connection("idle"); look(); },
    });
  }

  const queue = whileVisible(() => (job?.state === "queued" ? look() : undefined), () => QUEUE_MS);
  const ticking = setInterval(() => document.hidden || (parts.line.tick(), top.tick()), 1000);
  begin();

  return {
    update() {}, // x and tab are of this page's own making
    leave() {
      gone.abort();
      stream?.close();
      stream = null;
      queue.stop();
      clearInterval(ticking);
      clearTimeout(drawing);
      clearTimeout(looking);
      lines.destroy();
    },
  };
}
