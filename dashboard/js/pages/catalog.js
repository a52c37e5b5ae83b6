// What there is to work with; here data sets and models.

import { get, isIgnorable, post } from "../api.js";
import { emptyState as nothing, factList, scrollTable, meter, notice, errorNotice, sentence, smallButton, thumbnails, copyableCode } from "../components.js";
import { fromTemplate, el, setChildren, isTyping } from "../dom.js";
import { ago, bytes, dateTime, si, integer } from "../format.js";
import { shortName } from "../lookups.js";
import { currentAddress, href, replaceQuery } from "../router.js";
import { tabbedPage } from "../tabs.js";
import { remover, renamer, stateOf, stock } from "./catalog/assets.js";
import { architecturesTab, methodsTab, schemesTab } from "./catalog/builtin.js";

const PAUSE_MS = 200;

export function mount(main, { query }) {
  const kinds = {
    datasets: ["Data sets", datasetsTab], models: ["Models", modelsTab], architectures: ["Architectures", architecturesTab],
    methods: ["Methods", methodsTab], schemes: ["Schemes", schemesTab],
  };
  let timer = 0;
  const box = el("input", { class: "input", type: "search", maxlength: "200", "aria-keyshortcuts": "/", on: { input: later, keydown: (event) => event.key === "Escape" && box.blur() } });
  const page = tabbedPage(main, "Catalog", kinds, query, el("div", { class: "search" }, box, el("kbd", { "aria-hidden": "true" }, "/")), (next, label) => {
    clearTimeout(timer); // a search that was being written belongs to the tab before
    const q = next.get("q") ?? "";
    if (box.value.trim() !== q) box.value = q;
    box.placeholder = `Search ${label.toLowerCase()}`;
    box.setAttribute("aria-label", box.placeholder);
  });

  function later() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      replaceQuery({ q: box.value.trim() });
      page.update(currentAddress().query);
    }, PAUSE_MS);
  }

  function keys(event) {
    if (event.key !== "/" || isTyping(event)) return;
    event.preventDefault();
    box.focus();
  }

  document.addEventListener("keydown", keys);
  return {
    update: page.update,
    leave() {
      page.leave();
      clearTimeout(timer);
      document.removeEventListener("keydown", keys);
    },
  };
}

const SPLITS = ["train", "val", "test"];
const CLASSES_AT_FIRST = 100;
const DIGITS = { name: "digits", source: "builtin:digits" };
const splitsOf = ({ splits }) => SPLITS.filter((name) => splits?.[name]).map((name) => ({ name, ...splits[name] }));

const datasetsTab = (signal) => stock({
  path: "/v1/datasets",
  caption: "Data sets, the newest first",
  columns: ["Data set", "State", "Classes", "Images", "Image", "Size", "From", "Added"],
  text: ({ name, id, source, classes }) => [name, id, source, ...(classes ?? [])].join(" "),
  cells: (one) => [
    stateOf(one),
    one.num_classes ? integer(one.num_classes) : "–",
    one.splits ? integer(splitsOf(one).reduce((sum, { count }) => sum + count, 0)) : "–",
    one.image_size ? `${one.image_size} × ${one.image_size}, ${{ 1: "gray", 3: "color" }[one.in_channels] ?? `${one.in_channels} channels`}` : "–",
    bytes(one.size_bytes),
    one.source.startsWith("upload:") ? "upload" : one.source.startsWith("builtin:") ? "built-in" : one.source,
    el("span", { class: "muted num", title: dateTime(one.created_at) }, ago(one.created_at)),
  ],
  body: inDataset,
  blank,
}, signal);

function inDataset(one, on) {
  const remove = remover(one, "data set", "its images are deleted for good.", on.removed);
  return el("div", { class: "opened" },
    one.error ? notice("This data set could not be read", sentence(one.error.message), one.error) : null,
    el("div", { class: "actions start" },
      one.state === "ready" ? el("a", { class: "button primary", href: href("/new", { dataset: one.id }) }, "Use in a new job") : null,
      remove.button),
    remove.said,
    factList([
      ["Splits", splitsOf(one).map(({ name, count }) => `${name} ${integer(count)}`).join(" · ")], ["Split seed", one.splits && one.split_seed], ["From", el("code", {}, one.source)],
      ["Mean", list(one.normalization?.mean)], ["Deviation", list(one.normalization?.std)],
      ["Digest", one.digest && copyableCode(one.digest, "the digest")], ["Id", copyableCode(one.id, "the data set's id", 40)],
    ]),
    one.classes ? classes(one, on.signal) : null);
}

const list = (values) => values?.map((value) => value.toFixed(3)).join(", ");

