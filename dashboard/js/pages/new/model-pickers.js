// Who teaches, who learns, and by which methods.

import { button } from "../../components.js";
import { el, setChildren } from "../../dom.js";
import { ago, capital, readable } from "../../format.js";
import { shortName } from "../../lookups.js";
import { field, form, labeledField, fieldGroup, selectField } from "../../schema-form.js";
import { richText, fieldTitle } from "../../schema.js";
import { architecture } from "./architecture-picker.js";

const MOST = 8;

export const modelOptions = (ctx) => ctx.assets.models.map((each) => [each.id, `${each.name} · ${shortName(each.architecture)} · ${each.num_classes} classes · ${ago(each.created_at)}`]);

export function teachers(ctx) {
  const node = el("div", { class: "rows" });
  const chosen = () => ctx.draft.get("/teachers") ?? [];
  const schema = ctx.root.components.schemas.Teacher;

  function store(list, focus) {
    ctx.draft.set("/teachers", list.length ? list : undefined);
    draw();
    ctx.faults.find(focus).control.focus();
    ctx.teachersChanged();
  }

  function row(_, at) {
    const path = `/teachers/${at}`;
    const name = chosen().length > 1 ? `Teacher ${at + 1}` : "Teacher";
    const lines = [selectField(ctx, `${path}/model`, name, modelOptions(ctx), { empty: "Choose a model" }),
      chosen().length > 1 ? form(ctx, schema, path, { only: ["weight"] }) : null,
      button(["Remove", el("span", { class: "hidden" }, ` ${name.toLowerCase()}`)], () => store(chosen().filter((__, other) => other !== at), "/teachers"))];
    return el("div", { class: "row" }, el("div", { class: "teacher" }, lines),
      el("details", {}, el("summary", {}, "Classes, channels, feature maps"), el("div", { class: "grid" }, form(ctx, schema, path, { only: ["class_map", "channels", "taps"] }))));
  }

  function draw() {
    setChildren(node, chosen().map(row), chosen().length < MOST ? adder() : null);
  }

  function adder() {
    const some = chosen().length > 0;
    const list = el("select", { class: "input", on: { change: () => list.value && store([...chosen(), { model: list.value }], `/teachers/${chosen().length}/model`) } },
      el("option", { value: "" }, some ? "None" : ctx.assets.models.length ? "No teacher" : "No teacher yet: bring one below"), modelOptions(ctx).map(([value, text]) => el("option", { value }, text)));
    return labeledField(ctx, "/teachers", some ? "Another teacher" : "Teacher", list, some ? [] : ["Without one the student learns from labels alone, or by a scheme that makes its own teachers."]);
  }

  draw();
  return node;
}

const DERIVED = ["convolution", "groups", "width"];

export function student(ctx) {
  const schema = ctx.root.components.schemas.Student;
  const inner = el("div", { class: "grid" });
  const modes = [["architecture", "An architecture"], ["derive", "Derived from the teacher"]].map(([value, text]) => {
    const box = el("input", { type: "radio", name: "student", value, on: { change: () => turn(value) } });
    return { value, box, node: el("label", { class: "tick" }, box, text) };
  });
  let name = ctx.draft.get("/student/architecture");

  function turn(mode) {
    name = ctx.draft.get("/student/architecture") ?? name;
    for (const key of DERIVED) ctx.draft.set(`/student/${key}`, undefined);
    ctx.draft.set("/student/architecture", mode === "derive" ? undefined : name);
    ctx.draft.set("/student/derive", mode === "derive" ? "teacher" : undefined);
    draw();
  }

  function draw() {
    const mode = ctx.draft.get("/student/derive") ? "derive" : "architecture";
    for (const { value, box } of modes) box.checked = value === mode;
    setChildren(inner, mode === "derive" ? form(ctx, schema, "/student", { only: DERIVED }) : architecture(ctx, "/student/architecture"), init);
  }

  const init = selectField(ctx, "/student/init", "Starts from", [["pretrained", "published weights (torchvision, timm)"], ...modelOptions(ctx)], { empty: "random weights (default)" });
  draw();
  const kind = fieldGroup(ctx, "/student", "Student", el("div", { class: "ticks" }, modes.map((mode) => mode.node)));
  kind.classList.add("alone");
  return [
    kind, inner,
    el("details", { open: Boolean(ctx.draft.get("/from")) }, el("summary", {}, "Channels, feature maps, going on from a job"), el("div", { class: "grid" },
      form(ctx, schema, "/student", { only: ["channels", "taps", "num_classes"] }), field(ctx, ctx.root.components.schemas.JobSpec.properties.from, "/from", "Go on from an earlier job"))),
  ];
}

