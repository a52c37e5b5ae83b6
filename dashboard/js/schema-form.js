// A form from a JSON Schema. `ctx`: {draft, issues, root: the document that references point into, id: a prefix of ids}.

import { smallButton } from "./components.js";
import { el, setChildren } from "./dom.js";
import { readable } from "./format.js";
import { fieldHelp, fieldShape, fieldTitle, resolveRef, richText, valueText } from "./json-schema.js";

/** The fields of an object: those named in `only`, without those in `except`. */
export function form(ctx, schema, pointer, { only, except = [] } = {}) {
  const { properties } = resolveRef(schema, ctx.root);
  const names = (only ?? Object.keys(properties)).filter((name) => properties[name] && !except.includes(name));
  return names.map((name) => field(ctx, properties[name], `${pointer}/${name}`, fieldTitle(name))).filter(Boolean);
}

export function field(ctx, schema, pointer, label) {
  const plain = fieldShape(schema, ctx.root);
  const create = { const: () => null, object: group, variant, several, choices, boolean: plain.nullable ? choice : flag, choice, map }[plain.kind] ?? line;
  return create(ctx, plain, pointer, label);
}

const idOf = (ctx, pointer) => `${ctx.id}${pointer.replace(/[^\w]/g, "-")}`;

export function labeledField(ctx, pointer, label, control, note = []) {
  const id = idOf(ctx, pointer);
  const issue = el("div", { class: "issue", id: `${id}-issue`, hidden: true });
  control.id = id;
  control.setAttribute("aria-describedby", `${note.length ? `${id}-help ` : ""}${id}-issue`);
  ctx.issues.register(pointer, { control, issue, label });
  return el("div", { class: "field" }, el("label", { for: id }, label), control,
    issue, note.length ? el("p", { class: "help", id: `${id}-help` }, note) : null);
}

export function fieldGroup(ctx, pointer, label, children, note = []) {
  const id = idOf(ctx, pointer);
  const issue = el("div", { class: "issue", id: `${id}-issue`, hidden: true });
  const control = el("fieldset", { id, tabindex: "-1", "aria-describedby": `${id}-issue` }, el("legend", {}, label), issue,
    note.length ? el("p", { class: "help" }, note) : null, children);
  ctx.issues.register(pointer, { control, issue, label });
  return control;
}

// Text that is no number is sent unchanged, and the API reports the issue.
const numeric = (text) => (text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text);

function parse({ kind, item, word }, text) {
  if (text.trim() === "") return undefined;
  if (kind === "integer" || kind === "number") return numeric(text);
  if (kind !== "list") return text;
  if (text.trim() === word) return word;
  const parts = text.split(",").map((part) => part.trim()).filter(Boolean);
  return item.kind === "string" ? parts : parts.map(numeric);
}

function line(ctx, plain, pointer, label) {
  const numbers = ["integer", "number"].includes(plain.kind);
  const input = el("input", {
    class: "input", autocomplete: "off", spellcheck: "false", inputmode: numbers ? "decimal" : null, placeholder: valueText(plain.default) || null,
    on: { input: () => ctx.draft.set(pointer, parse(plain, input.value)) },
  });
  input.value = valueText(ctx.draft.get(pointer));
  return labeledField(ctx, pointer, label, input, fieldHelp(plain));
}

/** A drop-down list. `options`: [[value, text]]; the first entry, `empty`, leaves the field out. */
export function selectField(ctx, pointer, label, options, { empty = "Default", note = [], onChange } = {}) {
  const list = el("select", { class: "input", on: { change } }, el("option", { value: "" }, empty),
    options.map(([value, text]) => el("option", { value: JSON.stringify(value) }, text)));
  const value = ctx.draft.get(pointer);
  if (value !== undefined && value !== null && value !== "") {
    if (!options.some(([option]) => option === value)) list.append(el("option", { value: JSON.stringify(value) }, String(value)));
    list.value = JSON.stringify(value);
  }
  function change() {
    const chosen = list.value === "" ? undefined : JSON.parse(list.value);
    ctx.draft.set(pointer, chosen);
    onChange?.(chosen);
  }
  return labeledField(ctx, pointer, label, list, note);
}

function choice(ctx, plain, pointer, label) {
  const yesNo = plain.kind === "boolean" ? [[true, "Yes"], [false, "No"]] : plain.enum.map((value) => [value, readable(value)]);
  const options = yesNo.filter(([value]) => value !== plain.default);
  const empty = plain.default === undefined || plain.default === null ? "Default" : `${readable(plain.default)} (default)`;
  return selectField(ctx, pointer, label, options, { empty, note: fieldHelp({ ...plain, kind: "choice" }, "default") });
}

