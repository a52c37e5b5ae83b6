// The catalog: data sets and models of the project, and what comes with Stillhouse.

import { get, isIgnorable, post } from "../api.js";
import { button, copyableCode, emptyState, errorNotice, factList, meter, notice, scrollTable, searchField, sentence, smallButton, thumbnails } from "../components.js";
import { el, fromTemplate, isTyping, setChildren } from "../dom.js";
import { ago, bytes, dateTime, integer, si } from "../format.js";
import { shortName } from "../lookups.js";
import { currentAddress, href, replaceQuery } from "../router.js";
import { tabbedPage } from "../tabs.js";
import { assetTab, deleteButton, renameForm, stateBadge } from "./catalog/assets.js";
import { architecturesTab, methodsTab, schemesTab } from "./catalog/builtin.js";

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