const GROUPS = ["labels", "logits", "features", "relations"];

/** `update(fits)` after an answer: [{name, fits, reason, help}] or null while nobody knows. */
export function methods(ctx) {
  const list = el("ul", { class: "methods" });
  const others = el("details", { class: "misfits" });
  const usual = el("p", { class: "help" });
  const sorted = [...ctx.methods].sort((a, b) => GROUPS.indexOf(a.group) - GROUPS.indexOf(b.group));
  const rows = new Map(sorted.map((method) => [method.name, row(ctx, method, toggle)]));
  let fits = null;

  const terms = () => [ctx.draft.get("/method") ?? []].flat().map((term) => (typeof term === "string" ? { type: term } : term));
  // As the body has it: one alone, several in a list.
  const store = (chosen) => ctx.draft.set("/method", chosen.length > 1 ? chosen : chosen[0]);

  function toggle(name, on) {
    store(on ? [...terms(), { type: name }] : terms().filter(({ type }) => type !== name));
    open();
    draw();
  }

  // Their fields anew: with a second term the pointers have changed.
  function open() {
    const chosen = terms();
    for (const [name, each] of rows) {
      const at = chosen.findIndex(({ type }) => type === name);
      each.open(at < 0 ? null : chosen.length > 1 ? `/method/${at}` : "/method");
    }
    const weight = chosen.length ? "" : ctx.draft.get("/teachers")?.length ? "kd, because there is a teacher" : "supervised, because there is no teacher";
    setChildren(usual, weight ? `Nothing is chosen, so it is ${weight}. Several are summed.` : "Several are summed; each is a curve of its own.");
  }

  function draw() {
    const bad = new Map((fits ?? []).filter((each) => !each.compatible).map((each) => [each.name, each]));
    const held = document.activeElement;
    const groups = new Map();
    for (const [name, each] of rows) {
      const misfit = bad.get(name);
      const why = misfit && !each.chosen() ? `${misfit.reason}: ${misfit.help}.` : "";
      groups.set(why, [...(groups.get(why) ?? []), each.node]);
    }
    place(list, groups.get("") ?? []);
    groups.delete("");
    const count = [...groups.values()].flat().length;
    others.hidden = !count;
    const heads = [...groups].map(([why, nodes]) => el("div", {}, el("p", { class: "help" }, capital(why)), el("ul", { class: "methods" }, nodes)));
    setChildren(others, el("summary", {}, `${count} ${count === 1 ? "does" : "do"} not fit`), heads);
    if (held?.isConnected && held !== document.activeElement) held.focus();
  }

  store(terms());
  open();
  draw();
  return {
    nodes: [usual, list, others, el("div", { class: "grid" }, field(ctx, ctx.root.components.schemas.JobSpec.properties.label_weight, "/label_weight", fieldTitle("label_weight")))],
    teachersChanged: open,
    update(now) {
      if (JSON.stringify(now) === JSON.stringify(fits)) return;
      fits = now;
      draw();
    },
  };
}

// Nodes that stay where they are keep the focus.
function place(list, nodes) {
  if (list.children.length !== nodes.length || nodes.some((node, at) => list.children[at] !== node)) setChildren(list, nodes);
}

function row(ctx, method, toggle) {
  const id = `${ctx.id}-method-${method.name}`;
  const box = el("input", { type: "checkbox", id, "aria-describedby": `${id}-when ${id}-fault`, on: { change: () => toggle(method.name, box.checked) } });
  const fault = el("div", { class: "fault", id: `${id}-fault`, hidden: true });
  const inner = el("div");
  const node = el("li", {}, box, el("div", {}, el("label", { for: id }, readable(method.name)), el("span", { class: "muted small" }, ` ${method.group}`),
    el("p", { class: "help", id: `${id}-when` }, richText(method.when_to_use)), fault, inner));
  return {
    node,
    chosen: () => box.checked,
    open(pointer) {
      box.checked = pointer !== null;
      node.classList.toggle("wide", pointer !== null);
      if (pointer === null) return setChildren(inner);
      ctx.faults.at(pointer, { control: box, fault, label: method.name });
      return setChildren(inner, el("p", { class: "formula" }, el("code", {}, method.formula)),
        el("div", { class: "grid" }, form({ ...ctx, root: method.params }, method.params, pointer, { except: ["type"] })));
    },
  };
}