function classes(one, signal) {
  const splits = splitsOf(one);
  const most = Math.max(...splits.flatMap(({ per_class: each }) => Object.values(each)));
  const places = new Map(one.classes.map((name) => [name, el("span")]));
  const [shown, said] = [el("div"), el("p", { class: "muted small" })];
  const sample = splits.at(-1).name;
  const draw = (names) => setChildren(shown, scrollTable(`Classes of ${one.name}`, ["Class", `Images of ${sample}`, ...splits.map(({ name }) => name)],
    names.map((name) => [name, places.get(name), ...splits.map(({ per_class: each }) => [el("span", { class: "num" }, integer(each[name] ?? 0)), meter(each[name], most)])]), "plain classes"),
  names.length < one.classes.length ? smallButton(`Show all ${integer(one.classes.length)} classes`, () => draw(one.classes)) : null);
  draw(one.classes.slice(0, CLASSES_AT_FIRST));
  pictures(one.id, sample, places, said, signal);
  return el("section", { class: "opened" }, el("h2", {}, "Classes"), shown, said);
}

/** The first two images of each class; a data set is whole without them. */
async function pictures(id, split, places, said, signal) {
  try {
    const { data } = await get(`/v1/datasets/${id}/images`, { split }, signal);
    for (const [name, spot] of places) setChildren(spot, thumbnails(data.filter((item) => item.class === name), `Images of class ${name}`));
  } catch (error) {
    if (!isIgnorable(error)) setChildren(said, "The images cannot be shown: ", sentence(error.message));
  }
}

function blank(on) {
  const said = el("div");
  const button = el("button", { class: "button primary", type: "button", on: { click: () => post("/v1/datasets", DIGITS).then(on.changed, (error) => setChildren(said, errorNotice(error))) } },
    "Add the built-in digits");
  return nothing("No data sets yet",
    el("p", {}, "A job learns from a data set. Upload one with a ", el("a", { href: href("/new") }, "new job"), ", or begin with 1,797 small handwritten digits that come with Stillhouse."),
    el("p", {}, button), said);
}

const CLASSES_SHOWN = 20;
const jobOf = ({ source }) => (source.startsWith("job:") ? source.slice(4) : null);

const modelsTab = (signal) => stock({
  path: "/v1/models",
  caption: "Models, the newest first",
  columns: ["Model", "State", "Architecture", "Classes", "Parameters", "Size", "From", "Added"],
  text: ({ name, id, architecture, source, license }) => [name, id, architecture, source, license].join(" "),
  cells: (one) => [
    stateOf(one),
    el("span", { title: one.architecture }, shortName(one.architecture)),
    integer(one.num_classes),
    si(one.num_params),
    bytes(one.size_bytes),
    jobOf(one) ? "job" : one.source.startsWith("upload:") ? "upload" : "published",
    el("span", { class: "muted num", title: dateTime(one.created_at) }, ago(one.created_at)),
  ],
  body: inModel,
  blank: () => fromTemplate("models-none"),
}, signal);

function inModel(one, on) {
  const job = jobOf(one);
  const ready = one.state === "ready";
  const remove = remover(one, "model", "what it taught stays, but it can teach no more.", on.removed);
  const rename = renamer(one, on.changed);
  return el("div", { class: "opened" },
    one.error ? notice("This model cannot be used", sentence(one.error.message), one.error) : null,
    one.warnings?.length ? notice("Worth a look", "", { tone: "wait", items: one.warnings.map((detail) => ({ detail: sentence(detail) })) }) : null,
    el("div", { class: "actions start" },
      ready ? el("a", { class: "button primary", href: href("/new", { teacher: one.id }) }, "Teach with it") : null,
      job ? el("a", { class: "button", href: href(`/students/${job}`) }, "Its student page") : null,
      ready ? el("a", { class: "button", href: one.links.weights, download: `${one.id}.safetensors` }, "Download weights") : null,
      rename.button, remove.button),
    rename.nodes, remove.said, details(one, job));
}

function details(one, job) {
  const names = one.class_names;
  return factList([
    ["Architecture", el("code", {}, one.architecture)],
    ["From", job ? el("a", { href: href(`/jobs/${job}`) }, job) : el("code", {}, one.source)],
    ["License", one.license ?? "not given"],
    ["Parameters", one.num_params && integer(one.num_params)],
    ["Input", `${one.input_size} × ${one.input_size}${one.in_channels ? `, channels: ${one.in_channels}` : ""}`],
    ["Mean", list(one.normalization?.mean)], ["Deviation", list(one.normalization?.std)],
    ["Classes", names ? names.slice(0, CLASSES_SHOWN).join(", ") + (names.length > CLASSES_SHOWN ? ", …" : "") : `${integer(one.num_classes)}, without names`],
    ["Labels", Object.entries(one.labels ?? {}).map(([name, value]) => `${name}: ${value}`).join(", ")],
    ["SHA-256", one.sha256 && copyableCode(one.sha256, "the SHA-256")], ["Id", copyableCode(one.id, "the model's id", 40)],
  ]);
}
