// What the project owns: a table whose rows open; renaming and deleting.

import { call, del, allPages, patch } from "../../api.js";
import { confirmAction, attempt, badge, skeleton, tableFrame, notice, errorNotice, scrollRegion, sentence } from "../../components.js";
import { el, keyedRows, setChildren, setText, svg } from "../../dom.js";
import { integer } from "../../format.js";
import { announce } from "../../layout.js";
import { rememberAsset } from "../../lookups.js";
import { currentAddress, replaceQuery } from "../../router.js";

const STEP = 50;

/** `key(item)` is what `open` is in the address; `cells(item)` come after the name; `body(item)` is shown when opened. */
export function shelf({ caption, columns, key, cells, body, onOpen }) {
  let items = [];
  let open = "";
  let most = STEP;
  const lines = el("tbody");
  const fill = keyedRows(lines, key, (item) => row(columns, () => toggle(key(item)), (now) => key(now) === open, cells, body));
  const more = el("button", { class: "button", type: "button", on: { click: () => { most += STEP; draw(); } } }, "Show more");
  const count = el("span");
  const node = el("div", { hidden: true }, el("div", { class: "panel" }, scrollRegion(caption, tableFrame(caption, columns, lines, "shelf"))), el("div", { class: "jobs-foot" }, more, count));

  function toggle(name) {
    open = open === name ? "" : name;
    onOpen(open);
    draw();
    reveal();
  }

  const reveal = () => lines.querySelector(".open")?.scrollIntoView({ block: "nearest" });

  function draw() {
    most = Math.max(most, items.findIndex((item) => key(item) === open) + 1);
    fill(items.slice(0, most));
    node.hidden = !items.length;
    more.hidden = items.length <= most;
    setText(count, `${more.hidden ? "" : `${most} of `}${integer(items.length)} shown`);
  }

  return {
    node,
    show(list, name, few) {
      const fresh = name !== open;
      items = list;
      open = name;
      if (few) most = STEP;
      draw();
      if (fresh) reveal();
    },
  };
}

function row(columns, onToggle, isOpen, cells, body) {
  const label = el("span");
  const arrow = svg("svg", { class: "arrow", viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: "M6 3.5 10.5 8 6 12.5" }));
  const button = el("button", { type: "button", class: "opener", on: { click: onToggle } }, arrow, label);
  const line = el("tr", { on: { click: (event) => event.target.closest("a, button") || String(getSelection()) || onToggle() } },
    el("th", { scope: "row" }, button), columns.slice(1).map((name) => el("td", { "data-label": name })));
  const inside = el("td", { colspan: columns.length });
  const below = el("tr", { class: "inside" }, inside);
  let drawn = "";
  let opened = "";

  return {
    update(item) {
      const now = JSON.stringify(item);
      const open = isOpen(item);
      if (now !== drawn) {
        setText(label, item.name);
        cells(item).forEach((cell, at) => setChildren(line.children[at + 1], cell));
      }
      if (open && now !== opened) setChildren(inside, body(item));
      drawn = now;
      if (open) opened = now;
      button.setAttribute("aria-expanded", String(open));
      line.classList.toggle("open", open);
      return open ? [line, below] : line;
    },
  };
}

const STATES = { ready: ["Ready", "good"], failed: ["Failed", "bad"], ingesting: ["Being read", "wait"], verifying: ["Being checked", "wait"] };
const UNREADY = ["ingesting", "verifying"];

export const stateOf = ({ state }) => badge(...(STATES[state] ?? [state, "quiet"]));

/** `kind`: {path, caption, columns, cells(item), body(item, on), text(item), blank(on)}; `on`: changed(item), removed(item), signal. */
export function stock(kind, signal) {
  let items = null;
  let query = new URLSearchParams();
  const said = el("div");
  const none = el("div", {}, skeleton());
  const on = { signal, changed: (item) => keep([item, ...without(item)]), removed: (item) => keep(without(item)) };
  const list = shelf({ ...kind, key: ({ id }) => id, body: (item) => kind.body(item, on), onOpen: (open) => { replaceQuery({ open }); query = currentAddress().query; } });

  const without = ({ id }) => items.filter((item) => item.id !== id);
  function keep(next) {
    items = next.sort((a, b) => (a.id < b.id ? 1 : -1));
    draw();
  }

  function draw() {
    const q = (query.get("q") ?? "").toLowerCase();
    const found = items.filter((item) => kind.text(item).toLowerCase().includes(q));
    list.show(found, query.get("open") ?? "");
    setChildren(none, found.length ? null : items.length ? el("p", { class: "panel empty" }, `Nothing here has “${q}” in it.`) : kind.blank(on));
  }

  const load = () => attempt(async () => {
    keep(await allPages(kind.path, {}, signal));
    setChildren(said);
  }, (error) => {
    setChildren(said, errorNotice(error, load));
    if (!items) setChildren(none);
  });

  return {
    node: el("div", {}, said, none, list.node),
    show(next) {
      query = next;
      if (items) draw();
      else load();
    },
    /** Look again where something is still on its way, or where the last look failed. */
    tick: () => (said.firstChild || items?.some(({ state }) => UNREADY.includes(state)) ? load() : undefined),
  };
}

export function remover(item, what, warning, onGone) {
  const said = el("div", { role: "alert" });
  const button = el("button", { class: "button", type: "button", on: { click: go } }, "Delete");

  async function go() {
    if (!(await confirmAction({ title: `Delete this ${what}?`, text: `“${item.name}”: ${warning}`, yes: `Delete the ${what}` }))) return;
    try {
      await del(item.links.self);
      announce(`${item.name} is deleted`);
      onGone(item);
    } catch (error) {
      setChildren(said, notice(error.code === "in_use" ? `This ${what} is in use, so it stays` : "This did not work", sentence(error.message)));
    }
  }

  return { button, said };
}

export function renamer(item, onChange) {
  const button = el("button", { class: "button", type: "button", on: { click: open } }, "Rename");
  const box = el("input", { class: "input", id: `name-${item.id}`, maxlength: "200", required: true, autocomplete: "off" });
  const said = el("div", { role: "alert" });
  const form = el("form", { class: "rename", hidden: true, on: { submit: save, keydown: (event) => event.key === "Escape" && close() } },
    el("label", { for: box.id }, "New name"), box,
    el("button", { class: "button primary" }, "Save"), el("button", { class: "button", type: "button", on: { click: close } }, "Keep the old one"));
  let etag = null;
  const fail = (error) => setChildren(said, notice("This did not work", sentence(error.message)));

  async function open() {
    try {
      const now = await call("GET", item.links.self);
      etag = now.etag;
      box.value = now.data.name;
      form.hidden = false;
      box.select();
      setChildren(said);
    } catch (error) {
      fail(error);
    }
  }

  function close() {
    form.hidden = true;
    button.focus();
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
      setChildren(said, notice("Someone else has changed this model", "Its present name is in the box."));
    }
    return undefined;
  }

  return { button, nodes: [form, said] };
}
