// What is taken home: every file and how to run it, and the model card.

import { codeBlock, copyButton, table } from "../../components.js";
import { el } from "../../dom.js";
import { brief, bytes, fixed } from "../../format.js";
import { replaceQuery } from "../../router.js";
import { tabs } from "../../tabs.js";

const COLUMNS = ["File", "What", "Top-1", "Latency, p50", "Size", "SHA-256"];
const WORDS = {
  safetensors: "the weights", onnx: "ONNX, float32", onnx_int8: "ONNX, 8 bits", exported_program: "ExportedProgram",
  markdown: "model card to read", json: "for programs",
};
const ORDER = ["safetensors", "onnx", "onnx_int8", "exported_program"];

export function files(known, query) {
  const { report, artifacts } = known;
  const measured = new Map([...Object.values(report.exports ?? {}), ...Object.values(report.ensemble_exports ?? {})].map((one) => [one.file, one]));
  const rank = ({ format }) => (ORDER.indexOf(format) + 1 || ORDER.length + 1);
  const rows = [...artifacts].sort((a, b) => rank(a) - rank(b)).map((file) => row(file, measured.get(file.name)));
  const refused = Object.entries(report.refused_exports ?? {});
  return el("section", { class: "band", "aria-labelledby": "files" }, el("h2", { id: "files" }, "Take it home"),
    el("div", { class: "panel padded" }, table({ caption: "Files", className: "plain cards files", columns: COLUMNS, rows })),
    refused.length ? el("div", { class: "notice", "data-tone": "wait" }, el("strong", {}, "Not published"),
      el("ul", {}, refused.map(([form, why]) => el("li", {}, `${WORDS[form] ?? form}: ${why}`)))) : null,
    how(known, query));
}

function row(file, one) {
  return [
    [el("a", { href: file.links.content, download: file.name }, file.name), one?.warning ? el("p", { class: "muted small" }, one.warning) : null],
    WORDS[file.format] ?? file.format,
    one ? `${fixed(one.top1, 2)} %` : "–",
    one ? `${fixed(one.latency_ms.p50, 2)} ms` : "–",
    bytes(file.size_bytes),
    digest(file.sha256, file.name),
  ];
}

/** The first of a digest, the whole to copy. */
export const digest = (sha256, what) => el("span", { class: "digest" }, el("code", { class: "mono", title: sha256 }, `${sha256.slice(0, 12)}…`), copyButton(() => sha256, `Copy the SHA-256 of ${what}`));

function how(known, query) {
  const list = snippets(known).map(({ id, label, lead, text }) => ({
    id: `run-${id}`, label, create: () => el("div", { class: "band" }, el("p", { class: "muted small" }, lead), codeBlock(text, `How to run it: ${label}`)),
  }));
  if (!list.length) return null;
  return el("section", { class: "how", "aria-labelledby": "how" }, el("h3", { id: "how" }, "How to run it"),
    tabs("How to run it", list, `run-${query.get("form")}`, (id) => replaceQuery({ form: id.slice(4) })).node);
}

const FEW = 20;
const list = (values) => `[${values.join(", ")}]`;

/** [{id, label, lead, text}] of the forms that the job has published. */
export function snippets({ artifacts, config }) {
  if (!config) return [];
  const has = (format) => artifacts.find((file) => file.format === format && file.name.startsWith("student"));
  const torch = (lines) => [...lines, "with torch.inference_mode():", "    logits = network(torch.from_numpy(x))[0].numpy()", ...answer(config)].join("\n");
  return [
    has("safetensors") && {
      id: "safetensors", label: "safetensors",
      lead: "The weights with the network's own code. Needs student.safetensors and config.json in this folder, and pip install 'stillhouse[engine]'.",
      text: torch(["import torch", ...imports(), "from stillhouse.student import load", "", ...prepare(config), "", 'network, config = load(".")']),
    },
    ...["onnx", "onnx_int8"].filter(has).map((format) => ({
      id: format, label: format === "onnx" ? "ONNX" : "ONNX, 8 bits",
      lead: "Runs wherever an ONNX runtime does, without PyTorch. Needs pip install onnxruntime pillow numpy.",
      text: [...imports(), "import onnxruntime", "", ...prepare(config), "", `session = onnxruntime.InferenceSession("${has(format).name}")`,
        '(logits,) = session.run(None, {"image": x})[0]', ...answer(config)].join("\n"),
    })),
    has("exported_program") && {
      id: "exported_program", label: "ExportedProgram",
      lead: "The network's graph and weights for PyTorch, without its code. Needs pip install torch pillow numpy.",
      text: torch(["import torch", ...imports(), "", ...prepare(config), "", `network = torch.export.load("${has("exported_program").name}").module()`]),
    },
  ].filter(Boolean);
}

