// The page of a finished student: measurements, predictions, downloads, model card.

import { firstPage, get, isIgnorable, jobPath, post } from "../fetch.js";
import { announce, button, codeBlock, digest, errorNotice, fact, namedSection, scrollTable, showOutcome } from "../components.js";
import { el, setChildren, setText } from "../dom.js";
import { brief, bytes, ms, percent, readable } from "../format.js";
import { jobName, studentDownload } from "../job-actions.js";
import { stateChip, TERMINAL } from "../job-state.js";
import { catalogHref, findAsset, methodName, studentName } from "../lookups.js";
import { href, replaceQuery } from "../router.js";
import { pollWhileVisible } from "../streams.js";
import { tabs } from "../tabs.js";
import { measurements } from "./job-page/job-report.js";
import { playground } from "./student-page/playground.js";

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

const COLUMNS = ["File", "Content", "Top-1", "Latency, p50", "Size", "SHA-256"];
const CONTENTS = {
  safetensors: "the weights", onnx: "ONNX, float32", onnx_int8: "ONNX, int8", exported_program: "ExportedProgram",
  markdown: "model card", json: "data for programs",
};
const ORDER = ["safetensors", "onnx", "onnx_int8", "exported_program"];

function files(data, query) {
  const { report, artifacts } = data;
  const measured = new Map([...Object.values(report.exports ?? {}), ...Object.values(report.ensemble_exports ?? {})].map((results) => [results.file, results]));
  const rank = ({ format }) => (ORDER.indexOf(format) + 1 || ORDER.length + 1);
  const rows = [...artifacts].sort((a, b) => rank(a) - rank(b)).map((file) => row(file, measured.get(file.name)));
  const refused = Object.entries(report.refused_exports ?? {});
  return namedSection("files", "Downloads", null,
    el("div", { class: "panel padded" }, scrollTable("Files", COLUMNS, rows, "plain cards files")),
    refused.length ? el("div", { class: "notice", "data-tone": "wait" }, el("strong", {}, "Not exported"),
      el("ul", {}, refused.map(([format, reason]) => el("li", {}, `${CONTENTS[format] ?? format}: ${reason}`)))) : null,
    runSection(data, query));
}

function row(file, results) {
  return [
    [el("a", { href: file.links.content, download: file.name }, file.name), results?.warning ? el("p", { class: "muted small" }, results.warning) : null],
    CONTENTS[file.format] ?? file.format,
    percent(results?.top1),
    ms(results?.latency_ms.p50),
    bytes(file.size_bytes),
    digest(file.sha256, file.name),
  ];
}

function runSection(data, query) {
  const list = snippets(data).map(({ id, label, lead, text }) => ({
    id: `run-${id}`, label, create: () => el("div", { class: "band" }, el("p", { class: "muted small" }, lead), codeBlock(text, `How to run it: ${label}`)),
  }));
  if (!list.length) return null;
  return el("section", { class: "how", "aria-labelledby": "how" }, el("h3", { id: "how" }, "How to run it"),
    tabs("How to run it", list, `run-${query.get("form")}`, (id) => replaceQuery({ form: id.slice(4) })).node);
}

const MAX_NAMES = 20;
const list = (values) => `[${values.join(", ")}]`;

// [{id, label, lead, text}]: code to run the student in each exported format.
function snippets({ artifacts, config }) {
  if (!config) return [];
  const has = (format) => artifacts.find((file) => file.format === format && file.name.startsWith("student"));
  const torch = (lines) => [...lines, "with torch.inference_mode():", "    logits = network(torch.from_numpy(x))[0].numpy()", ...printClass(config)].join("\n");
  return [
    has("safetensors") && {
      id: "safetensors", label: "safetensors",
      lead: "The weights and the code of the network. Needs student.safetensors and config.json in this folder, and pip install 'stillhouse[engine]'.",
      text: torch(["import torch", ...imports(), "from stillhouse.student import load", "", ...prepare(config), "", 'network, config = load(".")']),
    },
    ...["onnx", "onnx_int8"].filter(has).map((format) => ({
      id: format, label: format === "onnx" ? "ONNX" : "ONNX, int8",
      lead: "Runs with ONNX Runtime, without PyTorch. Needs pip install onnxruntime pillow numpy.",
      text: [...imports(), "import onnxruntime", "", ...prepare(config), "", `session = onnxruntime.InferenceSession("${has(format).name}")`,
        '(logits,) = session.run(None, {"image": x})[0]', ...printClass(config)].join("\n"),
    })),
    has("exported_program") && {
      id: "exported_program", label: "ExportedProgram",
      lead: "The graph and the weights for PyTorch, without the code of the network. Needs pip install torch pillow numpy.",
      text: torch(["import torch", ...imports(), "", ...prepare(config), "", `network = torch.export.load("${has("exported_program").name}").module()`]),
    },
  ].filter(Boolean);
}

const imports = () => ["import numpy as np", "from PIL import Image, ImageOps"];

