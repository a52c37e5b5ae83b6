// The catalog: data sets and models of the project, and what comes with Stillhouse.

import { allPages, firstPage, get, isIgnorable, post } from "../fetch.js";
import { attempt, badge, button, copyableCode, emptyState, errorNotice, factList, meter, notice, scrollTable, searchField, sentence, skeleton, smallButton, thumbnails } from "../components.js";
import { el, fromTemplate, isTyping, setChildren, setText } from "../dom.js";
import { ago, bytes, dateTime, integer, si } from "../format.js";
import { shortName } from "../lookups.js";
import { currentAddress, href, replaceQuery } from "../router.js";
import { boundsText, fieldShape, richText } from "../json-schema.js";
import { tabbedPage } from "../tabs.js";
import { assetTab, deleteButton, expandableTable, renameForm, stateBadge } from "./catalog-page/asset-tab.js";

export function mount(main, { query }) {
  const kinds = {
    datasets: ["Data sets", datasetsTab], models: ["Models", modelsTab], architectures: ["Architectures", architecturesTab],
    methods: ["Methods", methodsTab], schemes: ["Schemes", schemesTab],
  };
  const search = searchField(() => {
    replaceQuery({ q: search.text() });
    page.update(currentAddress().query);
  });
  const box = search.input;
  const page = tabbedPage(main, "Catalog", kinds, query, search.node, (next, label) => {
    const words = `Search ${label.toLowerCase()}`;
    if (box.placeholder !== words) search.cancel(); // the search belongs to the previous tab
    search.show(next.get("q") ?? "");
    box.placeholder = words;
    box.setAttribute("aria-label", words);
  });

  function keydown(event) {
    if (event.key !== "/" || isTyping(event)) return;
    event.preventDefault();
    box.focus();
  }

  document.addEventListener("keydown", keydown);
  return {
    update: page.update,
    leave() {
      page.leave();
      search.cancel();
      document.removeEventListener("keydown", keydown);
    },
  };
}

const SPLITS = ["train", "val", "test"];
const MAX_CLASS_ROWS = 100;
const DIGITS = { name: "digits", source: "builtin:digits" };
const splitsOf = ({ splits }) => SPLITS.filter((name) => splits?.[name]).map((name) => ({ name, ...splits[name] }));

const datasetsTab = (signal) => assetTab({
  path: "/v1/datasets",
  caption: "Data sets, the newest first",
  columns: ["Data set", "State", "Classes", "Images", "Image", "Size", "From", "Added"],
  searchText: ({ name, id, source, classes }) => [name, id, source, ...(classes ?? [])].join(" "),
  cells: (dataset) => [
    stateBadge(dataset),
    dataset.num_classes ? integer(dataset.num_classes) : "–",
    dataset.splits ? integer(splitsOf(dataset).reduce((sum, { count }) => sum + count, 0)) : "–",
    dataset.image_size ? `${dataset.image_size} × ${dataset.image_size}, ${{ 1: "gray", 3: "color" }[dataset.in_channels] ?? `${dataset.in_channels} channels`}` : "–",
    bytes(dataset.size_bytes),
    dataset.source.startsWith("upload:") ? "upload" : dataset.source.startsWith("builtin:") ? "built-in" : dataset.source,
    el("span", { class: "muted num", title: dateTime(dataset.created_at) }, ago(dataset.created_at)),
  ],
  body: datasetDetails,
  empty: noDatasets,
}, signal);

function datasetDetails(dataset, on) {
  const remove = deleteButton(dataset, "data set", "its images are deleted permanently.", on.remove);
  return el("div", { class: "opened" },
    dataset.error ? notice("This data set could not be read", sentence(dataset.error.message), dataset.error) : null,
    el("div", { class: "actions start" },
      dataset.state === "ready" ? el("a", { class: "button primary", href: href("/new", { dataset: dataset.id }) }, "Use in a new job") : null,
      remove.button),
    remove.message,
    factList([
      ["Splits", splitsOf(dataset).map(({ name, count }) => `${name} ${integer(count)}`).join(" · ")], ["Split seed", dataset.splits && dataset.split_seed], ["From", el("code", {}, dataset.source)],
      ["Mean", list(dataset.normalization?.mean)], ["Deviation", list(dataset.normalization?.std)],
      ["Digest", dataset.digest && copyableCode(dataset.digest, "the digest")], ["Id", copyableCode(dataset.id, "the data set's id", 40)],
    ]),
    dataset.classes ? classTable(dataset, on.signal) : null);
}

const list = (values) => values?.map((value) => value.toFixed(3)).join(", ");

