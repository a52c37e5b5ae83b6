// The page of a finished student: measurements, predictions, downloads, model card.

import { firstPage, get, isIgnorable, jobPath, post } from "../api.js";
import { announce, button, errorNotice, fact, namedSection, scrollTable, showOutcome } from "../components.js";
import { el, setChildren, setText } from "../dom.js";
import { jobName, studentDownload } from "../job-actions.js";
import { stateChip, TERMINAL } from "../job-state.js";
import { catalogHref, findAsset, methodName, studentName } from "../lookups.js";
import { href } from "../router.js";
import { pollWhileVisible } from "../streams.js";
import { measurements } from "./job/report.js";
import { card, files } from "./student/downloads.js";
import { playground } from "./student/playground.js";

const POLL_MS = 5000;

export function mount(main, { args: [id], query }) {
  const abort = new AbortController();
  let poll = null;
  let retryTimer = 0;

  async function begin() {
    setChildren(main, el("h1", { tabindex: "-1", class: "hidden" }, "Student"), el("p", { class: "muted" }, "Loading the student…"));
    try {
      const job = await get(jobPath(id), {}, abort.signal);
      showOutcome();
      if (job.state === "succeeded" && job.kind === "distill") await show(job);
      else showMissing(job);
    } catch (error) {
      showError(error);
    }
  }

  async function show(job) {
    const data = await load(job, abort.signal);
    if (abort.signal.aborted) return;
    const model = new StudentModel(job, abort.signal);
    const header = studentHeader(data, model);
    setChildren(main, el("div", { class: "stack student" }, header.node, numbers(data), playground(data, model, query, abort.signal), files(data, query), card(data)));
    document.title = `${jobName(job)}, student – Stillhouse`;
    model.load();
    if (document.activeElement === document.body) main.querySelector("h1").focus();
  }

  // A job without a student: show why, and poll a job that may still get one.
  function showMissing(job) {
    const ended = TERMINAL.includes(job.state);
    const jobHref = href(`/jobs/${job.id}`);
    const reason = job.kind !== "distill" ? "This job trains no student."
      : ended ? "This job has ended without a student." : "The student is written when the job succeeds.";
    setChildren(main, el("div", { class: "stack" },
      el("div", {}, el("a", { class: "crumb", href: jobHref }, "← Job"), el("h1", { tabindex: "-1" }, `Student of ${jobName(job)}`)),
      el("div", { class: "notice", "data-tone": ended ? null : "wait" }, el("p", {}, stateChip(job.state), " ", reason),
        el("a", { class: "button small", href: jobHref }, "Open the job"))));
    if (ended) return;
    poll ??= pollWhileVisible(async () => {
      const next = await get(jobPath(id), {}, abort.signal).catch(() => job);
      if (next.state === job.state) return;
      poll.stop();
      poll = null;
      begin();
    }, () => POLL_MS);
  }

  function showError(error) {
    if (isIgnorable(error)) return;
    showOutcome(error);
    setChildren(main, el("h1", { class: "hidden", tabindex: "-1" }, "Student"), errorNotice(error, error.status === 404 ? null : begin));
    if (error.status === 0) retryTimer = setTimeout(begin, POLL_MS);
  }

  begin();
  return {
    update() {}, // only this page changes its query
    leave() {
      abort.abort();
      clearTimeout(retryTimer);
      poll?.stop();
    },
  };
}

// {job, report, artifacts, config, card, dataset, teachers}; deleted assets are null.
async function load(job, signal) {
  const [report, artifacts, dataset, ...teachers] = await Promise.all([
    get(jobPath(job.id, "/report"), {}, signal),
    firstPage(jobPath(job.id, "/artifacts"), signal),
    findAsset("datasets", job.dataset),
    ...(job.resolved.teachers ?? []).map(loadTeacher),
  ]);
  const [config, card] = await Promise.all(["config.json", "model_card.json"].map((name) => {
    const file = artifacts.find((artifact) => artifact.name === name);
    return file ? get(file.links.content, {}, signal) : null;
  }));
  return { job, report, artifacts, config: config && american(config), card: card && american(card), dataset, teachers };
}

