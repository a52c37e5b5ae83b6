import { assignFixes, boundsText, Draft, FieldIssues, fieldShape, fieldTitle, isEqual, resolveRef, richText, withoutDefaults } from "/static/js/json-schema.js";
import { field, form } from "/static/js/schema-form.js";
import { equal, inPage, test } from "./testing.js";

const ROOT = {
  defs: {
    Optimizer: {
      type: "object",
      properties: { type: { const: "sgd", type: "string" }, lr: { type: "number", exclusiveMinimum: 0, default: 0.1, description: "Step size." }, nesterov: { type: "boolean", default: false } },
    },
    Stopping: { type: "object", properties: { patience: { type: "integer", minimum: 1, default: 5 } } },
    Job: {
      type: "object",
      properties: {
        name: { anyOf: [{ type: "string", maxLength: 20 }, { type: "null" }], default: null },
        precision: { enum: ["fp32", "bf16"], type: "string", default: "fp32" },
        optimizer: { $ref: "#/defs/Optimizer" },
        early_stopping: { anyOf: [{ $ref: "#/defs/Stopping" }, { type: "null" }], default: null },
        labels: { type: "object", additionalProperties: { type: "string" } },
        sizes: { type: "array", items: { type: "integer" }, maxItems: 3 },
        exports: { type: "array", items: { enum: ["onnx", "safetensors"], type: "string" }, default: ["safetensors"] },
        method: {
          discriminator: { propertyName: "type", mapping: { kd: "#/defs/KD", dist: "#/defs/Dist" } }, oneOf: [{ $ref: "#/defs/KD" }, { $ref: "#/defs/Dist" }],
        },
      },
    },
    KD: { type: "object", description: "Soft targets.", properties: { type: { const: "kd" }, temperature: { type: "number", minimum: 0.01, maximum: 1000, default: 4 } } },
    Dist: { type: "object", properties: { type: { const: "dist" } } },
  },
};
const JOB = ROOT.defs.Job;
const property = (name) => fieldShape(JOB.properties[name], ROOT);

/** The fields of a job in the page, with their draft. */
const inForm = (value, body) => inPage((page) => {
  const changes = [];
  const draft = new Draft(value);
  draft.onChange = (pointer) => changes.push(pointer);
  const issues = new FieldIssues(() => {});
  page.append(...form({ draft, issues, root: ROOT, id: "f" }, JOB, ""));
  return body({ page, draft, issues, changes });
});
const byLabel = (page, text) => [...page.querySelectorAll("label")].find((label) => label.textContent === text);
const type = (input, text) => { input.value = text; input.dispatchEvent(new Event("input")); };
const choose = (select, value) => { select.value = value; select.dispatchEvent(new Event("change")); };

test("references are followed, and keywords beside them win", () => {
  equal(resolveRef({ $ref: "#/defs/Stopping", title: "Title" }, ROOT).title, "Title");
  equal(resolveRef({ $ref: "#/defs/Stopping" }, ROOT), ROOT.defs.Stopping);
});

test("fields have kinds", () => {
  const kinds = Object.fromEntries(Object.keys(JOB.properties).map((name) => [name, property(name).kind]));
  equal(kinds, { name: "string", precision: "choice", optimizer: "object", early_stopping: "object", labels: "map", sizes: "list", exports: "choices", method: "variant" });
  equal([property("name").nullable, property("sizes").nullable, Object.keys(property("method").variants)], [true, false, ["kd", "dist"]]);
});

test("a stored job loses its defaults", () => {
  const stored = { name: null, precision: "fp32", optimizer: { type: "sgd", lr: 0.1, nesterov: true }, early_stopping: { patience: 5 }, exports: ["safetensors"] };
  equal(withoutDefaults(JOB, stored, ROOT, true), { optimizer: { type: "sgd", nesterov: true }, early_stopping: {} });
});

test("a draft loses only its empty parts", () => {
  equal(withoutDefaults(JOB, { precision: "fp32", optimizer: {}, early_stopping: {}, labels: undefined }, ROOT), { precision: "fp32", early_stopping: {} });
  equal(withoutDefaults(JOB, { optimizer: {} }, ROOT), undefined);
});

test("values are equal in any order of their keys", () => {
  equal([isEqual({ a: 1, b: { c: 2, d: 3 } }, { b: { d: 3, c: 2 }, a: 1 }), isEqual({ a: 1 }, { a: 2 })], [true, false]);
});

test("a draft creates the objects on the way to a value", () => {
  const draft = new Draft({ a: 1 });
  draft.set("/training/optimizer/lr", 0.1);
  draft.set("/labels/a~1b", "x");
  draft.set("/a", undefined);
  equal([draft.value, draft.get("/labels/a~1b"), draft.get("/none/at/all")], [{ training: { optimizer: { lr: 0.1 } }, labels: { "a/b": "x" } }, "x", undefined]);
});