// The same steps as in ingestion and training: orientation, channels, central square, resize, scale, normalize.
function prepare({ in_channels: channels, channels: rule, input_size: side, normalization: { mean, std } }) {
  const mode = { repeat: '.convert("L").convert("RGB")', luminance: '.convert("L")' }[rule] ?? (channels === 1 ? '.convert("L")' : '.convert("RGB")');
  return [
    'image = ImageOps.exif_transpose(Image.open("image.png"))',
    `image = ImageOps.fit(image${mode}, (${side}, ${side}), Image.Resampling.BILINEAR)`,
    `x = np.asarray(image, np.float32).reshape(${side}, ${side}, ${channels}) / 255  # (H, W, C)`,
    `x = (x - np.float32(${list(mean)})) / np.float32(${list(std)})`,
    "x = np.ascontiguousarray(x.transpose(2, 0, 1)[None])  # (1, C, H, W)",
  ];
}

function printClass({ classes }) {
  const names = classes.length <= MAX_NAMES ? [`classes = ${JSON.stringify(classes)}`] : ["import json", 'classes = json.load(open("config.json"))["classes"]'];
  return [...names, "print(classes[int(logits.argmax())])"];
}

function card({ card: content, config, artifacts, dataset }) {
  if (!content || !config) return null;
  const markdown = artifacts.find((file) => file.name === "model_card.md");
  const json = artifacts.find((file) => file.name === "model_card.json");
  const links = [["Download the card", markdown], ["The card as JSON", json]].filter(([, file]) => file)
    .map(([text, file]) => el("a", { class: "button small", href: file.links.content, download: file.name }, text));
  return namedSection("card", "Model card", el("div", { class: "actions" }, links),
    el("div", { class: "panel card" },
      group("Intended use", el("p", {}, withoutBackticks(content.intended_use)), el("ul", { class: "points" }, content.limits.map((text) => el("li", {}, withoutBackticks(text))))),
      el("div", { class: "stack" }, group("Input and output", facts(input(config))), group("Origin", facts(origin(content, dataset))), group("License", el("p", {}, license(content)))),
      group("Training", facts(training(content)))));
}

const withoutBackticks = (text) => text.replaceAll("`", "");
const license = (content) => `${content.license ?? "Unknown"} for the architecture. The weights also derive from the data and the teacher, whose licenses apply.`;
const group = (title, ...inner) => el("section", {}, el("h3", {}, title), inner);
const facts = (list) => el("dl", { class: "pairs-of" }, list.map(([name, ...value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
const inWords = (values) => values.map(brief).join(", ");

function input({ input_size: side, in_channels: channels, channels: rule, normalization: { mean, std }, classes }) {
  const kind = channels === 1 ? "gray" : "color";
  const by = { repeat: ", gray ones repeated", luminance: ", color ones by their luminance" }[rule] ?? "";
  return [
    ["Image", `${side} × ${side} pixels, ${kind}${by}`],
    ["Scaled to 0…1, then", `minus ${inWords(mean)}, divided by ${inWords(std)}`],
    ["Output", `${classes.length} logits: ${classes.slice(0, 12).join(", ")}${classes.length > 12 ? "…" : ""}`],
  ];
}

function training({ recipe, seed, device, versions }) {
  const { training: config, method, scheme, label_weight: labels } = recipe;
  return [
    ["Method", method.map(settingWords).join(" + ")],
    ["Weight of the labels", brief(labels)],
    ["Scheme", settingWords(scheme)],
    ["Training", `${config.epochs} epochs, batches of ${config.batch_size}, ${settingWords(config.optimizer)}, ${settingWords(config.schedule)}`],
    ["Augmentation", [config.augmentation].flat().map(settingWords).join(", then ")],
    ["Seed", String(seed)],
    ["Device", `${device}; ${Object.entries(versions).map(([name, number]) => `${name} ${number}`).join(", ")}`],
  ];
}

// "kd (temperature 4, weight 0.9)", without settings that are off.
function settingWords({ type, ...params }) {
  const text = (value) => (value === true ? "on" : typeof value === "object" ? JSON.stringify(value) : value);
  const set = Object.entries(params).filter(([, value]) => value !== null && value !== false);
  const list = set.map(([name, value]) => `${readable(name)} ${text(value)}`);
  return `${readable(type)}${list.length ? ` (${list.join(", ")})` : ""}`;
}

function origin({ architecture, student_sha256: student, teachers, init_sha256: start, data }, dataset) {
  const counts = Object.entries(data.counts).map(([split, count]) => `${count.toLocaleString("en-GB")} ${split}`).join(", ");
  return [
    [architecture, digest(student, "the student")],
    ...teachers.map(({ architecture: name, sha256, weight }) => [`Teacher ${name}${teachers.length > 1 ? `, weight ${brief(weight)}` : ""}`, digest(sha256, "the teacher")]),
    ...(start ? [["Initial weights", digest(start, "the initial weights")]] : []),
    [`Data ${dataset?.name ?? ""}`, digest(data.digest, "the data set"), el("span", { class: "muted small" }, ` ${counts}`)],
  ];
}
