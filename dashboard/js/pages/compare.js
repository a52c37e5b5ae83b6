// Two to ten jobs beside each other.

import { get, jobPath, isIgnorable } from "../api.js";
import { skeleton, copyAs, csv, errorNotice, scrollRegion } from "../components.js";
import { fromTemplate, el, setChildren, setText } from "../dom.js";
import { brief, bytes, capital, duration, fixed, ms, percent, readable, si } from "../format.js";
import { jobSearch } from "../job-search.js";
import { icon, isLive, TICK } from "../job-state.js";
import { announce, setConnection } from "../layout.js";
import { findAssetIfPossible } from "../lookups.js";
import { replaceQuery } from "../router.js";
import { pollWhileVisible } from "../streams.js";
import { asked, compareHref, curves, keys, LINES, mark, missing, MOST } from "./compare/compared-jobs.js";

const POLL_MS = 10000;
const MAX_POINTS = 500;
const WORDS = "Add a job: its name or id";

export function mount(main, { query }) {
  let ids = [];
  let axis = "epoch";
  let answer = null;
  let failed = false;
  let request = new AbortController();
  const go = (next) => { location.hash = compareHref(next, axis); };
  const heading = el("h1", { tabindex: "-1" }, "Compare");
  const key = keys({ onMove: (id) => { announce("Reference changed"); go([id, ...ids.filter((each) => each !== id)]); }, onRemove: remove });
  const add = jobSearch({ id: "add-job", label: "Add a job", words: WORDS, taken: () => ids, onAdd: ({ id }) => go([...ids, id]) });
  const said = el("div", { class: "compare-said" });
  const place = el("div");
  const parts = [settings(), results()];
  const lines = curves(chooseAxis);
  const body = el("div", { class: "stack", hidden: true }, parts[1].node, parts[0].node, lines.node);
  setChildren(main, el("a", { class: "crumb", href: "#/jobs" }, "← Jobs"), el("div", { class: "compare-head" }, heading, add.node), key.node, said, place, body);

  function remove(id) {
    go(ids.filter((each) => each !== id));
    if (ids.length === 1) heading.focus();
  }

  function chooseAxis(next) {
    replaceQuery({ x: next === "epoch" ? "" : next });
    axis = next;
    lines.mark(axis);
    load();
  }

  function show(next) {
    const wanted = asked(next);
    const same = wanted.ids.join() === ids.join() && answer;
    ids = wanted.ids;
    axis = wanted.axis;
    lines.mark(axis);
    add.input.disabled = ids.length >= MOST;
    add.input.placeholder = add.input.disabled ? "Ten jobs are the most" : WORDS;
    key.update(ids, answer?.jobs);
    setChildren(said, wanted.more ? el("p", { class: "notice" }, `Ten jobs are the most: ${wanted.more} more in the address ${wanted.more === 1 ? "is" : "are"} left out.`) : null);
    if (same) return load();
    body.hidden = true;
    setChildren(place, ids.length < 2 ? fromTemplate(ids.length ? "compare-one" : "compare-none") : skeleton());
    return load();
  }

  async function load() {
    request.abort();
    const mine = request = new AbortController();
    try {
      if (ids.length < 2) return await alone(mine.signal);
      const found = await get("/v1/compare", { jobs: ids.join(","), x: axis, max_points: MAX_POINTS }, mine.signal);
      if (mine !== request) return undefined;
      failed = false;
      draw(found);
      setConnection(found.jobs.some(isLive) ? "live" : "idle");
    } catch (error) {
      if (isIgnorable(error) || mine !== request) return undefined;
      failed = error.status === 0;
      setConnection(failed ? "offline" : "idle");
      if (!answer || !failed) { body.hidden = true; setChildren(place); }
      setChildren(said, (error.status === 404 && await gone(mine.signal)) || errorNotice(error, load));
    }
    return undefined;
  }

  // One job is named, though there is nothing to compare it with.
  async function alone(signal) {
    answer = null;
    setConnection("idle");
    if (!ids.length) return;
    const job = await get(jobPath(ids[0]), {}, signal);
    const { student } = job.resolved;
    key.update(ids, [{ id: job.id, name: job.resolved.name, state: job.state, student: student.architecture, methods: [] }]);
  }

  async function gone(signal) {
    const there = await Promise.all(ids.map((id) => get(jobPath(id), {}, signal).catch((error) => (error.status === 404 ? null : id))));
    const lost = ids.filter((_, at) => there[at] === null);
    return lost.length ? missing(lost, () => go(ids.filter((id) => !lost.includes(id)))) : null;
  }

  function draw(found) {
    const first = !answer || body.hidden;
    answer = found;
    key.update(ids, answer.jobs);
    setChildren(place);
    if (said.querySelector("[role=alert]")) setChildren(said);
    body.hidden = false;
    for (const part of parts) part.update(answer);
    lines.update(answer, axis);
    if (first) document.title = `Compare ${answer.jobs.length} jobs – Stillhouse`;
  }

  const poll = pollWhileVisible(() => (failed || (ids.length > 1 && answer?.jobs.some(isLive)) ? load() : undefined), () => POLL_MS);
  show(query);

  return {
    update: show,
    leave() {
      request.abort();
      poll.stop();
      add.stop();
      lines.destroy();
    },
  };
}