// Files of artifacts are never rewritten: earlier versions wrote them in British spelling.
const american = ({ normalisation, licence, ...content }) => ({ normalization: normalisation, license: licence, ...content });

async function loadTeacher({ model: id, class_map: map, weight }) {
  return { id, weight, map, model: await findAsset("models", id) };
}

/** The model of a job's student, if the project has one. */
class StudentModel {
  constructor(job, signal) {
    this.job = job;
    this.signal = signal;
    this.model = null;
    this.request = null;
    this.listeners = [];
  }

  /** `listener(model)` gets the model, or null if there is none. */
  watch(listener) {
    this.listeners.push(listener);
  }

  load() {
    return this.find().catch(() => null); // `create` tries again
  }

  /** The model; created if the project has none. Simultaneous calls create one model. */
  create() {
    if (this.model) return Promise.resolve(this.model);
    const add = () => post("/v1/models", { name: jobName(this.job), source: this.source }).then((model) => this.set(model));
    this.request ??= this.find().then((model) => model ?? add()).finally(() => {
      this.request = null;
    });
    return this.request;
  }

  get source() {
    return `job:${this.job.id}`;
  }

  async find() {
    const { data } = await get("/v1/models", { source: this.source, state: "ready", limit: 1 }, this.signal);
    return this.set(data[0] ?? null);
  }

  set(model) {
    this.model = model;
    for (const listener of this.listeners) listener(model);
    return model;
  }
}

function studentHeader({ job, dataset, teachers }, student) {
  const actions = el("div", { class: "actions" });
  const message = el("p", { class: "refused small", role: "status" });
  const saveButton = button("Save as a model", save);

  async function save() {
    saveButton.disabled = true;
    setText(message, "");
    try {
      await student.create();
      announce("Saved as a model");
    } catch (error) {
      setText(message, `Not saved: ${error.message}.`);
    }
    saveButton.disabled = false;
  }

  const draw = (model) => setChildren(actions,
    el("a", { class: "button", href: href(`/jobs/${job.id}`) }, "Open the job"),
    model ? el("a", { class: "button saved", href: catalogHref("models", model) }, "Saved as a model ", "✓") : saveButton,
    studentDownload(job));
  student.watch(draw);
  draw(null);
  return {
    node: el("div", {}, el("a", { class: "crumb", href: href(`/jobs/${job.id}`) }, "← Job"),
      el("div", { class: "job-head" }, el("div", { class: "title" }, el("h1", { tabindex: "-1" }, `Student of ${jobName(job)}`)), actions), message,
      el("p", { class: "facts" }, lineage(job, dataset, teachers))),
  };
}

function lineage(job, dataset, teachers) {
  const names = teachers.flatMap(({ id, model }, index) => [index ? ", " : null, model ? el("a", { href: catalogHref("models", model) }, model.name) : `${id} (deleted)`]);
  const { architecture, derive } = job.resolved.student;
  return [
    teachers.length ? fact(teachers.length > 1 ? "Teachers" : "Teacher", names) : null,
    fact("Student", derive ? studentName(job) : el("a", { href: href("/catalog", { tab: "architectures", q: architecture }) }, studentName(job))),
    fact("Method", methodName(job)),
    fact("Data", dataset ? el("a", { href: catalogHref("datasets", dataset) }, dataset.name) : job.dataset),
  ];
}

function numbers({ report }) {
  const { columns, rows } = measurements(report);
  return namedSection("numbers", "Measurements", null,
    el("div", { class: "panel padded" }, scrollTable("Student, teacher and undistilled student", columns, rows, "plain cards measurements")),
    el("p", { class: "muted small" }, `Measured on ${report.device}${statement(report.seeds)}`));
}

const statement = (seeds) => (seeds?.top1_gain ? `. Distillation against the undistilled student: ${seeds.statement.replaceAll(" -", " −")}.` : ".");
