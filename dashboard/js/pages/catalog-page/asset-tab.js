// Tables of data sets and models whose rows open; renaming and deleting.

import { allPages, call, del, patch } from "../../fetch.js";
import { announce, attempt, badge, button, confirmAction, errorNotice, notice, scrollRegion, sentence, skeleton, tableFrame } from "../../components.js";
import { el, keyedRows, setChildren, setText, svg } from "../../dom.js";
import { integer } from "../../format.js";
import { rememberAsset } from "../../lookups.js";
import { currentAddress, replaceQuery } from "../../router.js";

const PAGE = 50;

/** A table whose rows open. `cells(item)` follow the name; `body(item)` is the content of an open row. */
export function expandableTable({ caption, columns, keyOf, cells, body, onOpen }) {
  let items = [];
  let open = "";
  let limit = PAGE;
  const lines = el("tbody");
  const fill = keyedRows(lines, keyOf, (item) => expandableRow(columns, () => toggle(keyOf(item)), (other) => keyOf(other) === open, cells, body));
  const more = button("Show more", () => { limit += PAGE; draw(); });
  const count = el("span");
  const node = el("div", { hidden: true }, el("div", { class: "panel" }, scrollRegion(caption, tableFrame(caption, columns, lines, "expandable"))), el("div", { class: "jobs-foot" }, more, count));

  function toggle(name) {
    open = open === name ? "" : name;
    onOpen(open);
    draw();
    reveal();
  }

  const reveal = () => lines.querySelector(".open")?.scrollIntoView({ block: "nearest" });

  function draw() {
    limit = Math.max(limit, items.findIndex((item) => keyOf(item) === open) + 1);
    fill(items.slice(0, limit));
    node.hidden = !items.length;
    more.hidden = items.length <= limit;
    setText(count, `${more.hidden ? "" : `${limit} of `}${integer(items.length)} shown`);
  }

  return {
    node,
    show(list, name, fromTop) {
      const changed = name !== open;
      items = list;
      open = name;
      if (fromTop) limit = PAGE;
      draw();
      if (changed) reveal();
    },
  };
}

function expandableRow(columns, onToggle, isOpen, cells, body) {
  const label = el("span", { class: "clamp" });
  const arrow = svg("svg", { class: "arrow", viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: "M6 3.5 10.5 8 6 12.5" }));
  const opener = el("button", { type: "button", class: "opener", on: { click: onToggle } }, arrow, label);
  const line = el("tr", { on: { click: (event) => event.target.closest("a, button") || String(getSelection()) || onToggle() } },
    el("th", { scope: "row" }, opener), columns.slice(1).map((name) => el("td", { "data-label": name })));
  const content = el("td", { colspan: columns.length });
  const below = el("tr", { class: "inside" }, content);
  let drawnRow = "";
  let drawnBody = "";

  return {
    update(item) {
      const now = JSON.stringify(item);
      const open = isOpen(item);
      if (now !== drawnRow) {
        setText(label, item.name);
        cells(item).forEach((cell, index) => setChildren(line.children[index + 1], cell));
      }
      if (open && now !== drawnBody) setChildren(content, body(item));
      drawnRow = now;
      if (open) drawnBody = now;
      opener.setAttribute("aria-expanded", String(open));
      line.classList.toggle("open", open);
      return open ? [line, below] : line;
    },
  };
}

const STATES = { ready: ["Ready", "good"], failed: ["Failed", "bad"], ingesting: ["Being read", "wait"], verifying: ["Being checked", "wait"] };
const IN_PROGRESS = ["ingesting", "verifying"];

export const stateBadge = ({ state, waiting_reason: reason }) => badge(...(reason ? [reason, "wait"] : (STATES[state] ?? [state, "quiet"])));

/** `kind`: {path, caption, columns, cells(item), body(item, on), searchText(item), empty(on)}; `on`: {put(item),
 * remove(item), signal}. */
export function assetTab(kind, signal) {
  let items = null;
  let query = new URLSearchParams();
  const message = el("div");
  const placeholder = el("div", {}, skeleton());
  const on = { signal, put: (item) => store([item, ...without(item)]), remove: (item) => store(without(item)) };
  const list = expandableTable({ ...kind, keyOf: ({ id }) => id, body: (item) => kind.body(item, on), onOpen: (open) => { replaceQuery({ open }); query = currentAddress().query; } });

  const without = ({ id }) => items.filter((item) => item.id !== id);
  function store(next) {
    items = next.sort((a, b) => (a.id < b.id ? 1 : -1));
    draw();
  }

  function draw() {
    const q = (query.get("q") ?? "").toLowerCase();
    const matches = items.filter((item) => kind.searchText(item).toLowerCase().includes(q));
    list.show(matches, query.get("open") ?? "");
    setChildren(placeholder, matches.length ? null : items.length ? el("p", { class: "panel empty" }, `Nothing matches “${q}”.`) : kind.empty(on));
  }

  const load = () => attempt(async () => {
    store(await allPages(kind.path, {}, signal));
    setChildren(message);
  }, (error) => {
    setChildren(message, errorNotice(error, load));
    if (!items) setChildren(placeholder);
  });

  return {
    node: el("div", {}, message, placeholder, list.node),
    show(next) {
      query = next;
      if (items) draw();
      else load();
    },
    tick: () => (message.firstChild || items?.some(({ state }) => IN_PROGRESS.includes(state)) ? load() : undefined),
  };
}

export function deleteButton(item, kind, warning, onDelete) {
  const message = el("div", { role: "alert" });
  const node = button("Delete", remove);

  async function remove() {
    if (!(await confirmAction({ title: `Delete this ${kind}?`, text: `“${item.name}”: ${warning}`, yes: `Delete the ${kind}` }))) return;
    try {
      await del(item.links.self);
      announce(`${item.name} is deleted`);
      onDelete(item);
    } catch (error) {
      setChildren(message, notice(error.code === "in_use" ? `This ${kind} is in use and was not deleted` : "This did not work", sentence(error.message)));
    }
  }

  return { button: node, message };
}

export function renameForm(item, onChange) {
  const renameButton = button("Rename", open);
  const box = el("input", { class: "input", id: `name-${item.id}`, maxlength: "200", required: true, autocomplete: "off" });
  const message = el("div", { role: "alert" });
  const form = el("form", { class: "rename", hidden: true, on: { submit: save, keydown: (event) => event.key === "Escape" && close() } },
    el("label", { for: box.id }, "New name"), box,
    el("button", { class: "button primary" }, "Save"), button("Keep the old name", close));
  let etag = null;
  const fail = (error) => setChildren(message, notice("This did not work", sentence(error.message)));

  async function open() {
    try {
      const now = await call("GET", item.links.self);
      etag = now.etag;
      box.value = now.data.name;
      form.hidden = false;
      box.select();
      setChildren(message);
    } catch (error) {
      fail(error);
    }
  }

  function close() {
    form.hidden = true;
    renameButton.focus();
  }

  async function save(event) {
    event.preventDefault();
    try {
      const changed = await patch(item.links.self, { name: box.value.trim() }, etag);
      rememberAsset("models", changed);
      announce(`Renamed to ${changed.name}`);
      onChange(changed);
    } catch (error) {
      if (error.status !== 412) return fail(error);
      await open();
      setChildren(message, notice("Someone else has changed this model", "The field shows its present name."));
    }
    return undefined;
  }

  return { button: renameButton, nodes: [form, message] };
}
