// One job: how it goes, what came out, what it left behind.

import { announce, el, isLive, problem, put, replaceQuery, tabs, whileVisible, word } from "../kit.js";
import { axisOf, charts, metricsTab } from "./job/curves.js";
import { Feed } from "./job/feed.js";
import { filesTab, logTab, runsTab } from "./job/files.js";
import { configTab, lineageTab } from "./job/origin.js";
import { outcome, reportTab } from "./job/report.js";
import { fault, going, header, timeline, waiting } from "./job/top.js";

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
    put(main, el("h1", { class: "hidden", tabindex: "-1" }, "Job"), problem(error, error.status === 404 ? null : begin));
  }

  function begin() {
    put(main, el("p", { class: "muted" }, "Loading the job…"));
    feed.begin();
  }

  const queue = whileVisible(() => (job?.state === "queued" ? feed.look() : undefined), () => QUEUE_MS);
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
