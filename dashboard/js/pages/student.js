// A finished student: what it is worth, what it says of an image, and how to take it home.

import { firstPage, get, jobPath, post } from "../api.js";
import { errorNotice, table } from "../components.js";
import { el, setChildren, setText } from "../dom.js";
import { bytes, fixed, si } from "../format.js";
import { jobName } from "../job-actions.js";
import { stateChip, TERMINAL } from "../job-state.js";
import { announce, setConnection } from "../layout.js";
import { methodName, findAsset, studentName } from "../lookups.js";
import { href } from "../router.js";
import { pollWhileVisible } from "../streams.js";
import { card, files } from "./student/downloads.js";
import { playground } from "./student/playground.js";

const WAIT_MS = 5000;

export function mount(main, { args: [id], query }) {
  const gone = new AbortController();
  let waiting = null;
  let play = null;
  let again = 0;

  async function begin() {
    setChildren(main, el("h1", { tabindex: "-1", class: "hidden" }, "Student"), el("p", { class: "muted" }, "Loading the student…"));
    try {
      const job = await get(jobPath(id), {}, gone.signal);
      setConnection("idle");
      if (job.state === "succeeded" && job.kind === "distill") await show(job);
      else none(job);
    } catch (error) {
      failed(error);
    }
  }

  async function show(job) {
    const known = await load(job, gone.signal);
    if (gone.signal.aborted) return;
    const keep = keeper(job, gone.signal);
    const top = header(known, keep);
    play = playground(known, keep, query, gone.signal);
    setChildren(main, el("div", { class: "stack student" }, top.node, numbers(known), play.node, files(known, query), card(known)));
    document.title = `${jobName(job)}, student – Stillhouse`;
    keep.look();
    if (document.activeElement === document.body) main.querySelector("h1").focus();
  }

  // A job without a student: say why; one that goes on is looked at until it has one.
  function none(job) {
    const over = TERMINAL.includes(job.state);
    const own = href(`/jobs/${job.id}`);
    const why = job.kind !== "distill" ? "This job trains no student."
      : over ? "This job has ended without a student." : "The student comes when the job has succeeded.";
    setChildren(main, el("div", { class: "stack" },
      el("div", {}, el("a", { class: "crumb", href: own }, "← Job"), el("h1", { tabindex: "-1" }, `Student of ${jobName(job)}`)),
      el("div", { class: "notice", "data-tone": over ? null : "wait" }, el("p", {}, stateChip(job.state), " ", why),
        el("a", { class: "button small", href: own }, "Open the job"))));
    if (over) return;
    waiting ??= pollWhileVisible(async () => {
      const now = await get(jobPath(id), {}, gone.signal).catch(() => job);
      if (now.state === job.state) return;
      waiting.stop();
      waiting = null;
      begin();
    }, () => WAIT_MS);
  }

  function failed(error) {
    if (error.name === "AbortError" || error.status === 401) return;
    setConnection(error.status === 0 ? "offline" : "idle");
    setChildren(main, el("h1", { class: "hidden", tabindex: "-1" }, "Student"), errorNotice(error, error.status === 404 ? null : begin));
    if (error.status === 0) again = setTimeout(begin, WAIT_MS);
  }

  begin();
  return {
    update() {}, // the query is of this page's own making
    leave() {
      gone.abort();
      clearTimeout(again);
      waiting?.stop();
      play?.leave();
    },
  };
}

// The student as the page knows it: what belongs to it, its name and actions, what it is worth.

/** {job, report, artifacts, config, card, dataset, teachers}; what has been deleted meanwhile is null. */
export async function load(job, signal) {
  const [report, artifacts, dataset, ...teachers] = await Promise.all([
    get(jobPath(job.id, "/report"), {}, signal),
    firstPage(jobPath(job.id, "/artifacts"), signal),
    findAsset("datasets", job.dataset),
    ...(job.resolved.teachers ?? []).map((each) => teacher(each)),
  ]);
  const [config, card] = await Promise.all(["config.json", "model_card.json"].map((name) => {
    const file = artifacts.find((each) => each.name === name);
    return file ? get(file.links.content, {}, signal) : null;
  }));
  return { job, report, artifacts, config, card, dataset, teachers };
}

async function teacher({ model: id, class_map: map, weight }) {
  return { id, weight, map, model: await findAsset("models", id) };
}