// The two tables of a comparison, and their words.

const PARTS = { lr: "learning rate", accept: "acceptance" };
const METRICS = {
  top1: "Top-1", top5: "Top-5", agreement: "Agreement", kl_to_teacher: "KL to the teacher", ece: "Calibration error",
  num_params: "Parameters", macs: "MACs", size_bytes: "Size", latency_ms: "Latency, p50", images_per_s: "Throughput", device_s: "Device time",
};
const WHO = { student: "", teacher: "Teacher: ", baseline: "Undistilled: " };
const part = (name) => PARTS[name] ?? readable(name);

/** "training.optimizer.lr" -> "Training › optimizer › learning rate"; "method.kd.type" -> "Method › kd". */
const pathWords = (path) => capital(path.replace(/^(method\.\w+)\.type$/, "$1").split(".").map((each) => (/^\d+$/.test(each) ? String(Number(each) + 1) : part(each))).join(" › "));

/** A setting of any shape, exactly: `names` are those of models and data sets by id. */
function valueWords(value, names = new Map()) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value)) return value.map((each) => valueWords(each, names)).join(" + ") || "none";
  if (typeof value !== "object") return names.get(value) ?? String(value);
  const { type, model, ...rest } = value;
  const kept = Object.entries(rest).filter(([, each]) => each !== null);
  const inner = kept.map(([name, each]) => `${part(name)} ${valueWords(each, names)}`).join(", ");
  const head = [type && part(type), model && valueWords(model, names)].filter(Boolean).join(" ");
  if (!head) return inner || "none";
  return inner ? `${head} (${inner})` : head;
}

/** "student.top1" -> "Top-1", "teacher.top1" -> "Teacher: top-1". */
function metricWords(key) {
  const [first, ...rest] = key.split(".");
  const who = rest.length ? WHO[first] : undefined;
  const name = who === undefined ? key : rest.join(".");
  const words = METRICS[name] ?? capital(name.split(".").map(part).join(", "));
  return who ? who + words.toLowerCase() : words;
}

const UNITS = {
  "%": percent,
  ms,
  s: duration,
  bytes,
  B: bytes,
};

function measured(value, unit) {
  if (!Number.isFinite(value)) return "–";
  if (UNITS[unit]) return UNITS[unit](value);
  const number = Math.abs(value) >= 10000 ? si(value) : brief(value);
  return unit ? `${number} ${unit}` : number;
}

function deltaWords(value, unit) {
  if (!Number.isFinite(value)) return "";
  const size = unit === "%" ? `${fixed(Math.abs(value), 2)} pt` : measured(Math.abs(value), unit);
  if (value === 0) return "the same";
  return `${Number.parseFloat(size) === 0 ? "±" : value > 0 ? "+" : "−"}${size}`;
}

// A name is anybody's text: it must neither end a cell nor become markup.
const safe = (text) => String(text ?? "").replace(/[\r\n]+/g, " ").replace(/[\\|<[]/g, "\\$&");

function markdown(head, rows) {
  const line = (cells) => `| ${cells.map(safe).join(" | ")} |`;
  return [line(head), `|${head.map((_, at) => (at ? " ---: |" : " --- |")).join("")}`, ...rows.map(line)].join("\n");
}

function section(id, title, copies) {
  const note = el("p", { class: "muted small" });
  const place = scrollRegion(`${title}, as a table`, [], "panel");
  const buttons = el("div", { class: "copies" }, copyAs("Markdown", () => copies(true)), copyAs("CSV", () => copies(false)));
  const node = el("section", { class: "band", "aria-labelledby": id }, el("div", { class: "section-head" }, el("h2", { id }, title), note, buttons), place);
  return {
    node,
    show(words, table) {
      setText(note, words);
      place.hidden = buttons.hidden = !table;
      setChildren(place, table);
    },
  };
}

function grid(caption, first, jobs, rows) {
  return el("table", { class: "versus" }, el("caption", { class: "hidden" }, caption),
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, first), jobs.map((job, at) =>
      el("th", { scope: "col", title: job.name }, mark(at), el("span", { class: "of" }, job.name))))),
    el("tbody", {}, rows.map(([name, cells]) => el("tr", {}, el("th", { scope: "row" }, name), cells.map((cell) => el("td", {}, cell))))));
}

