// What the job left: artifacts, checkpoints, runs, events.

import { firstPage, jobPath } from "../../api.js";
import { errorNotice, table, copyableCode } from "../../components.js";
import { el, setChildren, setText } from "../../dom.js";
import { secondsBetween, brief, bytes, timeOfDay, duration, dateTime, percent, integer } from "../../format.js";
import { phaseWords, stateWord } from "../../job-state.js";

function listTab(part, show, none) {
  const node = el("div", {}, el("p", { class: "muted" }, "Loading…"));
  let seen = "";
  return {
    node,
    async update(job) {
      const now = `${job.state}.${job.run}`;
      if (now === seen) return;
      seen = now;
      try {
        const items = await firstPage(jobPath(job.id, part));
        setChildren(node, items.length ? table(show(items)) : el("p", { class: "muted" }, none));
      } catch (error) {
        seen = "";
        setChildren(node, errorNotice(error, () => this.update(job)));
      }
    },
  };
}

const order = (item) => (item.name === "student.safetensors" ? "" : item.name);

function digest({ sha256, name }) {
  const node = copyableCode(sha256, `the SHA-256 of ${name}`, 16);
  node.firstChild.dataset.sha256 = sha256;
  return node;
}

const artifacts = () => listTab("/artifacts", (items) => ({
  caption: "Artifacts",
  columns: ["Artifact", "Format", "Size", "SHA-256"],
  rows: [...items].sort((a, b) => (order(a) < order(b) ? -1 : 1))
    .map((item) => [link(item), item.format, bytes(item.size_bytes), digest(item)]),
}), "Artifacts come when the job has succeeded.");

const link = (item) => el("a", { href: item.links.content, download: item.name }, item.name);

const checkpoints = () => listTab("/checkpoints", (items) => ({
  caption: "Checkpoints",
  columns: ["Checkpoint", "Step", "Epoch", "Top-1 on validation", "Size", "Made", "SHA-256"],
  rows: items.map((item) => [link(item), integer(item.step), brief(item.epoch), validation(item.metrics), bytes(item.size_bytes), dateTime(item.created_at), digest(item)]),
}), "No checkpoint is kept yet: one is made at each epoch's end.");

// In the second phase of a job the undistilled student is the one that learns.
function validation(metrics) {
  const [key, value] = Object.entries(metrics).find(([name]) => name.endsWith("val/top1")) ?? [];
  return key ? `${percent(value, 1)}${key.startsWith("baseline/") ? " (undistilled)" : ""}` : "–";
}

export function filesTab() {
  const lists = [["Artifacts", artifacts()], ["Checkpoints", checkpoints()]];
  const node = el("div", { class: "stack" }, lists.map(([title, list]) => el("section", { class: "band" }, el("h3", {}, title), list.node)),
    el("p", { class: "muted small" }, "A new job goes on from a checkpoint with ", el("code", {}, "from"), ": the weights go on, optimizer and schedule are new."));
  return { node, update: (job) => lists.forEach(([, list]) => list.update(job)) };
}

export const runsTab = () => listTab("/runs", (items) => ({
  caption: "Runs",
  columns: ["Run", "Worker", "Device", "Started", "Took", "Ended", "Went on from"],
  rows: items.map((run) => [`Run ${run.number}`, run.worker, run.device ?? "–", dateTime(run.started_at), duration(secondsBetween(run.started_at, run.ended_at)),
    run.exit ?? "still running", run.resumed_from_step === null ? "the start" : `step ${integer(run.resumed_from_step)}`]),
}), "No worker has taken the job yet.");

const MOST = 1000;
const LEVELS = [["all", "Everything"], ["log", "Log lines only"], ["warning", "Warnings and errors"], ["error", "Errors only"]];

function said({ type, data }) {
  if (type === "log") return data.message;
  if (type === "state") return stateWord(data.state) + (data.reason ? ` (${data.reason})` : "");
  if (type === "phase") return phaseWords(data.phase);
  if (type === "checkpoint") return `step ${data.step}, ${bytes(data.size_bytes)}`;
  if (type === "artifact") return `${data.name}, ${bytes(data.size_bytes)}`;
  if (type === "error") return `${data.code}: ${data.message}`;
  return type === "report" ? "the report is there" : JSON.stringify(data);
}

const levelOf = ({ type, data }) => (type === "error" ? "error" : (data?.level ?? "info"));

export function logTab(id) {
  const events = [];
  const list = el("ol");
  const view = el("div", { class: "log", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Events, the newest last" }, list);
  const level = el("select", { class: "input", "aria-label": "Show", on: { change: draw } }, LEVELS.map(([value, text]) => el("option", { value }, text)));
  const box = el("input", { class: "input", type: "search", "aria-label": "Search the events", placeholder: "Search", maxlength: "200", on: { input: draw } });
  const wrap = switched("Wrap lines", (on) => view.toggleAttribute("data-long", !on));
  const tail = switched("Follow the end", (on) => on && toEnd());
  const count = el("span", { class: "muted small num", role: "status" });
  const node = el("div", {}, el("div", { class: "tools" }, level, box, wrap, tail, count,
    el("a", { class: "button small", href: jobPath(id, "/logs"), download: `${id}.log.txt` }, "Download the log")), view);
  let waiting = [];

  function wanted(event) {
    const text = box.value.trim().toLowerCase();
    if (text && !`${event.type} ${said(event)}`.toLowerCase().includes(text)) return false;
    if (level.value === "log") return event.type === "log";
    return level.value === "all" || levelOf(event) === "error" || levelOf(event) === level.value;
  }

  const line = (event) => el("li", { "data-level": levelOf(event) },
    el("time", { datetime: event.time, title: dateTime(event.time) }, timeOfDay(event.time)),
    el("span", { class: "kind" }, event.type === "log" ? event.data.level : event.type), el("span", { class: "line" }, said(event)));

  function draw() {
    waiting = [];
    const shown = events.filter(wanted);
    setChildren(list, shown.map(line));
    if (!shown.length) setChildren(list, el("li", {}, el("span", { class: "line muted" }, events.length ? "Nothing like this." : "Nothing yet.")));
    tally();
    toEnd();
  }

  const tally = () => setText(count, `${list.querySelectorAll("time").length} of ${events.length} events`);

  function toEnd() {
    view.scrollTop = view.scrollHeight;
  }

  return {
    node,
    draw,
    add(event) {
      events.push(event);
      if (events.length > MOST) events.shift();
      waiting.push(event);
    },
    update() {
      if (!waiting.length || !node.isConnected) return;
      if (events.length === waiting.length || waiting.length >= MOST || !list.querySelector("time")) return draw();
      const following = tail.getAttribute("aria-pressed") === "true" && view.scrollTop + view.clientHeight >= view.scrollHeight - 30;
      list.append(...waiting.filter(wanted).map(line));
      while (list.childElementCount > MOST) list.firstChild.remove();
      waiting = [];
      tally();
      if (following) toEnd();
      return undefined;
    },
  };
}

function switched(label, change) {
  const button = el("button", { class: "toggle", type: "button", "aria-pressed": "true", on: { click: () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    change(on);
  } } }, label);
  return button;
}
