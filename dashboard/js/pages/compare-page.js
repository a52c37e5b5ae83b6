// Two to ten jobs side by side.

import { get, isIgnorable, jobPath } from "../fetch.js";
import { jobSearch } from "../combobox.js";
import { announce, copyAs, csv, errorNotice, namedSection, scrollRegion, setConnection, skeleton } from "../components.js";
import { el, fromTemplate, setChildren, setText } from "../dom.js";
import { brief, bytes, capital, decimal, duration, ms, percent, pluralize, readable, si } from "../format.js";
import { icon, isLive, TICK } from "../job-state.js";
import { findAssetIfPossible } from "../lookups.js";
import { replaceQuery } from "../router.js";
import { pollWhileVisible } from "../streams.js";
import { comparedJobs, compareHref, createCurves, jobMark, LINES, MAX_JOBS, missingJobs, parseQuery } from "./compare-page/compared-jobs.js";

const POLL_MS = 10000;
const MAX_POINTS = 500;
const PLACEHOLDER = "Add a job by name or id";

export function mount(main, { query }) {
  let ids = [];
  let axis = "epoch";
  let comparison = null;
  let failed = false;
  let request = new AbortController();
  const openJobs = (next) => { location.hash = compareHref(next, axis); };
  const heading = el("h1", { tabindex: "-1" }, "Compare");
  const jobList = comparedJobs({ onMove: (id) => { announce("Reference changed"); openJobs([id, ...ids.filter((other) => other !== id)]); }, onRemove: remove });
  const add = jobSearch({ id: "add-job", label: "Add a job", placeholder: PLACEHOLDER, otherIds: () => ids, onAdd: ({ id }) => openJobs([...ids, id]) });
  const message = el("div", { class: "page-message" });
  const placeholder = el("div");
  const tables = [settings(), results()];
  const lines = createCurves(chooseAxis);
  const body = el("div", { class: "stack", hidden: true }, tables[1].node, tables[0].node, lines.node);
  setChildren(main, el("a", { class: "crumb", href: "#/jobs" }, "← Jobs"), el("div", { class: "compare-head" }, heading, add.node), jobList.node, message, placeholder, body);

  function remove(id) {
    openJobs(ids.filter((other) => other !== id));
    if (ids.length === 1) heading.focus();
  }

  function chooseAxis(next) {
    replaceQuery({ x: next === "epoch" ? "" : next });
    axis = next;
    lines.mark(axis);
    load();
  }

  function show(next) {
    const requested = parseQuery(next);
    const same = requested.ids.join() === ids.join() && comparison;
    ids = requested.ids;
    axis = requested.axis;
    lines.mark(axis);
    add.input.disabled = ids.length >= MAX_JOBS;
    add.input.placeholder = add.input.disabled ? "At most ten jobs" : PLACEHOLDER;
    jobList.update(ids, comparison?.jobs);
    setChildren(message, requested.more ? el("p", { class: "notice" }, `At most ten jobs can be compared: ${requested.more} more of the address ${requested.more === 1 ? "is" : "are"} not shown.`) : null);
    if (same) return load();
    body.hidden = true;
    setChildren(placeholder, ids.length < 2 ? fromTemplate(ids.length ? "compare-one" : "compare-none") : skeleton());
    return load();
  }

  async function load() {
    request.abort();
    const current = request = new AbortController();
    try {
      if (ids.length < 2) return await loadSingle(current.signal);
      const next = await get("/v1/compare", { jobs: ids.join(","), x: axis, max_points: MAX_POINTS }, current.signal);
      if (current !== request) return undefined;
      failed = false;
      draw(next);
      setConnection(next.jobs.some(isLive) ? "live" : "idle");
    } catch (error) {
      if (isIgnorable(error) || current !== request) return undefined;
      failed = error.status === 0;
      setConnection(failed ? "offline" : "idle");
      if (!comparison || !failed) { body.hidden = true; setChildren(placeholder); }
      setChildren(message, (error.status === 404 && await missingNotice(current.signal)) || errorNotice(error, load));
    }
    return undefined;
  }

  // The address has one job or none: there is nothing to compare yet.
  async function loadSingle(signal) {
    comparison = null;
    setConnection("idle");
    if (!ids.length) return;
    const job = await get(jobPath(ids[0]), {}, signal);
    const { student } = job.resolved;
    jobList.update(ids, [{ id: job.id, name: job.resolved.name, state: job.state, student: student.architecture, methods: [] }]);
  }

  async function missingNotice(signal) {
    const existing = await Promise.all(ids.map((id) => get(jobPath(id), {}, signal).catch((error) => (error.status === 404 ? null : id))));
    const missing = ids.filter((_, index) => existing[index] === null);
    return missing.length ? missingJobs(missing, () => openJobs(ids.filter((id) => !missing.includes(id)))) : null;
  }

  function draw(next) {
    const first = !comparison || body.hidden;
    comparison = next;
    jobList.update(ids, comparison.jobs);
    setChildren(placeholder);
    if (message.querySelector("[role=alert]")) setChildren(message);
    body.hidden = false;
    for (const table of tables) table.update(comparison);
    lines.update(comparison, axis);
    if (first) document.title = `Compare ${comparison.jobs.length} jobs – Stillhouse`;
  }

  const poll = pollWhileVisible(() => (failed || (ids.length > 1 && comparison?.jobs.some(isLive)) ? load() : undefined), () => POLL_MS);
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

// The two tables of a comparison.

const PARTS = { lr: "learning rate", accept: "acceptance" };
const METRICS = {
  top1: "Top-1", top5: "Top-5", agreement: "Agreement", kl_to_teacher: "KL to the teacher", ece: "Calibration error",
  num_params: "Parameters", macs: "MACs", size_bytes: "Size", latency_ms: "Latency, p50", images_per_s: "Throughput", device_s: "Device time",
};
const WHO = { student: "", teacher: "Teacher: ", baseline: "Undistilled: " };
const segmentWords = (name) => PARTS[name] ?? readable(name);

/** "training.optimizer.lr" -> "Training › optimizer › learning rate"; "method.kd.type" -> "Method › kd". */
const pathWords = (path) => capital(path.replace(/^(method\.\w+)\.type$/, "$1").split(".").map((segment) => (/^\d+$/.test(segment) ? String(Number(segment) + 1) : segmentWords(segment))).join(" › "));

/** The exact value of a setting. `names`: {id: name} of models and data sets. */
function valueWords(value, names = new Map()) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value)) return value.map((item) => valueWords(item, names)).join(" + ") || "none";
  if (typeof value !== "object") return names.get(value) ?? String(value);
  const { type, model, ...rest } = value;
  const set = Object.entries(rest).filter(([, field]) => field !== null);
  const inner = set.map(([name, field]) => `${segmentWords(name)} ${valueWords(field, names)}`).join(", ");
  const head = [type && segmentWords(type), model && valueWords(model, names)].filter(Boolean).join(" ");
  if (!head) return inner || "none";
  return inner ? `${head} (${inner})` : head;
}