function classTable(dataset, signal) {
  const splits = splitsOf(dataset);
  const max = Math.max(...splits.flatMap(({ per_class: counts }) => Object.values(counts)));
  const cells = new Map(dataset.classes.map((name) => [name, el("span")]));
  const [table, message] = [el("div"), el("p", { class: "muted small" })];
  const sample = splits.at(-1).name;
  const draw = (names) => setChildren(table, scrollTable(`Classes of ${dataset.name}`, ["Class", `Images of ${sample}`, ...splits.map(({ name }) => name)],
    names.map((name) => [name, cells.get(name), ...splits.map(({ per_class: counts }) => [el("span", { class: "num" }, integer(counts[name] ?? 0)), meter(counts[name], max)])]), "plain classes"),
  names.length < dataset.classes.length ? smallButton(`Show all ${integer(dataset.classes.length)} classes`, () => draw(dataset.classes)) : null);
  draw(dataset.classes.slice(0, MAX_CLASS_ROWS));
  showImages(dataset.id, sample, cells, message, signal);
  return el("section", { class: "opened" }, el("h2", {}, "Classes"), table, message);
}

// The first images of every class. The table is useful without them, so a failure is only a message.
async function showImages(id, split, cells, message, signal) {
  try {
    const { data } = await get(`/v1/datasets/${id}/images`, { split }, signal);
    for (const [name, cell] of cells) setChildren(cell, thumbnails(data.filter((item) => item.class === name), `Images of class ${name}`));
  } catch (error) {
    if (!isIgnorable(error)) setChildren(message, "The images cannot be shown: ", sentence(error.message));
  }
}

function noDatasets(on) {
  const message = el("div");
  const add = button("Add the built-in digits", () => post("/v1/datasets", DIGITS).then(on.put, (error) => setChildren(message, errorNotice(error))), { class: "primary" });
  return emptyState("No data sets yet",
    el("p", {}, "A job trains on a data set. Upload one with a ", el("a", { href: href("/new") }, "new job"), ", or start with the 1,797 handwritten digits that come with Stillhouse."),
    el("p", {}, add), message);
}

const MAX_CLASS_NAMES = 20;
const jobOf = ({ source }) => (source.startsWith("job:") ? source.slice(4) : null);

const modelsTab = (signal) => assetTab({
  path: "/v1/models",
  caption: "Models, the newest first",
  columns: ["Model", "State", "Architecture", "Classes", "Parameters", "Size", "From", "Added"],
  searchText: ({ name, id, architecture, source, license }) => [name, id, architecture, source, license].join(" "),
  cells: (model) => [
    stateBadge(model),
    el("span", { title: model.architecture }, shortName(model.architecture)),
    integer(model.num_classes),
    si(model.num_params),
    bytes(model.size_bytes),
    jobOf(model) ? "job" : model.source.startsWith("upload:") ? "upload" : "pretrained",
    el("span", { class: "muted num", title: dateTime(model.created_at) }, ago(model.created_at)),
  ],
  body: modelDetails,
  empty: () => fromTemplate("models-none"),
}, signal);

function modelDetails(model, on) {
  const job = jobOf(model);
  const ready = model.state === "ready";
  const remove = deleteButton(model, "model", "finished jobs keep their results; new jobs cannot use it.", on.remove);
  const rename = renameForm(model, on.put);
  return el("div", { class: "opened" },
    model.error ? notice("This model cannot be used", sentence(model.error.message), model.error) : null,
    model.warnings?.length ? notice("Please check", "", { tone: "wait", items: model.warnings.map((detail) => ({ detail: sentence(detail) })) }) : null,
    el("div", { class: "actions start" },
      ready ? el("a", { class: "button primary", href: href("/new", { teacher: model.id }) }, "Use as teacher") : null,
      job ? el("a", { class: "button", href: href(`/students/${job}`) }, "Student page") : null,
      ready ? el("a", { class: "button", href: model.links.weights, download: `${model.id}.safetensors` }, "Download weights") : null,
      rename.button, remove.button),
    rename.nodes, remove.message, modelFacts(model, job));
}

function modelFacts(model, job) {
  const names = model.class_names;
  return factList([
    ["Architecture", el("code", {}, model.architecture)],
    ["From", job ? el("a", { href: href(`/jobs/${job}`) }, job) : el("code", {}, model.source)],
    ["License", model.license ?? "unknown"],
    ["Parameters", model.num_params && integer(model.num_params)],
    ["Input", model.input_size && `${model.input_size} × ${model.input_size}${model.in_channels ? `, channels: ${model.in_channels}` : ""}`],
    ["Mean", list(model.normalization?.mean)], ["Deviation", list(model.normalization?.std)],
    ["Classes", names ? names.slice(0, MAX_CLASS_NAMES).join(", ") + (names.length > MAX_CLASS_NAMES ? ", …" : "") : `${integer(model.num_classes)}, without names`],
    ["Labels", Object.entries(model.labels ?? {}).map(([name, value]) => `${name}: ${value}`).join(", ")],
    ["SHA-256", model.sha256 && copyableCode(model.sha256, "the SHA-256")], ["Id", copyableCode(model.id, "the model's id", 40)],
  ]);
}

