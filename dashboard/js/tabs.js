// Widgets by the book: tabs, pages of them, and ARIA's combobox.

import { el, setChildren, setText } from "./dom.js";
import { currentAddress, replaceQuery } from "./router.js";
import { pollWhileVisible } from "./streams.js";

export function tabs(name, list, chosen, onChoose) {
  const buttons = list.map(({ id, label }) => el("button", {
    type: "button", role: "tab", id: `tab-${id}`, "aria-controls": `panel-${id}`, on: { click: () => choose(id, true) },
  }, label));
  const panels = list.map(({ id }) => el("div", { role: "tabpanel", id: `panel-${id}`, "aria-labelledby": `tab-${id}`, tabindex: "0", hidden: true }));
  const bar = el("div", { role: "tablist", "aria-label": name, on: { keydown: keys } }, buttons);
  const made = new Set();

  function choose(id, tell = false) {
    list.forEach((tab, at) => {
      const on = tab.id === id;
      buttons[at].setAttribute("aria-selected", String(on));
      buttons[at].tabIndex = on ? 0 : -1;
      panels[at].hidden = !on;
      // On a phone the chosen one may lie beyond the edge.
      if (on && tell) buttons[at].scrollIntoView({ block: "nearest", inline: "nearest" });
      if (on && !made.has(id)) {
        made.add(id);
        panels[at].append(tab.make());
      }
    });
    if (tell) onChoose(id);
  }

  function keys(event) {
    const at = buttons.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: list.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    const next = (to + list.length) % list.length;
    buttons[next].focus();
    choose(list[next].id, true);
  }

  choose(list.some(({ id }) => id === chosen) ? chosen : list[0].id);
  return { node: el("div", { class: "tabs" }, bar, panels), choose };
}

const LOOK_MS = 5000;
const BEFORE = { q: "", open: "", family: "", sort: "" }; // what the address says is of the tab before

/** A page of tabs. `kinds`: {id: [label, make(signal) -> {node, show(query), tick()}]}; `shown(query, label)` of each turn. */
export function tabbedPage(main, title, kinds, query, beside = null, shown = () => {}) {
  const gone = new AbortController();
  const made = new Map();
  const tabOf = (asked) => (kinds[asked.get("tab")] ? asked.get("tab") : Object.keys(kinds)[0]);
  let at = tabOf(query);
  const list = Object.entries(kinds).map(([id, [label, make]]) => ({
    id, label,
    make() {
      made.set(id, make(gone.signal));
      return made.get(id).node;
    },
  }));
  const bar = tabs(title, list, at, (tab) => {
    replaceQuery({ ...BEFORE, tab });
    show(currentAddress().query);
  });
  setChildren(main, el("div", { class: "page-head" }, el("h1", { tabindex: "-1" }, title), beside), bar.node);

  function show(next) {
    at = tabOf(next);
    bar.choose(at);
    shown(next, kinds[at][0]);
    made.get(at).show(next);
  }

  const poll = pollWhileVisible(() => made.get(at).tick(), () => LOOK_MS);
  show(query);
  return {
    update: show,
    leave() {
      gone.abort();
      poll.stop();
    },
  };
}

/** `look(text)` answers by `show(items, words)`, as often as it likes. `pick(item, text, first)`: chosen, or Enter without
 * an item; `left(text)`: the reader is gone. */
export function combobox({ id, label, props, look, option, pick, left = () => {} }) {
  const list = el("ul", { id, role: "listbox", "aria-label": label });
  const said = el("p", { class: "muted small", role: "status" });
  const found = el("div", { class: "found panel", hidden: true, on: { mousedown: (event) => event.preventDefault() } }, list, said);
  const input = el("input", {
    class: "input", role: "combobox", autocomplete: "off", spellcheck: "false", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": id, ...props,
    on: { input: open, click: open, keydown, blur: () => { close(); left(input.value.trim()); } },
  });
  let items = [];
  let at = -1;
  let isOpen = false;
  let fits = false; // whether what is listed belongs to what is written

  function open() {
    isOpen = true;
    fits = false;
    look(input.value.trim());
  }

  function show(next, words = "") {
    if (!isOpen) return;
    const held = items[at];
    items = next;
    fits = true;
    setChildren(list, items.map((item, index) => el("li", { role: "option", id: `${id}-${index}`, "data-name": item.name, on: { click: () => choose(item) } }, option(item))));
    setText(said, words);
    list.hidden = !items.length;
    found.hidden = !items.length && !words;
    input.setAttribute("aria-expanded", String(items.length > 0));
    move(items.indexOf(held));
  }

  function move(to) {
    at = Math.min(to, items.length - 1);
    [...list.children].forEach((each, index) => each.setAttribute("aria-selected", String(index === at)));
    list.children[at]?.scrollIntoView({ block: "nearest" });
    if (at < 0) input.removeAttribute("aria-activedescendant");
    else input.setAttribute("aria-activedescendant", `${id}-${at}`);
  }

  function keydown(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      if (isOpen) move(Math.max(0, at + step));
      else open();
    } else if (event.key === "Enter") {
      event.preventDefault();
      choose(isOpen ? items[at] : undefined);
    } else if (event.key === "Escape") close();
  }

  function choose(item) {
    const text = input.value.trim();
    const first = isOpen && fits ? items[0] : undefined;
    close();
    pick(item, text, first);
  }

  function close() {
    isOpen = false;
    found.hidden = true;
    input.setAttribute("aria-expanded", "false");
    items = [];
    move(-1);
  }

  return { input, found, show, close, isOpen: () => isOpen };
}