const imports = () => ["import numpy as np", "from PIL import Image, ImageOps"];

// The steps of ingestion and training: upright, channels, the central square at the network's side, scaled, normalized.
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

function answer({ classes }) {
  const names = classes.length <= FEW ? [`classes = ${JSON.stringify(classes)}`] : ["import json", 'classes = json.load(open("config.json"))["classes"]'];
  return [...names, "print(classes[int(logits.argmax())])"];
}

export function card({ card: told, config, artifacts, dataset }) {
  if (!told || !config) return null;
  const markdown = artifacts.find((file) => file.name === "model_card.md");
  const json = artifacts.find((file) => file.name === "model_card.json");
  const links = [["Download the card", markdown], ["The card as JSON", json]].filter(([, file]) => file)
    .map(([text, file]) => el("a", { class: "button small", href: file.links.content, download: file.name }, text));
  return el("section", { class: "band", "aria-labelledby": "card" },
    el("div", { class: "section-head" }, el("h2", { id: "card" }, "Model card"), el("div", { class: "actions" }, links)),
    el("div", { class: "panel card" },
      group("What it is for", el("p", {}, plain(told.intended_use)), el("ul", { class: "points" }, told.limits.map((text) => el("li", {}, plain(text))))),
      el("div", { class: "stack" }, group("What it takes", facts(input(config))), group("Of what", facts(origin(told, dataset))), group("License", el("p", {}, license(told)))),
      group("How it was made", facts(made(told)))));
}

const plain = (text) => text.replaceAll("`", "");
const license = (told) => `${told.license ?? "Unknown"} for the architecture. The weights also derive from the data and the teacher, whose licenses apply.`;
const group = (title, ...inner) => el("section", {}, el("h3", {}, title), inner);
const facts = (list) => el("dl", { class: "pairs-of" }, list.map(([name, ...value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
const inWords = (values) => values.map(brief).join(", ");

function input({ input_size: side, in_channels: channels, channels: rule, normalization: { mean, std }, classes }) {
  const kind = channels === 1 ? "gray" : "color";
  const by = { repeat: ", gray ones repeated", luminance: ", color ones by their luminance" }[rule] ?? "";
  return [
    ["Image", `${side} × ${side} pixels, ${kind}${by}`],
    ["Scaled to 0…1, then", `minus ${inWords(mean)}, divided by ${inWords(std)}`],
    ["Answers with", `${classes.length} logits: ${classes.slice(0, 12).join(", ")}${classes.length > 12 ? "…" : ""}`],
  ];
}

function made({ recipe, seed, device, versions }) {
  const { training, method, scheme, label_weight: labels } = recipe;
  return [
    ["Method", method.map(call).join(" + ")],
    ["Weight of the labels", brief(labels)],
    ["Scheme", call(scheme)],
    ["Training", `${training.epochs} epochs, batches of ${training.batch_size}, ${call(training.optimizer)}, ${call(training.schedule)}`],
    ["Augmentation", [training.augmentation].flat().map(call).join(", then ")],
    ["Seed", String(seed)],
    ["On", `${device}; ${Object.entries(versions).map(([name, number]) => `${name} ${number}`).join(", ")}`],
  ];
}

// "kd (temperature 4, weight 0.9)": what is off or not set is left out.
function call({ type, ...params }) {
  const one = (value) => (value === true ? "on" : typeof value === "object" ? JSON.stringify(value) : value);
  const set = Object.entries(params).filter(([, value]) => value !== null && value !== false);
  const told = set.map(([name, value]) => `${name.replaceAll("_", " ")} ${one(value)}`);
  return `${type.replaceAll("_", " ")}${told.length ? ` (${told.join(", ")})` : ""}`;
}

function origin({ architecture, student_sha256: own, teachers, init_sha256: start, data }, dataset) {
  const counts = Object.entries(data.counts).map(([split, count]) => `${count.toLocaleString("en-GB")} ${split}`).join(", ");
  return [
    [architecture, digest(own, "the student")],
    ...teachers.map(({ architecture: name, sha256, weight }) => [`Teacher ${name}${teachers.length > 1 ? `, weight ${brief(weight)}` : ""}`, digest(sha256, "the teacher")]),
    ...(start ? [["Begins as", digest(start, "the initial weights")]] : []),
    [`Data ${dataset?.name ?? ""}`, digest(data.digest, "the data set"), el("span", { class: "muted small" }, ` ${counts}`)],
  ];
}