const collator = new Intl.Collator("en", { numeric: true });
const byName = (a, b) => collator.compare(a.name, b.name);
const by = (field, sign) => (a, b) => sign * (a[field] - b[field]) || byName(a, b);
const ORDERS = {
  name: ["Name", byName], small: ["Fewest parameters", by("num_params", 1)], large: ["Most parameters", by("num_params", -1)],
  light: ["Fewest MACs", by("macs", 1)], heavy: ["Most MACs", by("macs", -1)],
};
let cachedList = null; // the list does not change while the API runs

function architecturesTab(signal) {
  let items = cachedList ?? [];
  let query = new URLSearchParams();
  const count = el("span", { class: "muted small" });
  const message = el("div");
  const placeholder = el("div");
  const links = ["", "cifar", "torchvision", "timm"].map((name) => [name, el("a", {}, name || "All")]);
  const order = el("select", { class: "input", on: { change } }, Object.entries(ORDERS).map(([value, [word]]) => el("option", { value }, word)));
  const list = expandableTable({
    caption: "Architectures", columns: ["Architecture", "Parameters", "MACs", "Input", "License"], keyOf: ({ name }) => name, body,
    cells: ({ num_params: params, macs, input_size: size, license }) => [si(params), si(macs), `${size} × ${size}`, license],
    onOpen(open) { replaceQuery({ open }); query = currentAddress().query; },
  });

  function change() {
    replaceQuery({ sort: order.value === "name" ? "" : order.value });
    show(currentAddress().query);
  }

  function draw(fromTop) {
    const words = (query.get("q") ?? "").toLowerCase().split(/\s+/);
    const family = query.get("family") ?? "";
    const [sort, [, compare]] = Object.entries(ORDERS).find(([name]) => name === query.get("sort")) ?? ["name", ORDERS.name];
    const matches = items.filter(({ name, family: kind }) => name.startsWith(family && `${family}/`) && words.every((word) => `${name} ${kind}`.toLowerCase().includes(word)));
    order.value = sort;
    for (const [name, link] of links) {
      link.setAttribute("href", href("/catalog", { ...Object.fromEntries(query), family: name }));
      link.setAttribute("aria-current", String(name === family));
    }
    list.show(matches.sort(compare), query.get("open") ?? "", fromTop);
    setChildren(placeholder, matches.length ? null : cachedList ? el("p", { class: "panel empty" }, "No architecture matches.") : skeleton());
    setText(count, cachedList ? `${integer(matches.length)} of ${integer(items.length)}` : `Loading… ${integer(items.length)} so far`);
  }

  const load = () => attempt(async () => {
    setChildren(message);
    cachedList = await allPages("/v1/architectures", {}, signal, (loaded) => { items = loaded; draw(); });
    draw();
  }, (error) => {
    setChildren(message, errorNotice(error, load));
    setChildren(placeholder);
  });

  function show(next) {
    query = next;
    draw(true);
    if (!items.length) load();
  }

  return {
    node: el("div", {}, el("div", { class: "tools" }, el("nav", { class: "segments", "aria-label": "Family" }, links.map(([, link]) => link)),
      el("label", { class: "order" }, "Order", order), count), message, placeholder, list.node),
    show,
    tick: () => (message.firstChild ? load() : undefined),
  };
}

const body = (item) => el("div", { class: "opened" },
  el("div", { class: "actions start" }, el("a", { class: "button primary", href: href("/new", { student: item.name }) }, "Use as student")),
  factList([
    ["Family", item.family], ["Parameters", integer(item.num_params)], ["MACs", integer(item.macs)],
    ["Counted with", `${item.in_channels} channels, ${integer(item.num_classes)} classes`],
    ["Smallest input", `${item.min_input_size} × ${item.min_input_size}`], ["Pooled features", item.pooled_features],
    ["Pretrained weights", item.pretrained.length ? item.pretrained.map((name) => el("code", { class: "block" }, name)) : "none"],
    ["Paper", item.paper && copyableCode(item.paper, "the paper's address", 200)],
  ]),
  el("section", { class: "opened" }, el("h2", {}, "Feature layers that a method can use"),
    scrollTable(`Feature layers of ${item.name}`, ["Layer", "Channels", "Height × width"], item.taps.map(({ path, shape: [channels, ...size] }) => [el("code", {}, path), channels, size.join(" × ")]), "plain narrow")));