/** "student.top1" -> "Top-1", "teacher.top1" -> "Teacher: top-1". */
function metricWords(key) {
  const [first, ...rest] = key.split(".");
  const who = rest.length ? WHO[first] : undefined;
  const name = who === undefined ? key : rest.join(".");
  const words = METRICS[name] ?? capital(name.split(".").map(segmentWords).join(", "));
  return who ? who + words.toLowerCase() : words;
}

const UNITS = {
  "%": percent,
  ms,
  s: duration,
  bytes,
  B: bytes,
};

function measurement(value, unit) {
  if (!Number.isFinite(value)) return "–";
  if (UNITS[unit]) return UNITS[unit](value);
  const number = Math.abs(value) >= 10000 ? si(value) : brief(value);
  return unit ? `${number} ${unit}` : number;
}

function deltaWords(value, unit) {
  if (!Number.isFinite(value)) return "";
  const size = unit === "%" ? `${decimal(Math.abs(value), 2)} pt` : measurement(Math.abs(value), unit);
  if (value === 0) return "the same";
  return `${Number.parseFloat(size) === 0 ? "±" : value > 0 ? "+" : "−"}${size}`;
}

// Names and settings are arbitrary text, so Markdown's characters are escaped.
const escapeMarkdown = (text) => text.replace(/[\\`*_~|<>&[\]]/g, "\\$&");

function markdown(header, rows) {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  return [line(header), `|${header.map((_, index) => (index ? " ---: |" : " --- |")).join("")}`, ...rows.map(line)].join("\n");
}

/** A section with a table. `copyText(asMarkdown)`: the table as Markdown or CSV. */
function tableSection(id, title, copyText) {
  const note = el("p", { class: "muted small" });
  const region = scrollRegion(`${title}, as a table`, [], "panel");
  const buttons = el("div", { class: "copies" }, copyAs("Markdown", () => copyText(true)), copyAs("CSV", () => copyText(false)));
  const node = namedSection(id, title, [note, buttons], region);
  return {
    node,
    show(words, table) {
      setText(note, words);
      region.hidden = buttons.hidden = !table;
      setChildren(region, table);
    },
  };
}

function comparisonTable(caption, first, jobs, rows) {
  return el("table", { class: "versus" }, el("caption", { class: "hidden" }, caption),
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, first), jobs.map((job, index) =>
      el("th", { scope: "col", title: job.name }, jobMark(index), el("span", { class: "of clamp" }, job.name))))),
    el("tbody", {}, rows.map(([name, cells]) => el("tr", {}, el("th", { scope: "row" }, name), cells.map((cell) => el("td", {}, cell))))));
}

const columnNames = (jobs) => jobs.map(({ name }, index) => `${LINES[index].letter}: ${name}`);

function settings() {
  let shown = { jobs: [], differences: [] };
  const names = new Map();
  const rows = () => shown.differences.map(({ path, values }) => [pathWords(path), values.map((value) => valueWords(value, names))]);
  const flat = (list) => list.map(([name, cells]) => [name, ...cells]);
  const panel = tableSection("settings", "Settings that differ", (asMarkdown) => {
    const header = ["Setting", ...columnNames(shown.jobs)];
    return asMarkdown ? markdown(header.map(escapeMarkdown), flat(rows()).map((cells) => cells.map(escapeMarkdown))) : csv(header, flat(rows()));
  });

  function draw() {
    const { jobs, differences } = shown;
    if (!differences.length) panel.show("None: the settings of these jobs are equal.", null);
    else panel.show(`${pluralize(differences.length, "setting differs", "settings differ")}; all others are equal.`, comparisonTable("Settings that differ", "Setting", jobs, rows()));
  }

  async function loadNames() {
    const ids = new Set(JSON.stringify(shown.differences).match(/\b(?:mdl|ds)_\w+/g) ?? []);
    const unknown = [...ids].filter((id) => !names.has(id));
    if (!unknown.length) return;
    const assets = await Promise.all(unknown.map((id) => findAssetIfPossible(id.startsWith("mdl_") ? "models" : "datasets", id)));
    assets.forEach((asset, index) => asset && names.set(unknown[index], asset.name ?? asset.architecture));
    draw();
  }

  return {
    node: panel.node,
    update({ jobs, differences }) {
      shown = { jobs, differences: differences.filter(({ values }) => values.some((value) => value !== null)) };
      draw();
      loadNames();
    },
  };
}

function results() {
  let shown = { jobs: [], metrics: [] };
  const panel = tableSection("results", "Results", (asMarkdown) => (asMarkdown ? resultsMarkdown(shown) : resultsCsv(shown)));

  function draw() {
    const { jobs, metrics } = shown;
    const measuredJobs = jobs.filter((_, index) => metrics.some(({ key, values }) => key !== "device_s" && Number.isFinite(values[index]))).length;
    const note = measuredJobs === jobs.length ? `Differences are relative to A, ${jobs[0].name}.` : `${measuredJobs} of ${jobs.length} jobs have a report; the others show “–”.`;
    if (!measuredJobs) panel.show("No job has a report yet. A report is written when a job succeeds.", null);
    else panel.show(note, comparisonTable("Results", "On the test split", jobs, metrics.map((metric) => [metricWords(metric.key), metric.values.map((_, index) => cell(metric, index))])));
  }

  return {
    node: panel.node,
    update({ jobs, metrics }) {
      // The device time of a job that has not finished is no result.
      shown = { jobs, metrics: metrics.map((metric) => (metric.key === "device_s" && jobs.some(({ state }) => state !== "succeeded") ? { ...metric, best: [] } : metric)) };
      draw();
    },
  };
}

// No value is the best if all are equal.
const isBest = ({ best, values }, index) => Boolean(best?.includes(index)) && best.length < values.filter(Number.isFinite).length;

function cell(metric, index) {
  const delta = index === 0 ? "" : deltaWords(metric.deltas?.[index], metric.unit);
  return [
    el("span", { class: "value" }, el("span", { class: "num" }, measurement(metric.values[index], metric.unit)),
      isBest(metric, index) ? el("span", { class: "best" }, icon(TICK), "best") : null),
    delta ? el("span", { class: "delta small" }, delta) : null,
  ];
}

function resultsMarkdown({ jobs, metrics }) {
  const rows = metrics.map((metric) => [metricWords(metric.key), ...metric.values.map((value, index) => {
    const delta = index === 0 ? "" : deltaWords(metric.deltas?.[index], metric.unit);
    const text = measurement(value, metric.unit) + (delta ? ` (${delta})` : "");
    return isBest(metric, index) ? `**${text}**` : text;
  })]);
  return markdown(["On the test split", ...columnNames(jobs).map(escapeMarkdown)], rows);
}

function resultsCsv({ jobs, metrics }) {
  return csv(["metric", "unit", ...columnNames(jobs)], metrics.map(({ key, unit, values }) => [key, unit, ...values]));
}
