// The tabs of what comes with Stillhouse: architectures, methods, schemes.

import { allPages, firstPage } from "../../api.js";
import { attempt, badge, copyableCode, errorNotice, factList, scrollTable, skeleton } from "../../components.js";
import { el, setChildren, setText } from "../../dom.js";
import { integer, si } from "../../format.js";
import { currentAddress, href, replaceQuery } from "../../router.js";
import { boundsText, fieldShape, richText } from "../../schema.js";
import { expandableTable } from "./assets.js";

const collator = new Intl.Collator("en", { numeric: true });
const byName = (a, b) => collator.compare(a.name, b.name);
const by = (field, sign) => (a, b) => sign * (a[field] - b[field]) || byName(a, b);
const ORDERS = {
  name: ["Name", byName], small: ["Fewest parameters", by("num_params", 1)], large: ["Most parameters", by("num_params", -1)],
  light: ["Fewest MACs", by("macs", 1)], heavy: ["Most MACs", by("macs", -1)],
};
let cachedList = null; // the list does not change while the API runs

export function architecturesTab(signal) {
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

export const methodsTab = (signal) => cards("/v1/methods", method, signal);
export const schemesTab = (signal) => cards("/v1/schemes", scheme, signal);

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
