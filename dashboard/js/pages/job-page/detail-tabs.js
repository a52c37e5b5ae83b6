// The tabs of a job's details: here artifacts and checkpoints, runs, events, configuration, lineage.

import { firstPage, get, isIgnorable, jobPath } from "../../fetch.js";
import { jobSearch } from "../../combobox.js";
import { codeBlock, digest, errorNotice, scrollRegion, scrollTable, table, titledSection, toggleButton } from "../../components.js";
import { el, setChildren, setText } from "../../dom.js";
import { brief, bytes, dateTime, duration, integer, percent, pluralize, secondsBetween, timeOfDay } from "../../format.js";
import { jobName } from "../../job-actions.js";
import { phaseWords, stateChip, stateWord } from "../../job-state.js";
import { catalogHref, findAsset } from "../../lookups.js";
import { currentAddress, href, replaceQuery } from "../../router.js";
import { metricsTab } from "./curves.js";
import { reportTab } from "./job-report.js";

// A tab with a table of a list of the job. `toTable(items)`: [caption, columns, rows]; `emptyText`: shown without items.
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
        setChildren(node, items.length ? scrollTable(...toTable(items), "plain cards") : el("p", { class: "muted" }, emptyText));
      } catch (error) {
        seen = "";
        setChildren(node, errorNotice(error, () => this.update(job)));
      }
    },
  };
}

const order = (item) => (item.name === "student.safetensors" ? "" : item.name);

const artifacts = () => listTab("/artifacts", (items) => ["Artifacts", ["Artifact", "Format", "Size", "SHA-256"],
  [...items].sort((a, b) => (order(a) < order(b) ? -1 : 1))
    .map((item) => [downloadLink(item), item.format, bytes(item.size_bytes), digest(item.sha256, item.name)])], "Artifacts are written when the job succeeds.");

const downloadLink = (item) => el("a", { href: item.links.content, download: item.name }, item.name);

const checkpoints = () => listTab("/checkpoints", (items) => ["Checkpoints", ["Checkpoint", "Step", "Epoch", "Top-1 on validation", "Size", "Written", "SHA-256"],
  items.map((item) => [downloadLink(item), integer(item.step), brief(item.epoch), validation(item.metrics), bytes(item.size_bytes), dateTime(item.created_at), digest(item.sha256, item.name)])], "No checkpoint yet. A checkpoint is written at the end of every epoch.");

// In the baseline phase of a job the undistilled student is trained, and its metrics have a prefix.
function validation(metrics) {
  const [key, value] = Object.entries(metrics).find(([name]) => name.endsWith("val/top1")) ?? [];
  return key ? `${percent(value, 1)}${key.startsWith("baseline/") ? " (undistilled)" : ""}` : "–";
}

function filesTab() {
  const lists = [["Artifacts", artifacts()], ["Checkpoints", checkpoints()]];
  const node = el("div", { class: "stack" }, lists.map(([title, list]) => el("section", { class: "band" }, el("h3", {}, title), list.node)),
    el("p", { class: "muted small" }, "A new job can continue from a checkpoint by ", el("code", {}, "from"), ": it takes the weights; optimizer and schedule start anew."));
  return { node, update: (job) => lists.forEach(([, list]) => list.update(job)) };
}

const runsTab = () => listTab("/runs", (items) => ["Runs", ["Run", "Worker", "Device", "Started", "Took", "Ended", "Continued from"],
  items.map((run) => [`Run ${run.number}`, run.worker, run.device ?? "–", dateTime(run.started_at), duration(secondsBetween(run.started_at, run.ended_at)),
    run.exit ?? "still running", run.resumed_from_step === null ? "the start" : `step ${integer(run.resumed_from_step)}`])], "No worker has started the job yet.");

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
  const wrap = toggleButton("Wrap lines", true, (on) => view.toggleAttribute("data-long", !on));
  const follow = toggleButton("Follow the end", true, (on) => on && scrollToEnd());
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

function configTab(store) {
  const diff = differences(store);
  const parts = el("div", { class: "stack" });
  const node = el("div", { class: "stack" }, diff.node, parts);
  let seen = "";
  return {
    node,
    update(job) {
      diff.update(job);
      const now = JSON.stringify([job.resolved, job.runtime]);
      if (now === seen) return;
      seen = now;
      setChildren(parts,
        el("div", { class: "pairs" }, json("As posted", postedSpec(job)), json("As resolved", job.resolved)),
        job.runtime ? json("Settled by the run", job.runtime) : null);
    },
  };
}

// A job has its posted fields at the top level; the resolved job has the same names.
const postedSpec = (job) => Object.fromEntries(Object.keys(job.resolved).filter((name) => name in job).map((name) => [name, job[name]]));

const json = (title, value) => el("section", { class: "band" }, el("h3", {}, title), codeBlock(JSON.stringify(value, null, 2), title));

function differences(store) {
  const search = jobSearch({ id: "diff-with", label: "Compare the settings with", placeholder: "Name or id of another job", otherIds: () => [store.id], onAdd: ({ id }) => {
    replaceQuery({ diff: id });
    compare(id);
  } });
  const content = el("div");
  const node = titledSection("diff", "Differences from another job",
    el("div", { class: "field diff-search" }, el("label", { for: "diff-with" }, "Compare the settings with"), search.node), content);
  let against = null;

  async function compare(id) {
    against = id;
    setChildren(content, el("p", { class: "muted" }, "Loading…"));
    try {
      const { jobs, differences: list } = await get("/v1/compare", { jobs: `${store.id},${id}`, max_points: 2 }, store.signal);
      if (against === id) setChildren(content, differenceTable(jobs[1], list));
    } catch (error) {
      if (!isIgnorable(error)) setChildren(content, errorNotice(error, () => compare(id)));
    }
  }

  return {
    node,
    update(job) {
      const first = currentAddress().query.get("diff") ?? job.from?.job;
      if (against === null && first) compare(first);
    },
  };
}

