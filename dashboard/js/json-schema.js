// JSON Schema for forms: shapes and help texts of fields, a draft of a value, validation issues. Pointers are JSON pointers.

import { smallButton } from "./components.js";
import { el, setChildren } from "./dom.js";
import { capital, readable } from "./format.js";

const at = (root, ref) => ref.slice(2).split("/").reduce((node, step) => node?.[step], root);

/** The schema that a reference leads to. Keywords beside `$ref` take precedence. */
export function resolveRef(schema, root) {
  if (!schema.$ref) return schema;
  const { $ref, ...beside } = schema;
  return { ...resolveRef(at(root, $ref), root), ...beside };
}

function branches(schema, root) {
  const target = resolveRef(schema, root);
  const list = target.discriminator ? null : (target.anyOf ?? target.oneOf);
  return list ? list.flatMap((branch) => branches(branch, root)) : [target];
}

/** The schema of a field's main branch with `kind`, `nullable`, `item`, `variants`, `word` (a constant that may replace a list)
 * and `short` (a variant's name may replace its object). */
export function fieldShape(schema, root) {
  const all = branches(schema, root);
  const real = all.filter(({ type }) => type !== "null");
  const main = real.find(({ type }) => type === "array") ?? real.find(({ discriminator }) => discriminator) ?? real[0];
  const { anyOf, oneOf, ...beside } = all.length > 1 ? resolveRef(schema, root) : {};
  const result = { ...main, ...beside, nullable: real.length < all.length };
  if (main.type === "array") result.item = fieldShape(main.items ?? main.prefixItems[0], root);
  if (real.length > 1) {
    result.word = real.find((branch) => "const" in branch)?.const;
    result.short = real.some((branch) => branch.enum);
  }
  result.variants = (result.item ?? result).discriminator ? ((result.item ?? result).variants ?? variantsOf(result, root)) : null;
  return { ...result, kind: kindOf(result) };
}

const variantsOf = (schema, root) => Object.fromEntries(Object.entries(schema.discriminator.mapping).map(([name, $ref]) => [name, resolveRef({ $ref }, root)]));

function kindOf({ type, item, properties, variants, ...schema }) {
  if ("const" in schema) return "const";
  if (type === "array") return { choice: "choices", variant: "several", object: "rows" }[item.kind] ?? "list";
  if (variants) return "variant";
  if (schema.enum) return "choice";
  if (type === "object") return properties ? "object" : "map";
  return type;
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** A value without empty parts, or undefined. `stored`: a stored job has explicit defaults, which are removed too. */
export function withoutDefaults(schema, value, root, stored = false) {
  if (value === undefined || value === null) return undefined;
  const plain = fieldShape(schema, root);
  const stripped = strip(plain, value, root, stored);
  if (isObject(stripped) && !Object.keys(stripped).length && !emptyIsMeaningful(plain, root)) return undefined;
  const dropped = stored || plain.variants;
  return dropped && plain.default !== undefined && isEqual(stripped, strip(plain, plain.default, root, true)) ? undefined : stripped;
}

function strip(plain, value, root, stored) {
  if (plain.variants) {
    const terms = [value].flat().map((term) => (isObject(term) ? variant(plain, term, root, stored) : term));
    if (Array.isArray(value)) return terms;
    return plain.short && Object.keys(terms[0]).length === 1 ? terms[0].type : terms[0];
  }
  if (plain.kind === "rows") return value.map((row) => fields(plain.item, row, root, stored));
  return plain.kind === "object" && isObject(value) ? fields(plain, value, root, stored) : value;
}

function variant(plain, value, root, stored) {
  const type = value.type ?? plain.default?.type;
  const schema = plain.variants[type];
  if (!schema) return value;
  // Defaults of numbers may depend on a choice: with another choice than the default all fields stay.
  const odd = Object.entries(schema.properties).some(([name, field]) => field.enum && (value[name] ?? field.default) !== field.default);
  return { type, ...fields(schema, { ...value, type: undefined }, root, stored && !odd) };
}

function fields({ properties }, value, root, stored) {
  const entries = Object.entries(properties).map(([name, schema]) => [name, withoutDefaults(schema, value[name], root, stored)]);
  return Object.fromEntries(entries.filter(([, field]) => field !== undefined));
}

// An empty object differs from a missing one if its fields have defaults: `early_stopping: {}` turns early stopping on.
function emptyIsMeaningful({ nullable, required, properties }, root) {
  return Boolean(nullable && !required?.length && properties && Object.values(properties).some((property) => !fieldShape(property, root).nullable));
}

const sortKeys = (value) => (isObject(value) ? Object.fromEntries(Object.keys(value).sort().map((key) => [key, sortKeys(value[key])])) : value);
export const isEqual = (a, b) => JSON.stringify(sortKeys(a)) === JSON.stringify(sortKeys(b));

const NAMES = {
  lr: "Learning rate", num_ops: "Operations", num_classes: "Classes", num_assistants: "Assistants to propose",
  clip_grad_norm: "Clip gradient norm", wall_s: "Wall time, seconds", device_s: "Device time, seconds", min_delta: "Least gain, points",
  max_top1_drop: "Top-1 drop at most, points", min_top1: "Top-1 at least, %", min_agreement: "Agreement at least, %",
  max_size_bytes: "Size at most, bytes", max_num_params: "Parameters at most", max_latency_ms: "Latency at most, ms", class_map: "Class map",
};
const HUGE = 1e15;
const HUGE_LIST = 1000;

export const fieldTitle = (name) => capital(NAMES[name] ?? readable(name));

/** Text with `code` elements. “null” becomes `empty`, as in a form a user leaves the field empty. */
export function richText(text, empty = "empty") {
  const plain = text.replaceAll("``", "`").replace(/\bnull\b/g, empty).replace(/\bNull\b/g, capital(empty));
  return plain.split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));
}