function flag(ctx, plain, pointer, label) {
  const box = el("input", { type: "checkbox", on: { change: () => ctx.draft.set(pointer, box.checked === plain.default ? undefined : box.checked) } });
  box.checked = ctx.draft.get(pointer) ?? plain.default;
  const node = labeledField(ctx, pointer, label, box, fieldHelp({ ...plain, default: plain.default ? "on" : "off" }));
  node.classList.add("tick");
  return node;
}

function choices(ctx, plain, pointer, label) {
  const current = () => ctx.draft.get(pointer) ?? plain.default ?? [];
  const boxes = plain.item.enum.map((value) => {
    const box = el("input", { type: "checkbox", on: { change } });
    box.checked = current().includes(value);
    return { value, box, node: el("label", { class: "tick" }, box, readable(value)) };
  });
  function change() {
    const now = boxes.filter(({ box }) => box.checked).map(({ value }) => value);
    ctx.draft.set(pointer, now.join() === (plain.default ?? []).join() ? undefined : now);
  }
  return fieldGroup(ctx, pointer, label, el("div", { class: "ticks" }, boxes.map(({ node }) => node)), fieldHelp({ ...plain, kind: "" }));
}

function group(ctx, plain, pointer, label) {
  const inner = el("div", { class: "grid" });
  const draw = () => setChildren(inner, plain.nullable && ctx.draft.get(pointer) === undefined ? [] : form(ctx, plain, pointer));
  draw();
  if (!plain.nullable) return fieldGroup(ctx, pointer, label, inner, plain.description ? richText(plain.description) : []);
  const box = el("input", { type: "checkbox", on: { change: () => { ctx.draft.set(pointer, box.checked ? {} : undefined); draw(); } } });
  box.checked = ctx.draft.get(pointer) !== undefined;
  return fieldGroup(ctx, pointer, label, [el("label", { class: "tick" }, box, "On"), inner], richText(plain.description ?? "", "off"));
}

function variant(ctx, plain, pointer, label) {
  const defaultType = plain.default?.type;
  const inner = el("div", { class: "grid" });
  const about = el("p", { class: "help wide" });
  const names = Object.keys(plain.variants).filter((name) => name !== defaultType);
  const list = selectField(ctx, `${pointer}/type`, label, names.map((name) => [name, readable(name)]), { empty: defaultType ? `${readable(defaultType)} (default)` : "Choose", onChange: (type) => draw(type, true) });
  function draw(type, byUser) {
    if (byUser) ctx.draft.set(pointer, type ? { type } : defaultType ? undefined : {});
    const schema = plain.variants[ctx.draft.get(pointer)?.type ?? defaultType];
    setChildren(about, schema?.description ? richText(schema.description.split("\n\n")[0].replace(/\s+/g, " ")) : []);
    setChildren(inner, schema ? form(ctx, schema, pointer, { except: ["type"] }) : []);
  }
  draw();
  return el("div", { class: "variant" }, list, about, inner);
}

function several(ctx, plain, pointer, label) {
  const rows = el("div", { class: "rows" });
  const item = { ...plain.item, default: plain.default };
  const terms = () => [ctx.draft.get(pointer) ?? []].flat();
  const store = (list) => { ctx.draft.set(pointer, list.length > 1 ? list : list[0]); draw(); node.focus(); };
  function draw() {
    const list = terms();
    const many = list.length > 1;
    setChildren(rows, (many ? list : [null]).map((_, index) => el("div", { class: many ? "row" : "row alone" },
      variant(ctx, many ? { ...item, default: undefined } : item, many ? `${pointer}/${index}` : pointer, many ? `${label} ${index + 1}` : label),
      many ? smallButton("Remove", () => store(terms().filter((_, other) => other !== index))) : null)));
  }
  const add = () => store([...(terms().length ? terms() : [plain.default]), { type: Object.keys(plain.variants).find((name) => !terms().some(({ type }) => type === name) && name !== plain.default.type) }]);
  draw();
  const node = fieldGroup(ctx, pointer, label, [rows, smallButton("Add another", add)]);
  return node;
}

function map(ctx, plain, pointer, label) {
  const box = el("textarea", { class: "input", rows: "3", spellcheck: "false", placeholder: "team=vision", on: { input } });
  box.value = Object.entries(ctx.draft.get(pointer) ?? {}).map(([key, value]) => `${key}=${value}`).join("\n");
  function input() {
    const pairs = box.value.split("\n").filter((text) => text.trim()).map((text) => [text.split("=")[0].trim(), text.split("=").slice(1).join("=").trim()]);
    ctx.draft.set(pointer, pairs.length ? Object.fromEntries(pairs) : undefined);
  }
  return labeledField(ctx, pointer, label, box, ["One per line, as name=value."]);
}