function differenceTable(other, all) {
  // A missing setting and a null one are shown alike.
  const list = all.filter(({ values }) => valueText(values[0]) !== valueText(values[1]));
  const link = el("a", { href: href(`/jobs/${other.id}`) }, other.name);
  if (!list.length) return el("p", {}, "The same settings as ", link, ".");
  return [
    el("p", {}, `${pluralize(list.length, "setting is", "settings are")} different from `, link, "."),
    scrollRegion("Differences", table({
      caption: "Settings that differ", className: "plain diffs", columns: ["Setting", "This job", other.name],
      rows: list.map(({ path, values }) => [el("code", {}, path), ...values.map((value) => el("code", {}, valueText(value)))]),
    })),
  ];
}

const valueText = (value) => (value === null || value === undefined ? "–" : typeof value === "string" ? value : JSON.stringify(value));

const MAX_ITEMS = 50;

function lineageTab(store) {
  const node = el("div", {}, el("p", { class: "muted" }, "Loading…"));
  let seen = "";
  async function update(job) {
    if (job.state === seen) return;
    seen = job.state;
    try {
      const [above, below] = await Promise.all([origins(job, store.signal), offspring(job, store.signal)]);
      setChildren(node, el("div", { class: "lineage" },
        part("Inputs", above, "None."),
        el("p", { class: "self" }, el("b", {}, jobName(job)), " ", stateChip(job.state)),
        part("Results", below, "None yet. Save its student as a model to use it as a teacher, or continue from a checkpoint.")));
    } catch (error) {
      seen = "";
      if (!isIgnorable(error)) setChildren(node, errorNotice(error, () => update(job)));
    }
  }
  return { node, update };
}

async function origins(job, signal) {
  const used = [...(job.teachers ?? []).map(({ model }) => ["Teacher", model]), ["Initial weights", start(job)], ["Evaluated model", job.model]].filter(([, id]) => id);
  const dataset = await findAsset("datasets", job.dataset);
  const models = await Promise.all(used.map(([role, id]) => model(role, id, signal)));
  const from = job.from ? [await jobLine(`Continues from checkpoint ${job.from.checkpoint ?? "best"} of`, job.from.job, signal)] : [];
  return [dataset ? item("Data set", el("a", { href: catalogHref("datasets", dataset) }, dataset.name), `${dataset.num_classes} classes`) : item("Data set", job.dataset, "deleted"), ...models, ...from];
}

const start = ({ student }) => (student?.init?.startsWith("mdl_") ? student.init : null);

async function model(role, id, signal) {
  const asset = await findAsset("models", id);
  if (!asset) return item(role, id, "deleted");
  return item(role, el("a", { href: catalogHref("models", asset) }, asset.name), asset.architecture, await source(asset, signal));
}

// The job whose student the model is.
async function source({ source: text }, signal) {
  const [kind, id] = (text ?? "").split(/:(.*)/);
  if (kind === "job") return [await jobLine("Student of", id, signal)];
  return text ? [item("From", text)] : [];
}

async function jobLine(role, id, signal) {
  const job = await get(`/v1/jobs/${encodeURIComponent(id)}`, {}, signal).catch((error) => {
    if (error.status !== 404) throw error;
    return null;
  });
  return job ? item(role, jobLink(job), stateChip(job.state)) : item(role, id, "deleted");
}

async function offspring(job, signal) {
  const [models, continued] = await Promise.all([
    get("/v1/models", { source: `job:${job.id}`, limit: MAX_ITEMS }, signal),
    get("/v1/jobs", { from: job.id, limit: MAX_ITEMS }, signal),
  ]);
  const modelItems = await Promise.all(models.data.map(async (asset) => {
    const users = await get("/v1/jobs", { model: asset.id, limit: MAX_ITEMS }, signal);
    return item("Model", el("a", { href: catalogHref("models", asset) }, asset.name), asset.size_bytes ? bytes(asset.size_bytes) : asset.state,
      [...users.data.map((user) => item(roleOf(asset.id, user), jobLink(user), stateChip(user.state))), more(users)]);
  }));
  return [...modelItems, more(models), ...continued.data.map((other) => item("Continued by", jobLink(other), stateChip(other.state))), more(continued)].filter(Boolean);
}

const roleOf = (id, job) => (job.teachers?.some(({ model: teacher }) => teacher === id) ? "Teacher of" : job.model === id ? "Evaluated by" : "Initial weights of");
const more = ({ next_cursor: cursor }) => (cursor ? el("li", { class: "muted" }, `and more than these ${MAX_ITEMS}`) : null);
const jobLink = (job) => el("a", { href: href(`/jobs/${job.id}`) }, jobName(job));

function item(role, content, note = null, below = []) {
  const children = below.filter(Boolean);
  return el("li", {}, el("span", { class: "muted" }, `${role} `), content, note ? el("span", { class: "muted small" }, " ", note) : null, children.length ? el("ul", {}, children) : null);
}

const part = (title, items, emptyText) => el("section", { class: "band", "aria-label": title }, el("h3", {}, title), items.length ? el("ul", { class: "tree" }, items) : el("p", { class: "muted" }, emptyText));

/** [id, label, create(store, log)] of all tabs; `log` is the result of `logTab`. */
export const DETAIL_TABS = [
  ["report", "Report", reportTab],
  ["metrics", "All metrics", metricsTab],
  ["log", "Events & log", (_, log) => log],
  ["artifacts", "Checkpoints & artifacts", filesTab],
  ["config", "Configuration", configTab],
  ["runs", "Runs", runsTab],
  ["lineage", "Lineage", lineageTab],
];
