// Tabs of one job: artifacts and checkpoints, runs, events.

import { firstPage, jobPath } from "../../api.js";
import { copyableCode, errorNotice, table } from "../../components.js";
import { el, setChildren, setText } from "../../dom.js";
import { brief, bytes, dateTime, duration, integer, percent, secondsBetween, timeOfDay } from "../../format.js";
import { phaseWords, stateWord } from "../../job-state.js";

// A tab with a table of a list of the job. `toTable(items)`: the table's properties; `emptyText`: shown without items.
function listTab(part, toTable, emptyText) {
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
        setChildren(node, items.length ? table(toTable(items)) : el("p", { class: "muted" }, emptyText));
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
}), "Artifacts are written when the job succeeds.");

const link = (item) => el("a", { href: item.links.content, download: item.name }, item.name);

const checkpoints = () => listTab("/checkpoints", (items) => ({
  caption: "Checkpoints",
  columns: ["Checkpoint", "Step", "Epoch", "Top-1 on validation", "Size", "Written", "SHA-256"],
  rows: items.map((item) => [link(item), integer(item.step), brief(item.epoch), validation(item.metrics), bytes(item.size_bytes), dateTime(item.created_at), digest(item)]),
}), "No checkpoint yet. A checkpoint is written at the end of every epoch.");

// In the baseline phase of a job the undistilled student is trained, and its metrics have a prefix.
function validation(metrics) {
  const [key, value] = Object.entries(metrics).find(([name]) => name.endsWith("val/top1")) ?? [];
  return key ? `${percent(value, 1)}${key.startsWith("baseline/") ? " (undistilled)" : ""}` : "–";
}

export function filesTab() {
  const lists = [["Artifacts", artifacts()], ["Checkpoints", checkpoints()]];
  const node = el("div", { class: "stack" }, lists.map(([title, list]) => el("section", { class: "band" }, el("h3", {}, title), list.node)),
    el("p", { class: "muted small" }, "A new job can continue from a checkpoint by ", el("code", {}, "from"), ": it takes the weights; optimizer and schedule start anew."));
  return { node, update: (job) => lists.forEach(([, list]) => list.update(job)) };
}

export const runsTab = () => listTab("/runs", (items) => ({
  caption: "Runs",
  columns: ["Run", "Worker", "Device", "Started", "Took", "Ended", "Continued from"],
  rows: items.map((run) => [`Run ${run.number}`, run.worker, run.device ?? "–", dateTime(run.started_at), duration(secondsBetween(run.started_at, run.ended_at)),
    run.exit ?? "still running", run.resumed_from_step === null ? "the start" : `step ${integer(run.resumed_from_step)}`]),
}), "No worker has started the job yet.");

const MAX_EVENTS = 1000;
const LEVELS = [["all", "Everything"], ["log", "Log lines only"], ["warning", "Warnings and errors"], ["error", "Errors only"]];

function eventText({ type, data }) {
  if (type === "log") return data.message;
  if (type === "state") return stateWord(data.state) + (data.reason ? ` (${data.reason})` : "");
  if (type === "phase") return phaseWords(data.phase);
  if (type === "checkpoint") return `step ${data.step}, ${bytes(data.size_bytes)}`;
  if (type === "artifact") return `${data.name}, ${bytes(data.size_bytes)}`;
  if (type === "error") return `${data.code}: ${data.message}`;
  return type === "report" ? "the report was written" : JSON.stringify(data);
}

const levelOf = ({ type, data }) => (type === "error" ? "error" : (data?.level ?? "info"));

export function logTab(id) {
  const events = [];
  const list = el("ol");
  const view = el("div", { class: "log", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Events, the newest last" }, list);
  const level = el("select", { class: "input", "aria-label": "Show", on: { change: draw } }, LEVELS.map(([value, text]) => el("option", { value }, text)));
  const box = el("input", { class: "input", type: "search", "aria-label": "Search the events", placeholder: "Search", maxlength: "200", on: { input: draw } });
  const wrap = toggleButton("Wrap lines", (on) => view.toggleAttribute("data-long", !on));
  const follow = toggleButton("Follow the end", (on) => on && scrollToEnd());
  const count = el("span", { class: "muted small num", role: "status" });
  const node = el("div", {}, el("div", { class: "tools" }, level, box, wrap, follow, count,
    el("a", { class: "button small", href: jobPath(id, "/logs"), download: `${id}.log.txt` }, "Download the log")), view);
  let pending = [];

  function matches(event) {
    const text = box.value.trim().toLowerCase();
    if (text && !`${event.type} ${eventText(event)}`.toLowerCase().includes(text)) return false;
    if (level.value === "log") return event.type === "log";
    return level.value === "all" || levelOf(event) === "error" || levelOf(event) === level.value;
  }

  const line = (event) => el("li", { "data-level": levelOf(event) },
    el("time", { datetime: event.time, title: dateTime(event.time) }, timeOfDay(event.time)),
    el("span", { class: "kind" }, event.type === "log" ? event.data.level : event.type), el("span", { class: "line" }, eventText(event)));

  function draw() {
    pending = [];
    const shown = events.filter(matches);
    setChildren(list, shown.map(line));
    if (!shown.length) setChildren(list, el("li", {}, el("span", { class: "line muted" }, events.length ? "No event matches." : "No events yet.")));
    showCount();
    scrollToEnd();
  }

  const showCount = () => setText(count, `${list.querySelectorAll("time").length} of ${events.length} events`);

  function scrollToEnd() {
    view.scrollTop = view.scrollHeight;
  }

  return {
    node,
    draw,
    add(event) {
      events.push(event);
      if (events.length > MAX_EVENTS) events.shift();
      pending.push(event);
    },
    update() {
      if (!pending.length || !node.isConnected) return;
      if (events.length === pending.length || pending.length >= MAX_EVENTS || !list.querySelector("time")) return draw();
      const following = follow.getAttribute("aria-pressed") === "true" && view.scrollTop + view.clientHeight >= view.scrollHeight - 30;
      list.append(...pending.filter(matches).map(line));
      while (list.childElementCount > MAX_EVENTS) list.firstChild.remove();
      pending = [];
      showCount();
      if (following) scrollToEnd();
      return undefined;
    },
  };
}

function toggleButton(label, onChange) {
  const button = el("button", { class: "toggle", type: "button", "aria-pressed": "true", on: { click: () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    onChange(on);
  } } }, label);
  return button;
}