const heads = (jobs) => jobs.map(({ name }, at) => `${LINES[at].letter}: ${name}`);

export function settings() {
  let shown = { jobs: [], differences: [] };
  const names = new Map();
  const rows = () => shown.differences.map(({ path, values }) => [pathWords(path), values.map((value) => valueWords(value, names))]);
  const flat = (list) => list.map(([name, cells]) => [name, ...cells]);
  const panel = section("settings", "Settings that differ", (asMarkdown) => {
    const head = ["Setting", ...heads(shown.jobs)];
    return asMarkdown ? markdown(head, flat(rows())) : csv(head, flat(rows()));
  });

  function draw() {
    const { jobs, differences } = shown;
    if (!differences.length) panel.show("None: these jobs were asked for the same.", null);
    else panel.show(`${differences.length} ${differences.length === 1 ? "setting differs" : "settings differ"}; all others are equal.`, grid("Settings that differ", "Setting", jobs, rows()));
  }

  async function learn() {
    const ids = new Set(JSON.stringify(shown.differences).match(/\b(?:mdl|ds)_\w+/g) ?? []);
    const wanted = [...ids].filter((id) => !names.has(id));
    if (!wanted.length) return;
    const found = await Promise.all(wanted.map((id) => findAssetIfPossible(id.startsWith("mdl_") ? "models" : "datasets", id)));
    found.forEach((one, at) => one && names.set(wanted[at], one.name ?? one.architecture));
    draw();
  }

  return {
    node: panel.node,
    update({ jobs, differences }) {
      shown = { jobs, differences: differences.filter(({ values }) => values.some((value) => value !== null)) };
      draw();
      learn();
    },
  };
}

export function results() {
  let shown = { jobs: [], metrics: [] };
  const panel = section("results", "Results", (asMarkdown) => (asMarkdown ? asText(shown) : asNumbers(shown)));

  function draw() {
    const { jobs, metrics } = shown;
    const measuredJobs = jobs.filter((_, at) => metrics.some(({ key, values }) => key !== "device_s" && Number.isFinite(values[at]))).length;
    const note = measuredJobs === jobs.length ? `Differences are to A, ${jobs[0].name}.` : `${measuredJobs} of ${jobs.length} jobs have a report; the others show “–”.`;
    if (!measuredJobs) panel.show("No job has a report yet: it comes when a job has succeeded.", null);
    else panel.show(note, grid("Results", "On the test split", jobs, metrics.map((metric) => [metricWords(metric.key), metric.values.map((_, at) => cell(metric, at))])));
  }

  return {
    node: panel.node,
    update({ jobs, metrics }) {
      // Who still runs is not the quickest.
      shown = { jobs, metrics: metrics.map((metric) => (metric.key === "device_s" && jobs.some(({ state }) => state !== "succeeded") ? { ...metric, best: [] } : metric)) };
      draw();
    },
  };
}

// Where all are equally good, none is the best.
const isBest = ({ best, values }, at) => Boolean(best?.includes(at)) && best.length < values.filter(Number.isFinite).length;

function cell(metric, at) {
  const delta = at === 0 ? "" : deltaWords(metric.deltas?.[at], metric.unit);
  return [
    el("span", { class: "value" }, el("span", { class: "num" }, measured(metric.values[at], metric.unit)),
      isBest(metric, at) ? el("span", { class: "best" }, icon(TICK), "best") : null),
    delta ? el("span", { class: "delta small" }, delta) : null,
  ];
}

function asText({ jobs, metrics }) {
  const rows = metrics.map((metric) => [metricWords(metric.key), ...metric.values.map((value, at) => {
    const delta = at === 0 ? "" : deltaWords(metric.deltas?.[at], metric.unit);
    const text = measured(value, metric.unit) + (delta ? ` (${delta})` : "");
    return isBest(metric, at) ? `**${text}**` : text;
  })]);
  return markdown(["On the test split", ...heads(jobs)], rows);
}

function asNumbers({ jobs, metrics }) {
  return csv(["metric", "unit", ...heads(jobs)], metrics.map(({ key, unit, values }) => [key, unit, ...values]));
}
