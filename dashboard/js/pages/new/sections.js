// The form, section by section, and what there is to choose from.

import { allPages, post } from "../../api.js";
import { button } from "../../components.js";
import { el, setText } from "../../dom.js";
import { integer } from "../../format.js";
import { field, form, selectField } from "../../schema-form.js";
import { Draft, fieldShape, fieldTitle } from "../../schema.js";
import { architecture } from "./architecture-picker.js";
import { methods, modelOptions, student, teachers } from "./model-pickers.js";
import { drop, once } from "./upload.js";

export async function ready(signal) {
  const [datasets, models] = await Promise.all(["datasets", "models"].map((kind) => allPages(`/v1/${kind}`, {}, signal)));
  const usable = (list) => list.filter(({ state }) => state === "ready");
  return { datasets: usable(datasets), models: usable(models) };
}

const total = ({ splits }) => Object.values(splits).reduce((sum, { count }) => sum + count, 0);

function datasetSelect(ctx) {
  const options = ctx.assets.datasets.map((each) => [each.id, `${each.name} · ${each.num_classes} classes · ${integer(total(each))} images of ${each.image_size} px`]);
  return selectField(ctx, "/dataset", "Data set", options, { empty: options.length ? "Choose a data set" : "None yet: bring one below", note: ["Required: what is learned, and what it is measured with."] });
}

/** The two drop zones; they are kept while the tab is, whatever page is shown. `chosen(what, asset)`. */
export function drops(root, chosen, dataset) {
  const schemas = root.components.schemas;
  return {
    dataset: drop({
      path: "/v1/datasets", schema: schemas.DatasetCreate, id: "ds", what: "a data set", only: [], rare: ["image_size", "split_seed"], reading: "reading the images…",
      hint: "A zip of images in class folders (train/, val/, test/, or one tree), an .npz of images and labels, or WebDataset tar shards.",
    }, root, (asset) => chosen("dataset", asset)),
    teacher: drop({
      path: "/v1/models", schema: schemas.ModelCreate, id: "mdl", what: "a teacher", only: ["num_classes", "input_size", "normalization"], rare: ["class_names", "license"], reading: "checking the checkpoint…",
      hint: "A checkpoint: safetensors, or a PyTorch state dict.", guess: () => ({ num_classes: dataset()?.num_classes }),
      first: (ctx) => architecture(ctx, "/architecture"),
    }, root, (asset) => chosen("teacher", asset)),
  };
}

function published(ctx) {
  const own = { ...ctx, draft: new Draft(), id: "pub" };
  const sources = fieldShape(ctx.root.components.schemas.DatasetCreate.properties.source, ctx.root).enum;
  const list = selectField(own, "/source", "Or take a known one", sources.map((each) => [each, each.replace(":", ": ")]), { empty: "Choose" });
  const said = el("p", { role: "status", class: "help" });
  async function take() {
    const source = own.draft.get("/source");
    if (!source || ctx.drops.dataset.busy()) return;
    try {
      ctx.drops.dataset.follow(await post("/v1/datasets", { name: source.split(":")[1], source }, { headers: once() }));
    } catch (error) {
      setText(said, error.message);
    }
  }
  return el("div", { class: "known" }, list, button("Get it", take), said);
}

const EVALUATED = ["kind", "name", "dataset", "teachers", "model", "accept", "limits", "seed", "priority", "labels"];
const RECIPE = ["epochs", "batch_size", "optimizer", "schedule"];

/** What of a draft is a job of its kind: a change of mind about the kind loses nothing. */
export function ofKind(value) {
  const { model, ...distilled } = value;
  if (distilled.kind === "warm") delete distilled.kind; // the job that it asked for
  return value.kind === "evaluate" ? Object.fromEntries(EVALUATED.filter((key) => key in value).map((key) => [key, value[key]])) : distilled;
}

export function sections(ctx) {
  const { properties } = ctx.root.components.schemas.JobSpec;
  const { TrainingConfig, EvaluationPlan, JobLimits, AcceptanceCriteria } = ctx.root.components.schemas;
  const one = (name) => field(ctx, properties[name], `/${name}`, fieldTitle(name));
  // A field that is its section needs no second title for the eye.
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

  const measures = ctx.draft.get("/kind") === "evaluate";
  const kind = selectField(ctx, "/kind", "Kind", [["evaluate", "Measure a model, train nothing"]], { empty: "Teach a student (default)", onChange: () => ctx.rebuild("/kind") });
  const top = [
    part("Name and kind", grid(field(ctx, { ...properties.name, description: "Empty: told from student and method." }, "/name", "Name"), kind)),
    part("Data set", alone(datasetSelect(ctx)), bring(ctx.assets.datasets.length, "Bring a data set", ctx.drops.dataset.node, published(ctx))),
    part("Teachers", teachers(ctx), bring(ctx.assets.models.length, "Bring a teacher", ctx.drops.teacher.node)),
  ];
  const last = [fold("Accept", ["accept"], grid(form(ctx, AcceptanceCriteria, "/accept"))),
    fold("Limits, seed, priority, labels", ["limits", "seed", "priority", "labels"], grid(form(ctx, JobLimits, "/limits"), ["seed", "priority", "labels"].map(one)))];
  if (measures) {
    const model = part("Model", grid(selectField(ctx, "/model", "Model to measure", modelOptions(ctx), { empty: "Choose a model" })));
    return { nodes: [...top.slice(0, 2), model, top[2], ...last], update: (_, body) => tell(body), teachersChanged() {} };
  }
  const method = methods(ctx);
  const nodes = [...top,
    part("Student", student(ctx)),
    part("Method", method.nodes),
    fold("Scheme", ["scheme"], alone(one("scheme"))),
    part("Training", grid(one("preset")), grid(form(ctx, TrainingConfig, "/training", { only: RECIPE })),
      el("details", { open: ctx.open.has("recipe"), on: { toggle: (event) => ctx.open[event.target.open ? "add" : "delete"]("recipe") } }, el("summary", {}, "Augmentation, precision, early stopping and more"),
        grid(form(ctx, TrainingConfig, "/training", { except: RECIPE })))),
    fold("Evaluation", ["evaluation"], grid(form(ctx, EvaluationPlan, "/evaluation"))),
    fold("Exports", ["exports"], alone(one("exports"))), ...last];

  function tell(body) {
    for (const { keys, set } of folds) {
      const names = keys.filter((key) => key in body).flatMap((key) => (typeof body[key] === "object" && !Array.isArray(body[key]) ? Object.values(body[key]) : [body[key]]));
      setText(set, names.length ? names.flat().map((value) => (typeof value === "object" ? "…" : value)).join(", ") : "as by default");
    }
  }
  return { nodes, update: (fits, body) => { if (fits) method.update(fits); tell(body); }, teachersChanged: method.teachersChanged };
}

function bring(count, name, ...children) {
  return el("details", { open: !count || children[0].childElementCount > 2 }, el("summary", {}, name), children);
}