const number = (value) => value.toLocaleString("en-GB", { maximumSignificantDigits: 6 });

export function boundsText({ minimum, exclusiveMinimum, maximum, exclusiveMaximum, maxLength }) {
  if (maxLength) return `up to ${maxLength} characters`;
  const high = maximum ?? exclusiveMaximum;
  const top = high !== undefined && high < HUGE;
  if (minimum !== undefined && top && maximum !== undefined) return `${number(minimum)} to ${number(maximum)}`;
  const low = minimum !== undefined ? `at least ${number(minimum)}` : exclusiveMinimum !== undefined ? `above ${number(exclusiveMinimum)}` : "";
  return [low, top ? `${maximum !== undefined ? "at most" : "below"} ${number(high)}` : ""].filter(Boolean).join(", ");
}

export const valueText = (value) => (Array.isArray(value) ? value.join(", ") : value === undefined || value === null ? "" : String(value));

export function fieldHelp(schema, empty) {
  const { description, kind, item } = schema;
  const list = kind === "list" ? `${schema.maxItems < HUGE_LIST ? `up to ${schema.maxItems}, ` : ""}separated by commas` : "";
  const fallback = valueText(schema.default);
  const facts = [list, boundsText(item ?? schema), fallback && kind !== "choice" ? `default ${fallback}` : ""].filter(Boolean).join("; ");
  return [description ? richText(description.replace(/\s+/g, " "), empty) : null, description && facts ? " " : null,
    facts ? el("span", { class: "num-note" }, capital(facts), ".") : null].filter(Boolean);
}

const steps = (pointer) => pointer.split("/").slice(1).map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));

/** A value under construction. `onChange(pointer)` runs after every `set`. */
export class Draft {
  constructor(value = {}) {
    this.value = structuredClone(value);
    this.onChange = () => {};
  }

  get(pointer) {
    return steps(pointer).reduce((node, step) => node?.[step], this.value);
  }

  set(pointer, value) {
    const path = steps(pointer);
    const last = path.pop();
    const parent = path.reduce((node, step) => (node[step] ??= {}), this.value);
    if (value === undefined) delete parent[last];
    else parent[last] = value;
    this.onChange(pointer);
  }
}

/** The fields of a form by pointer, and the validation issues that they show. */
export class FieldIssues {
  constructor(onFix = null) {
    this.fields = new Map();
    this.onFix = onFix;
  }

  /** `field`: {control, issue, label}; `issue` is the element for messages. */
  register(pointer, field) {
    this.fields.set(pointer, field);
  }

  /** The field at a pointer or around it, or null. */
  find(pointer) {
    for (let path = pointer; path; path = path.slice(0, path.lastIndexOf("/"))) {
      const field = this.fields.get(path);
      if (field?.control.isConnected) return field;
    }
    return null;
  }

  /** Show issues at their fields; returns those without a field. */
  show(issues) {
    for (const { control, issue } of this.fields.values()) {
      issue.hidden = true;
      setChildren(issue);
      control.removeAttribute("aria-invalid");
    }
    return issues.filter(({ pointer, code, detail, fix = [] }) => {
      const field = this.find(pointer);
      if (!field || code === "missing") return !field;
      field.issue.hidden = false;
      field.issue.append(el("p", {}, detail, fix.map((patch) => fixButton(patch, this.onFix))));
      if (field.control.matches("input, select, textarea")) field.control.setAttribute("aria-invalid", "true");
      return false;
    });
  }

  reveal(pointer) {
    const control = this.find(pointer)?.control;
    for (let node = control; node; node = node.parentElement) if (node.matches("details")) node.open = true;
    control?.focus();
    control?.scrollIntoView({ block: "center" });
  }
}

/** A button for a JSON Patch operation of the API. */
export function fixButton(patch, onFix) {
  const change = patch.op === "remove" ? "leave it empty" : String(patch.value?.type ?? patch.value);
  return onFix && smallButton(`Use this: ${change}`, () => onFix(patch));
}

const parentOf = (pointer) => pointer.slice(0, pointer.lastIndexOf("/"));

/** `list`: the issues with the patches that fix them; `rest`: patches without an issue. */
export function assignFixes({ errors = [], fix = [] }) {
  const list = errors.map((issue) => ({ ...issue, fix: [] }));
  const rest = fix.filter((patch) => {
    const near = (issue) => patch.path === issue.pointer || (parentOf(patch.path) && parentOf(patch.path) === parentOf(issue.pointer));
    const owner = list.find(({ pointer }) => pointer === patch.path) ?? list.find(near) ?? (list.length === 1 ? list[0] : null);
    owner?.fix.push(patch);
    return !owner;
  });
  return { list, rest };
}