test("texts describe names, bounds and code", () => {
  equal([fieldTitle("lr"), fieldTitle("batch_size")], ["Learning rate", "Batch size"]);
  equal([{ minimum: 0.01, maximum: 1000 }, { exclusiveMinimum: 0 }, { minimum: 1, exclusiveMaximum: 5 }, { maximum: 1e16 }, { maxLength: 20 }].map(boundsText), ["0.01 to 1,000", "above 0", "at least 1, below 5", "", "up to 20 characters"]);
  const parts = richText("Set `lr`, or null.", "empty");
  equal([parts[0], parts[1].outerHTML, parts[2]], ["Set ", "<code>lr</code>", ", or empty."]);
});

test("a number field writes numbers, and other text unchanged", () => inForm({}, ({ page, draft, changes }) => {
  const input = byLabel(page, "Learning rate").nextElementSibling;
  equal(input.placeholder, "0.1");
  type(input, "0.5");
  equal(draft.get("/optimizer/lr"), 0.5);
  type(input, "much");
  equal(draft.get("/optimizer/lr"), "much");
  type(input, " ");
  equal(draft.value, { optimizer: {} });
  equal(changes, ["/optimizer/lr", "/optimizer/lr", "/optimizer/lr"]);
}));

test("a list field writes a list", () => inForm({ sizes: [1, 2] }, ({ page, draft }) => {
  const input = byLabel(page, "Sizes").nextElementSibling;
  equal(input.value, "1, 2");
  type(input, "3, 4,");
  equal(draft.get("/sizes"), [3, 4]);
}));

test("a choice leaves out its default", () => inForm({ precision: "bf16" }, ({ page, draft }) => {
  const list = byLabel(page, "Precision").nextElementSibling;
  equal([list.value, list.options[0].text], ["\"bf16\"", "fp32 (default)"]);
  choose(list, "");
  equal(draft.value, {});
}));

test("check boxes leave out the default selection", () => inForm({}, ({ page, draft }) => {
  const onnx = byLabel(page, "onnx").querySelector("input");
  onnx.click();
  equal(draft.get("/exports"), ["onnx", "safetensors"]);
  onnx.click();
  equal(draft.value, {});
}));

test("a nullable object can be turned on and off", () => inForm({}, ({ page, draft }) => {
  const box = byLabel(page, "On").querySelector("input");
  box.click();
  equal([draft.value, Boolean(byLabel(page, "Patience"))], [{ early_stopping: {} }, true]);
  box.click();
  equal([draft.value, Boolean(byLabel(page, "Patience"))], [{}, false]);
}));

test("a variant shows the fields of its type", () => inForm({}, ({ page, draft }) => {
  const list = byLabel(page, "Method").nextElementSibling;
  choose(list, "\"kd\"");
  equal(draft.get("/method"), { type: "kd" });
  type(byLabel(page, "Temperature").nextElementSibling, "3");
  equal(draft.get("/method"), { type: "kd", temperature: 3 });
  choose(list, "\"dist\"");
  equal([draft.get("/method"), Boolean(byLabel(page, "Temperature"))], [{ type: "dist" }, false]);
}));

test("a map is one pair in a line", () => inForm({ labels: { team: "vision" } }, ({ page, draft }) => {
  const box = byLabel(page, "Labels").nextElementSibling;
  equal(box.value, "team=vision");
  type(box, "a = b=c\n\nd=");
  equal(draft.get("/labels"), { a: "b=c", d: "" });
}));

test("an issue appears at its field or at the nearest one around it", () => inForm({}, ({ page, issues }) => {
  const left = issues.show([
    { pointer: "/optimizer/lr", code: "greater_than", detail: "must be above 0", fix: [{ op: "remove", path: "/optimizer/lr" }] },
    { pointer: "/optimizer/momentum", code: "extra_forbidden", detail: "unknown field" },
    { pointer: "/nothing", code: "extra_forbidden", detail: "no such field" },
  ]);
  const input = byLabel(page, "Learning rate").nextElementSibling;
  equal([left.map(({ pointer }) => pointer), input.getAttribute("aria-invalid")], [["/nothing"], "true"]);
  const issue = document.getElementById(input.getAttribute("aria-describedby").split(" ").at(-1));
  equal([issue.hidden, issue.textContent], [false, "must be above 0Use this: leave it empty"]);
  equal(page.querySelector("fieldset .issue").textContent, "unknown field");
  issues.show([]);
  equal([issue.hidden, input.hasAttribute("aria-invalid")], [true, false]);
}));

test("fixes belong to the issue of their field or its neighbor", () => {
  const { list, rest } = assignFixes({
    errors: [{ pointer: "/a/b" }, { pointer: "/c" }],
    fix: [{ path: "/c" }, { path: "/a/x" }, { path: "/d/e" }],
  });
  equal([list.map(({ fix }) => fix.map(({ path }) => path)), rest.map(({ path }) => path)], [[["/a/x"], ["/c"]], ["/d/e"]]);
});

test("a single field can stand alone", () => inPage((page) => {
  const draft = new Draft({});
  page.append(field({ draft, issues: new FieldIssues(), root: ROOT, id: "x" }, JOB.properties.name, "/name", "Name"));
  type(page.querySelector("input"), "first");
  equal(draft.value, { name: "first" });
}));
