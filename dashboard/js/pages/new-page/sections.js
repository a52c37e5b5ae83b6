// The sections of the form: data set, teachers, student, method and the others.

import { allPages, post } from "../../fetch.js";
import { button } from "../../components.js";
import { el, setChildren, setText } from "../../dom.js";
import { ago, capital, integer, pluralize, readable } from "../../format.js";
import { shortName } from "../../lookups.js";
import { field, fieldGroup, form, labeledField, selectField } from "../../schema-form.js";
import { Draft, fieldShape, fieldTitle, richText } from "../../json-schema.js";
import { architectureField } from "./architecture-picker.js";
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

/** The two drop zones. `onReady(kind, asset)`: an upload is ready. */
export function uploadZones(root, onReady) {
  const schemas = root.components.schemas;
  return {
    dataset: uploadZone({
      path: "/v1/datasets", schema: schemas.DatasetCreate, id: "ds", name: "a data set", only: [], rare: ["image_size", "split_seed"], progress: "reading the images…",
      hint: "A zip of images in class folders (train/, val/, test/, or one tree), an .npz of images and labels, or WebDataset tar shards.",
    }, root, (asset) => onReady("dataset", asset)),
    teacher: uploadZone({
      path: "/v1/models", schema: schemas.ModelCreate, id: "mdl", name: "a teacher", only: ["num_classes", "input_size", "normalization"], rare: ["class_names", "license"], progress: "checking the checkpoint…",
      hint: "A checkpoint: safetensors, or a PyTorch state dict. It shows its architecture and classes: these fields may stay empty.",
      hasArchitecture: true,
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

const MAX_TEACHERS = 8;

const modelOptions = (ctx) => ctx.assets.models.map((model) => [model.id, `${model.name} · ${shortName(model.architecture)} · ${model.num_classes} classes · ${ago(model.created_at)}`]);

function teacherSection(ctx) {
  const node = el("div", { class: "rows" });
  const teachers = () => ctx.draft.get("/teachers") ?? [];
  const schema = ctx.root.components.schemas.Teacher;

  function store(list, focus) {
    ctx.draft.set("/teachers", list.length ? list : undefined);
    draw();
    ctx.issues.find(focus).control.focus();
    ctx.teachersChanged();
  }

  function row(_, index) {
    const path = `/teachers/${index}`;
    const name = teachers().length > 1 ? `Teacher ${index + 1}` : "Teacher";
    const lines = [selectField(ctx, `${path}/model`, name, modelOptions(ctx), { empty: "Choose a model" }),
      teachers().length > 1 ? form(ctx, schema, path, { only: ["weight"] }) : null,
      button(["Remove", el("span", { class: "hidden" }, ` ${name.toLowerCase()}`)], () => store(teachers().filter((__, other) => other !== index), "/teachers"))];
    return el("div", { class: "row" }, el("div", { class: "teacher" }, lines),
      el("details", {}, el("summary", {}, "Classes, channels, feature maps"), el("div", { class: "grid" }, form(ctx, schema, path, { only: ["class_map", "channels", "taps"] }))));
  }

  function draw() {
    setChildren(node, teachers().map(row), teachers().length < MAX_TEACHERS ? adder() : null);
  }

  function adder() {
    const another = teachers().length > 0;
    const list = el("select", { class: "input", on: { change: () => list.value && store([...teachers(), { model: list.value }], `/teachers/${teachers().length}/model`) } },
      el("option", { value: "" }, another ? "None" : ctx.assets.models.length ? "No teacher" : "No teacher yet: add one below"), modelOptions(ctx).map(([value, text]) => el("option", { value }, text)));
    return labeledField(ctx, "/teachers", another ? "Another teacher" : "Teacher", list, another ? [] : ["Without a teacher the student learns from labels alone, or by a scheme that trains its own teachers."]);
  }

  draw();
  return node;
}

const DERIVED = ["convolution", "groups", "width"];

function studentSection(ctx) {
  const schema = ctx.root.components.schemas.Student;
  const inner = el("div", { class: "grid" });
  const modes = [["architecture", "An architecture"], ["derive", "Derived from the teacher"]].map(([value, text]) => {
    const box = el("input", { type: "radio", name: "student", value, on: { change: () => setMode(value) } });
    return { value, box, node: el("label", { class: "tick" }, box, text) };
  });
  let name = ctx.draft.get("/student/architecture");

  function setMode(mode) {
    name = ctx.draft.get("/student/architecture") ?? name;
    for (const key of DERIVED) ctx.draft.set(`/student/${key}`, undefined);
    ctx.draft.set("/student/architecture", mode === "derive" ? undefined : name);
    ctx.draft.set("/student/derive", mode === "derive" ? "teacher" : undefined);
    draw();
  }

  function draw() {
    const mode = ctx.draft.get("/student/derive") ? "derive" : "architecture";
    for (const { value, box } of modes) box.checked = value === mode;
    setChildren(inner, mode === "derive" ? form(ctx, schema, "/student", { only: DERIVED }) : architectureField(ctx, "/student/architecture"), init);
  }

  const init = selectField(ctx, "/student/init", "Initial weights", [["pretrained", "pretrained weights (torchvision, timm)"], ...modelOptions(ctx)], { empty: "random weights (default)" });
  draw();
  const kind = fieldGroup(ctx, "/student", "Student", el("div", { class: "ticks" }, modes.map((mode) => mode.node)));
  kind.classList.add("alone");
  return [
    kind, inner,
    el("details", { open: Boolean(ctx.draft.get("/from")) }, el("summary", {}, "Channels, feature maps, continue from a job"), el("div", { class: "grid" },
      form(ctx, schema, "/student", { only: ["channels", "taps", "num_classes"] }), field(ctx, ctx.root.components.schemas.JobSpec.properties.from, "/from", "Continue from an earlier job"))),
  ];
}

const GROUPS = ["labels", "logits", "features", "relations"];

// `update(methods)`: which methods are compatible with the networks: [{name, compatible, reason, help}].
function methodSection(ctx) {
  const list = el("ul", { class: "methods" });
  const others = el("details", { class: "incompatible" });
  const hint = el("p", { class: "help" });
  const sorted = [...ctx.methods].sort((a, b) => GROUPS.indexOf(a.group) - GROUPS.indexOf(b.group));
  const rows = new Map(sorted.map((method) => [method.name, row(ctx, method, toggle)]));
  let compatibility = null;

  const terms = () => [ctx.draft.get("/method") ?? []].flat().map((term) => (typeof term === "string" ? { type: term } : term));
  // A single term is stored alone, several in a list, as the API expects them.
  const store = (list) => ctx.draft.set("/method", list.length > 1 ? list : list[0]);

  function toggle(name, on) {
    store(on ? [...terms(), { type: name }] : terms().filter(({ type }) => type !== name));
    open();
    draw();
  }

  // Rebuild the fields of the methods: with a second term their pointers change.
  function open() {
    const list = terms();
    for (const [name, methodRow] of rows) {
      const index = list.findIndex(({ type }) => type === name);
      methodRow.open(index < 0 ? null : list.length > 1 ? `/method/${index}` : "/method");
    }
    const fallback = list.length ? "" : ctx.draft.get("/teachers")?.length ? "kd, because there is a teacher" : "supervised, because there is no teacher";
    setChildren(hint, fallback ? `Without a choice the method is ${fallback}. The losses of several methods are summed.` : "The losses of several methods are summed, and every loss has a curve.");
  }

  function draw() {
    const incompatible = new Map((compatibility ?? []).filter((method) => !method.compatible).map((method) => [method.name, method]));
    const focused = document.activeElement;
    const groups = new Map();
    for (const [name, methodRow] of rows) {
      const entry = incompatible.get(name);
      const reason = entry && !methodRow.isSelected() ? `${entry.reason}: ${entry.help}.` : "";
      groups.set(reason, [...(groups.get(reason) ?? []), methodRow.node]);
    }
    setChildrenIfChanged(list, groups.get("") ?? []);
    groups.delete("");
    const count = [...groups.values()].flat().length;
    others.hidden = !count;
    const sections = [...groups].map(([reason, nodes]) => el("div", {}, el("p", { class: "help" }, capital(reason)), el("ul", { class: "methods" }, nodes)));
    setChildren(others, el("summary", {}, `${pluralize(count, "method is", "methods are")} not compatible`), sections);
    if (focused?.isConnected && focused !== document.activeElement) focused.focus();
  }

  store(terms());
  open();
  draw();
  return {
    nodes: [hint, list, others, el("div", { class: "grid" }, field(ctx, ctx.root.components.schemas.JobSpec.properties.label_weight, "/label_weight", fieldTitle("label_weight")))],
    teachersChanged: open,
    update(next) {
      if (JSON.stringify(next) === JSON.stringify(compatibility)) return;
      compatibility = next;
      draw();
    },
  };
}

// Unchanged nodes are not inserted again, so that they do not lose the focus.
function setChildrenIfChanged(list, nodes) {
  if (list.children.length !== nodes.length || nodes.some((node, index) => list.children[index] !== node)) setChildren(list, nodes);
}

function row(ctx, method, toggle) {
  const id = `${ctx.id}-method-${method.name}`;
  const box = el("input", { type: "checkbox", id, "aria-describedby": `${id}-when ${id}-issue`, on: { change: () => toggle(method.name, box.checked) } });
  const issue = el("div", { class: "issue", id: `${id}-issue`, hidden: true });
  const inner = el("div");
  const node = el("li", {}, box, el("div", {}, el("label", { for: id }, readable(method.name)), el("span", { class: "muted small" }, ` ${method.group}`),
    el("p", { class: "help", id: `${id}-when` }, richText(method.when_to_use)), issue, inner));
  return {
    node,
    isSelected: () => box.checked,
    open(pointer) {
      box.checked = pointer !== null;
      node.classList.toggle("wide", pointer !== null);
      if (pointer === null) return setChildren(inner);
      ctx.issues.register(pointer, { control: box, issue, label: method.name });
      return setChildren(inner, el("p", { class: "formula" }, el("code", {}, method.formula)),
        el("div", { class: "grid" }, form({ ...ctx, root: method.params }, method.params, pointer, { except: ["type"] })));
    },
  };
}