/** `look` finds it, `make` finds or makes it; `watch(fn)` is told what is known: a model, or null. */
export function keeper(job, signal) {
  const source = `job:${job.id}`;
  const watching = [];
  let model = null;
  let made = null;

  function know(found) {
    model = found;
    for (const each of watching) each(model);
    return model;
  }

  async function look() {
    const { data } = await get("/v1/models", { source, state: "ready", limit: 1 }, signal);
    return know(data[0] ?? null);
  }

  return {
    get model() {
      return model;
    },
    watch: (fn) => watching.push(fn),
    look: () => look().catch(() => null), // it can be kept all the same
    make() {
      // Two who want it at the same time get the same.
      made ??= look().then((found) => found ?? post("/v1/models", { name: jobName(job), source }).then(know)).finally(() => {
        made = null;
      });
      return model ? Promise.resolve(model) : made;
    },
  };
}

export function header({ job, dataset, teachers }, keep) {
  const actions = el("div", { class: "actions" });
  const said = el("p", { class: "refused small", role: "status" });
  const button = el("button", { class: "button", type: "button", on: { click: hold } }, "Keep as a model");

  async function hold() {
    button.disabled = true;
    setText(said, "");
    try {
      await keep.make();
      announce("Kept as a model");
    } catch (error) {
      setText(said, `Not kept: ${error.message}.`);
    }
    button.disabled = false;
  }

  const draw = (model) => setChildren(actions,
    el("a", { class: "button", href: href(`/jobs/${job.id}`) }, "Open the job"),
    model ? el("a", { class: "button kept", href: entry("models", model) }, "Kept as a model ", tick()) : button,
    el("a", { class: "button primary", href: jobPath(job.id, "/student"), download: "student.safetensors" }, "Download student"));
  keep.watch(draw);
  draw(null);
  return {
    node: el("div", {}, el("a", { class: "crumb", href: href(`/jobs/${job.id}`) }, "← Job"),
      el("div", { class: "job-head" }, el("div", { class: "title" }, el("h1", { tabindex: "-1" }, `Student of ${jobName(job)}`)), actions), said,
      el("p", { class: "facts" }, lineage(job, dataset, teachers))),
  };
}

const tick = () => el("span", { "aria-hidden": "true" }, "✓");
const entry = (tab, { id, name }) => href("/catalog", { tab, q: name, open: id });
const fact = (name, ...value) => el("span", {}, el("span", { class: "muted" }, name), value);

// Teacher, student, method and data set, each a link where there is something to see.
function lineage(job, dataset, teachers) {
  const names = teachers.flatMap(({ id, model }, at) => [at ? ", " : null, model ? el("a", { href: entry("models", model) }, model.name) : `${id} (deleted)`]);
  const { architecture, derive } = job.resolved.student;
  return [
    teachers.length ? fact(teachers.length > 1 ? "Teachers" : "Teacher", names) : null,
    fact("Student", derive ? studentName(job) : el("a", { href: href("/catalog", { tab: "architectures", q: architecture }) }, studentName(job))),
    fact("Method", methodName(job)),
    fact("Data", dataset ? el("a", { href: entry("datasets", dataset) }, dataset.name) : job.dataset),
  ];
}

const WHO = [["student", "Student"], ["teacher", "Teacher"], ["baseline", "Undistilled"]];
const percent = (value) => (value === null || value === undefined ? "–" : `${fixed(value, 2)} %`);
const ms = (value) => (value ? `${fixed(value.p50, 2)} ms` : "–");

const ROWS = [
  ["Top-1, test", (one) => percent(one.top1)],
  ["Top-5, test", (one) => percent(one.top5)],
  ["Agreement with the teacher", (one) => percent(one.agreement)],
  ["Calibration error", (one) => percent(one.ece)],
  ["Parameters", (one) => si(one.num_params)],
  ["Multiply-adds an image", (one) => si(one.macs)],
  ["Size of the weights", (one) => bytes(one.size_bytes)],
  ["Latency of one image, p50", (one) => ms(one.latency_ms)],
  ["Latency as ONNX on one core, p50", (one) => ms(one.cpu_latency_ms)],
];

export function numbers({ report }) {
  const who = WHO.filter(([key]) => report[key]);
  const every = ROWS.map(([name, show]) => [name, ...who.map(([key]) => show(report[key]))]);
  const rows = every.filter((cells) => cells.slice(1).some((text) => text !== "–"));
  const columns = ["Number", ...who.map(([, name]) => name)];
  return el("section", { class: "band", "aria-labelledby": "numbers" }, el("h2", { id: "numbers" }, "What it is worth"),
    el("div", { class: "panel padded" },
      table({ caption: "Student, teacher and undistilled student", className: "plain cards worth", columns, rows })),
    el("p", { class: "muted small" }, `Measured on ${report.device}${statement(report.seeds)}`));
}

const statement = (seeds) => (seeds?.top1_gain ? `. Distillation against the undistilled student: ${seeds.statement.replaceAll(" -", " −")}.` : ".");
