// What a JSON Schema says of a field, made plain; a value under construction, and its faults. Places are JSON pointers.

import { smallButton } from "./components.js";
import { el, setChildren } from "./dom.js";
import { capital, readable } from "./format.js";

const at = (root, ref) => ref.slice(2).split("/").reduce((node, step) => node?.[step], root);

/** The schema behind references; what stands beside a reference wins. */
export function resolveRef(schema, root) {
  if (!schema.$ref) return schema;
  const { $ref, ...beside } = schema;
  return { ...resolveRef(at(root, $ref), root), ...beside };
}

function branches(schema, root) {
  const one = resolveRef(schema, root);
  const list = one.discriminator ? null : (one.anyOf ?? one.oneOf);
  return list ? list.flatMap((each) => branches(each, root)) : [one];
}

/** The schema of its widest branch, with `kind`, `nullable`, `item`, `variants`, `word` (a constant that may stand
 * instead of a list) and `short` (a variant's name may stand for it). */
export function fieldShape(schema, root) {
  const all = branches(schema, root);
  const real = all.filter(({ type }) => type !== "null");
  const main = real.find(({ type }) => type === "array") ?? real.find(({ discriminator }) => discriminator) ?? real[0];
  const { anyOf, oneOf, ...beside } = all.length > 1 ? resolveRef(schema, root) : {};
  const whole = { ...main, ...beside, nullable: real.length < all.length };
  if (main.type === "array") whole.item = fieldShape(main.items ?? main.prefixItems[0], root);
  if (real.length > 1) {
    whole.word = real.find((each) => "const" in each)?.const;
    whole.short = real.some((each) => each.enum);
  }
  whole.variants = (whole.item ?? whole).discriminator ? ((whole.item ?? whole).variants ?? variantsOf(whole, root)) : null;
  return { ...whole, kind: kindOf(whole) };
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

/** A value without what goes without saying; undefined where nothing is left. `posted`: it comes from a stored
 * job, in which every default is written out, so that what equals its default goes too. */
export function withoutDefaults(schema, value, root, posted = false) {
  if (value === undefined || value === null) return undefined;
  const plain = fieldShape(schema, root);
  const made = strip(plain, value, root, posted);
  if (isObject(made) && !Object.keys(made).length && !speaks(plain, root)) return undefined;
  const dropped = posted || plain.variants;
  return dropped && plain.default !== undefined && isEqual(made, strip(plain, plain.default, root, true)) ? undefined : made;
}

function strip(plain, value, root, posted) {
  if (plain.variants) {
    const terms = [value].flat().map((term) => (isObject(term) ? variant(plain, term, root, posted) : term));
    if (Array.isArray(value)) return terms;
    return plain.short && Object.keys(terms[0]).length === 1 ? terms[0].type : terms[0];
  }
  if (plain.kind === "rows") return value.map((row) => fields(plain.item, row, root, posted));
  return plain.kind === "object" && isObject(value) ? fields(plain, value, root, posted) : value;
}

function variant(plain, value, root, posted) {
  const type = value.type ?? plain.default?.type;
  const schema = plain.variants[type];
  if (!schema) return value;
  // The default of a number may depend on a form that was chosen: then all is told.
  const odd = Object.entries(schema.properties).some(([name, each]) => each.enum && (value[name] ?? each.default) !== each.default);
  return { type, ...fields(schema, { ...value, type: undefined }, root, posted && !odd) };
}

function fields({ properties }, value, root, posted) {
  const kept = Object.entries(properties).map(([name, schema]) => [name, withoutDefaults(schema, value[name], root, posted)]);
  return Object.fromEntries(kept.filter(([, each]) => each !== undefined));
}

// An empty object says something where leaving it out means something else: early stopping, as by default.
function speaks({ nullable, required, properties }, root) {
  return Boolean(nullable && !required?.length && properties && Object.values(properties).some((each) => !fieldShape(each, root).nullable));
}

const sorted = (value) => (isObject(value) ? Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])])) : value);
export const isEqual = (a, b) => JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));

const NAMES = {
  lr: "Learning rate", num_ops: "Operations", num_classes: "Classes", num_assistants: "Assistants to propose",
  clip_grad_norm: "Clip gradient norm", wall_s: "Wall time, seconds", device_s: "Device time, seconds", min_delta: "Least gain, points",
  max_top1_drop: "Top-1 drop at most, points", min_top1: "Top-1 at least, %", min_agreement: "Agreement at least, %",
  max_size_bytes: "Size at most, bytes", max_num_params: "Parameters at most", max_latency_ms: "Latency at most, ms", class_map: "Class map",
};
const HUGE = 1e15;
const HUGE_LIST = 1000;

export const fieldTitle = (name) => capital(NAMES[name] ?? readable(name));

/** Text with `code` in it. Nobody types a null: there it is the empty field, or the default of a list. */
export function richText(text, empty = "empty") {
  const whole = text.replaceAll("``", "`").replace(/\bnull\b/g, empty).replace(/\bNull\b/g, capital(empty));
  return whole.split("`").map((part, at) => (at % 2 ? el("code", {}, part) : part));
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

export class FieldIssues {
  constructor(onFix = null) {
    this.places = new Map();
    this.onFix = onFix;
  }

  at(pointer, place) {
    this.places.set(pointer, place);
  }

  find(pointer) {
    for (let path = pointer; path; path = path.slice(0, path.lastIndexOf("/"))) {
      const place = this.places.get(path);
      if (place?.control.isConnected) return place;
    }
    return null;
  }

  show(errors) {
    for (const { control, fault } of this.places.values()) {
      fault.hidden = true;
      setChildren(fault);
      control.removeAttribute("aria-invalid");
    }
    return errors.filter((error) => {
      const place = this.find(error.pointer);
      if (!place || error.code === "missing") return !place;
      place.fault.hidden = false;
      place.fault.append(el("p", {}, error.detail, (error.fix ?? []).map((patch) => fixButton(patch, this.onFix))));
      if (place.control.matches("input, select, textarea")) place.control.setAttribute("aria-invalid", "true");
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

export function fixButton(patch, onFix) {
  const what = patch.op === "remove" ? "leave it out" : String(patch.value?.type ?? patch.value);
  return onFix && smallButton(`Use this: ${what}`, () => onFix(patch));
}

const around = (pointer) => pointer.slice(0, pointer.lastIndexOf("/"));

/** The patches with the faults that they mend; `rest` belong to none. */
export function assignFixes({ errors = [], fix = [] }) {
  const list = errors.map((error) => ({ ...error, fix: [] }));
  const rest = fix.filter((patch) => {
    const near = (error) => patch.path === error.pointer || (around(patch.path) && around(patch.path) === around(error.pointer));
    const owner = list.find(({ pointer }) => pointer === patch.path) ?? list.find(near) ?? (list.length === 1 ? list[0] : null);
    owner?.fix.push(patch);
    return !owner;
  });
  return { list, rest };
}