const GROUPS = { logits: "From logits", features: "From feature maps", relations: "From relations between samples", labels: "From labels" };
const NEEDS = { logits: "logits", maps: "feature maps", pooled: "pooled features", target: "true labels", index: "the index of the image" };
const KINDS = { integer: "whole number", number: "number", string: "text", boolean: "yes or no" };
const TEACHER_ICON = ["M8 2.5 14.5 6 8 9.5 1.5 6z", "M4.2 7.6v3.2c2.4 2 5.2 2 7.6 0V7.6"];

const methodsTab = (signal) => cards("/v1/methods", method, signal);
const schemesTab = (signal) => cards("/v1/schemes", scheme, signal);

function cards(path, summary, signal) {
  let entries = null;
  let query = new URLSearchParams();
  const node = el("div", {}, skeleton());
  const noMatch = el("p", { class: "panel empty" }, "Nothing matches.");

  function draw() {
    const q = (query.get("q") ?? "").toLowerCase();
    for (const { card, text, more, item } of entries) {
      card.hidden = !text.includes(q);
      if (query.get("open") !== item.name || more.open) continue;
      more.open = true;
      card.scrollIntoView();
    }
    noMatch.hidden = entries.some(({ card }) => !card.hidden);
    for (const part of node.querySelectorAll("section")) part.hidden = !part.querySelector("article:not([hidden])");
  }

  const load = () => attempt(async () => {
    entries = (await firstPage(path, signal)).map((item) => entry(item, summary(item)));
    const sections = Object.entries({ ...GROUPS, undefined: "How training is arranged" }).map(([group, name]) => [name, entries.filter(({ item }) => String(item.group) === group)]);
    setChildren(node, sections.map(([name, list]) => list.length ? el("section", { class: "recipes" }, el("h2", {}, name), list.map(({ card }) => card)) : null), noMatch);
    draw();
  }, (error) => setChildren(node, errorNotice(error, load)));

  return {
    node,
    show(next) {
      query = next;
      if (entries) draw();
      else load();
    },
    tick: () => (entries ? undefined : load()),
  };
}

function entry(item, summary) {
  const more = el("details", { on: { toggle: () => more.open && replaceQuery({ open: item.name }) } }, el("summary", {}, "Fields, paper and more"), about(item), fields(item));
  const card = el("article", { class: "panel recipe" }, summary, more);
  return { item, more, card, text: [item.name, item.doc, item.when_to_use, item.formula].join(" ").toLowerCase() };
}

const heading = (name, words) => el("div", {}, el("h3", {}, el("code", {}, name)), el("p", {}, richText(words)));

function method(item) {
  const { one_teacher: single, min_batch: batch, min_maps: maps } = item;
  const limits = [single && "one teacher", batch > 1 && `batches of ${batch} or more`, maps > 1 && `${maps} maps or more`];
  return [
    heading(item.name, item.when_to_use),
    el("p", { class: "formula" }, el("span", { class: "hidden" }, "Formula: "), item.formula),
    factList([
      ["Needs", item.needs.map((need) => NEEDS[need] ?? need).join(", ")],
      ["Weight", integer(item.params.properties.weight?.default ?? 1)],
      ["Weight of the labels", integer(item.default_label_weight)],
      ["Limits", limits.filter(Boolean).join(", ")],
    ]),
  ];
}

const scheme = (item) => [
  heading(item.name, item.doc.split("\n\n")[0]),
  el("div", {}, badge(item.teacher === "required" ? "Needs a teacher" : "With or without a teacher", "quiet", TEACHER_ICON)),
];

const about = ({ doc, paper }) => [
  doc.split("\n\n").map((part) => el("p", {}, richText(part))),
  paper ? el("p", { class: "source" }, "Paper", copyableCode(paper, "the paper's address", 200)) : null,
];

function fields({ name, params }) {
  const rows = Object.entries(params.properties).filter(([field]) => field !== "type").map(([field, schema]) => {
    const value = { true: "yes", false: "no", null: "none" }[schema.default] ?? schema.default;
    return [el("code", {}, field), values(fieldShape(schema, params)), typeof value === "number" ? integer(value) : value, schema.description ? richText(schema.description, "none") : "–"];
  });
  return rows.length ? scrollTable(`Fields of ${name}`, ["Field", "Values", "Default", "Meaning"], rows, "plain cards fields") : el("p", { class: "muted" }, "There are no fields to set.");
}

function values(schema) {
  const kind = schema.enum?.join(" or ") ?? (schema.type === "array" ? `${schema.minItems} to ${schema.maxItems} names` : KINDS[schema.type]);
  return [kind, boundsText(schema), schema.nullable && "or none"].filter(Boolean).join(", ");
}
