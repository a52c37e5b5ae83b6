// The pickers of teachers, student and methods.

import { button } from "../../components.js";
import { el, setChildren } from "../../dom.js";
import { ago, capital, readable } from "../../format.js";
import { shortName } from "../../lookups.js";
import { field, fieldGroup, form, labeledField, selectField } from "../../schema-form.js";
import { fieldTitle, richText } from "../../schema.js";
import { architectureField } from "./architecture-picker.js";

const MAX_TEACHERS = 8;

export const modelOptions = (ctx) => ctx.assets.models.map((model) => [model.id, `${model.name} · ${shortName(model.architecture)} · ${model.num_classes} classes · ${ago(model.created_at)}`]);

export function teacherSection(ctx) {
  const node = el("div", { class: "rows" });
  const selected = () => ctx.draft.get("/teachers") ?? [];
  const schema = ctx.root.components.schemas.Teacher;

  function store(list, focus) {
    ctx.draft.set("/teachers", list.length ? list : undefined);
    draw();
    ctx.issues.find(focus).control.focus();
    ctx.teachersChanged();
  }

  function row(_, index) {
    const path = `/teachers/${index}`;
    const name = selected().length > 1 ? `Teacher ${index + 1}` : "Teacher";
    const lines = [selectField(ctx, `${path}/model`, name, modelOptions(ctx), { empty: "Choose a model" }),
      selected().length > 1 ? form(ctx, schema, path, { only: ["weight"] }) : null,
      button(["Remove", el("span", { class: "hidden" }, ` ${name.toLowerCase()}`)], () => store(selected().filter((__, other) => other !== index), "/teachers"))];
    return el("div", { class: "row" }, el("div", { class: "teacher" }, lines),
      el("details", {}, el("summary", {}, "Classes, channels, feature maps"), el("div", { class: "grid" }, form(ctx, schema, path, { only: ["class_map", "channels", "taps"] }))));
  }

  function draw() {
    setChildren(node, selected().map(row), selected().length < MAX_TEACHERS ? adder() : null);
  }

  function adder() {
    const another = selected().length > 0;
    const list = el("select", { class: "input", on: { change: () => list.value && store([...selected(), { model: list.value }], `/teachers/${selected().length}/model`) } },
      el("option", { value: "" }, another ? "None" : ctx.assets.models.length ? "No teacher" : "No teacher yet: add one below"), modelOptions(ctx).map(([value, text]) => el("option", { value }, text)));
    return labeledField(ctx, "/teachers", another ? "Another teacher" : "Teacher", list, another ? [] : ["Without a teacher the student learns from labels alone, or by a scheme that trains its own teachers."]);
  }

  draw();
  return node;
}

const DERIVED = ["convolution", "groups", "width"];

export function studentSection(ctx) {
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

/** `update(methods)`: which methods are compatible with the networks: [{name, compatible, reason, help}]. */
export function methodSection(ctx) {
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
      const reason = entry && !methodRow.selected() ? `${entry.reason}: ${entry.help}.` : "";
      groups.set(reason, [...(groups.get(reason) ?? []), methodRow.node]);
    }
    setChildrenIfChanged(list, groups.get("") ?? []);
    groups.delete("");
    const count = [...groups.values()].flat().length;
    others.hidden = !count;
    const sections = [...groups].map(([reason, nodes]) => el("div", {}, el("p", { class: "help" }, capital(reason)), el("ul", { class: "methods" }, nodes)));
    setChildren(others, el("summary", {}, `${count} ${count === 1 ? "method is" : "methods are"} not compatible`), sections);
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
    selected: () => box.checked,
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
