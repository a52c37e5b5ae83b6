// The sections of the form, and the assets that it offers.

import { allPages, post } from "../../api.js";
import { button } from "../../components.js";
import { el, setText } from "../../dom.js";
import { integer } from "../../format.js";
import { field, form, selectField } from "../../schema-form.js";
import { Draft, fieldShape, fieldTitle } from "../../schema.js";
import { architectureField } from "./architecture-picker.js";
import { methodSection, modelOptions, studentSection, teacherSection } from "./model-pickers.js";
import { idempotencyKey, uploadZone } from "./upload.js";

/** The data sets and models that a job can use. */
export async function loadReady(signal) {
  const [datasets, models] = await Promise.all(["datasets", "models"].map((kind) => allPages(`/v1/${kind}`, {}, signal)));
  const usable = (list) => list.filter(({ state }) => state === "ready");
  return { datasets: usable(datasets), models: usable(models) };
}

const total = ({ splits }) => Object.values(splits).reduce((sum, { count }) => sum + count, 0);

function datasetSelect(ctx) {
  const options = ctx.assets.datasets.map((dataset) => [dataset.id, `${dataset.name} · ${dataset.num_classes} classes · ${integer(total(dataset))} images of ${dataset.image_size} px`]);
  return selectField(ctx, "/dataset", "Data set", options, { empty: options.length ? "Choose a data set" : "None yet: add one below", note: ["Required. It trains and evaluates the student."] });
}

/** The two drop zones. `onReady(kind, asset)`: an upload is ready; `dataset()`: the selected data set. */
export function uploadZones(root, onReady, dataset) {
  const schemas = root.components.schemas;
  return {
    dataset: uploadZone({
      path: "/v1/datasets", schema: schemas.DatasetCreate, id: "ds", name: "a data set", only: [], rare: ["image_size", "split_seed"], progress: "reading the images…",
      hint: "A zip of images in class folders (train/, val/, test/, or one tree), an .npz of images and labels, or WebDataset tar shards.",
    }, root, (asset) => onReady("dataset", asset)),
    teacher: uploadZone({
      path: "/v1/models", schema: schemas.ModelCreate, id: "mdl", name: "a teacher", only: ["num_classes", "input_size", "normalization"], rare: ["class_names", "license"], progress: "checking the checkpoint…",
      hint: "A checkpoint: safetensors, or a PyTorch state dict.", guess: () => ({ num_classes: dataset()?.num_classes }),
      first: (ctx) => architectureField(ctx, "/architecture"),
    }, root, (asset) => onReady("teacher", asset)),
  };
}

function builtinSource(ctx) {
  const local = { ...ctx, draft: new Draft(), id: "builtin" };
  const sources = fieldShape(ctx.root.components.schemas.DatasetCreate.properties.source, ctx.root).enum;
  const list = selectField(local, "/source", "Or use a public data set", sources.map((source) => [source, source.replace(":", ": ")]), { empty: "Choose" });
  const message = el("p", { role: "status", class: "help" });
  async function add() {
    const source = local.draft.get("/source");
    if (!source || ctx.uploads.dataset.busy()) return;
    try {
      ctx.uploads.dataset.follow(await post("/v1/datasets", { name: source.split(":")[1], source }, { headers: idempotencyKey() }));
    } catch (error) {
      setText(message, error.message);
    }
  }
  return el("div", { class: "builtin-source" }, list, button("Add", add), message);
}

const EVALUATION_FIELDS = ["kind", "name", "dataset", "teachers", "model", "accept", "limits", "seed", "priority", "labels"];
const RECIPE = ["epochs", "batch_size", "optimizer", "schedule"];

/** The fields of a draft that belong to its kind. The draft has all fields, so that another kind can be chosen again. */
export function fieldsOfKind(value) {
  const { model, ...distilled } = value;
  if (distilled.kind === "warm") delete distilled.kind; // the copy of a `warm` job trains the student
  return value.kind === "evaluate" ? Object.fromEntries(EVALUATION_FIELDS.filter((key) => key in value).map((key) => [key, value[key]])) : distilled;
}

export function sections(ctx) {
  const { properties } = ctx.root.components.schemas.JobSpec;
  const { TrainingConfig, EvaluationPlan, JobLimits, AcceptanceCriteria } = ctx.root.components.schemas;
  const topField = (name) => field(ctx, properties[name], `/${name}`, fieldTitle(name));
  // A field that is a section by itself needs no visible label.
  const alone = (node) => { node.classList.add("alone"); return node; };
  const grid = (...children) => el("div", { class: "grid" }, children);
  const folds = [];

  function part(name, ...children) {
    const id = `part-${name.toLowerCase().replace(/\W+/g, "-")}`;
    return el("section", { class: "panel part", "aria-labelledby": id }, el("h2", { id }, name), children);
  }

  function fold(name, keys, ...children) {
    const set = el("span", { class: "muted small" });
    folds.push({ keys, set });
    const node = el("details", { class: "panel part", open: ctx.open.has(name), on: { toggle: () => ctx.open[node.open ? "add" : "delete"](name) } },
      el("summary", {}, el("h2", {}, name), set), children);
    return node;
  }

  const isEvaluation = ctx.draft.get("/kind") === "evaluate";
  const kind = selectField(ctx, "/kind", "Kind", [["evaluate", "Evaluate a model"]], { empty: "Distill a student (default)", onChange: () => ctx.rebuild("/kind") });
  const top = [
    part("Name and kind", grid(field(ctx, { ...properties.name, description: "Empty: composed from student and method." }, "/name", "Name"), kind)),
    part("Data set", alone(datasetSelect(ctx)), addPanel(ctx.assets.datasets.length, "Add a data set", ctx.uploads.dataset.node, builtinSource(ctx))),
    part("Teachers", teacherSection(ctx), addPanel(ctx.assets.models.length, "Add a teacher", ctx.uploads.teacher.node)),
  ];
  const last = [fold("Accept", ["accept"], grid(form(ctx, AcceptanceCriteria, "/accept"))),
    fold("Limits, seed, priority, labels", ["limits", "seed", "priority", "labels"], grid(form(ctx, JobLimits, "/limits"), ["seed", "priority", "labels"].map(topField)))];
  if (isEvaluation) {
    const model = part("Model", grid(selectField(ctx, "/model", "Model to evaluate", modelOptions(ctx), { empty: "Choose a model" })));
    return { nodes: [...top.slice(0, 2), model, top[2], ...last], update: (_, body) => summarize(body), teachersChanged() {} };
  }
  const methodPicker = methodSection(ctx);
  const nodes = [...top,
    part("Student", studentSection(ctx)),
    part("Method", methodPicker.nodes),
    fold("Scheme", ["scheme"], alone(topField("scheme"))),
    part("Training", grid(topField("preset")), grid(form(ctx, TrainingConfig, "/training", { only: RECIPE })),
      el("details", { open: ctx.open.has("recipe"), on: { toggle: (event) => ctx.open[event.target.open ? "add" : "delete"]("recipe") } }, el("summary", {}, "Augmentation, precision, early stopping and more"),
        grid(form(ctx, TrainingConfig, "/training", { except: RECIPE })))),
    fold("Evaluation", ["evaluation"], grid(form(ctx, EvaluationPlan, "/evaluation"))),
    fold("Exports", ["exports"], alone(topField("exports"))), ...last];

  // Show the set fields beside the titles of the folded sections.
  function summarize(body) {
    for (const { keys, set } of folds) {
      const names = keys.filter((key) => key in body).flatMap((key) => (typeof body[key] === "object" && !Array.isArray(body[key]) ? Object.values(body[key]) : [body[key]]));
      setText(set, names.length ? names.flat().map((value) => (typeof value === "object" ? "…" : value)).join(", ") : "default");
    }
  }
  return { nodes, update: (methods, body) => { if (methods) methodPicker.update(methods); summarize(body); }, teachersChanged: methodPicker.teachersChanged };
}

function addPanel(count, name, ...children) {
  return el("details", { open: !count || children[0].childElementCount > 2 }, el("summary", {}, name), children);
}
