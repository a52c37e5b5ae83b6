// Tabs by their ARIA pattern, and a page of tabs.

import { el, setChildren } from "./dom.js";
import { currentAddress, replaceQuery } from "./router.js";
import { pollWhileVisible } from "./streams.js";

/** `list`: [{id, label, create() -> node}]; a panel is created when its tab is chosen first. */
export function tabs(name, list, selected, onChoose) {
  const buttons = list.map(({ id, label }) => el("button", {
    type: "button", role: "tab", id: `tab-${id}`, "aria-controls": `panel-${id}`, on: { click: () => choose(id, true) },
  }, label));
  const panels = list.map(({ id }) => el("div", { role: "tabpanel", id: `panel-${id}`, "aria-labelledby": `tab-${id}`, tabindex: "0", hidden: true }));
  const bar = el("div", { role: "tablist", "aria-label": name, on: { keydown } }, buttons);
  const created = new Set();

  function choose(id, byUser = false) {
    list.forEach((tab, at) => {
      const on = tab.id === id;
      buttons[at].setAttribute("aria-selected", String(on));
      buttons[at].tabIndex = on ? 0 : -1;
      panels[at].hidden = !on;
      // On a narrow screen the tab may be outside the visible part of the bar.
      if (on && byUser) buttons[at].scrollIntoView({ block: "nearest", inline: "nearest" });
      if (on && !created.has(id)) {
        created.add(id);
        panels[at].append(tab.create());
      }
    });
    if (byUser) onChoose(id);
  }

  function keydown(event) {
    const at = buttons.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: list.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    const next = (to + list.length) % list.length;
    buttons[next].focus();
    choose(list[next].id, true);
  }

  choose(list.some(({ id }) => id === selected) ? selected : list[0].id);
  return { node: el("div", { class: "tabs" }, bar, panels), choose };
}

const POLL_MS = 5000;
const CLEARED = { q: "", open: "", family: "", sort: "" }; // parameters of the previous tab

/** A page of tabs. `kinds`: {id: [label, create(signal) -> {node, show(query), tick()}]}; `beside`: a node beside the title;
 * `onShow(query, label)` runs when a tab is shown. */
export function tabbedPage(main, title, kinds, query, beside = null, onShow = () => {}) {
  const abort = new AbortController();
  const created = new Map();
  const tabOf = (next) => (kinds[next.get("tab")] ? next.get("tab") : Object.keys(kinds)[0]);
  let current = tabOf(query);
  const list = Object.entries(kinds).map(([id, [label, create]]) => ({
    id, label,
    create() {
      created.set(id, create(abort.signal));
      return created.get(id).node;
    },
  }));
  const bar = tabs(title, list, current, (tab) => {
    replaceQuery({ ...CLEARED, tab });
    show(currentAddress().query);
  });
  setChildren(main, el("div", { class: "page-head" }, el("h1", { tabindex: "-1" }, title), beside), bar.node);

  function show(next) {
    current = tabOf(next);
    bar.choose(current);
    onShow(next, kinds[current][0]);
    created.get(current).show(next);
  }

  const poll = pollWhileVisible(() => created.get(current).tick(), () => POLL_MS);
  show(query);
  return {
    update: show,
    leave() {
      abort.abort();
      poll.stop();
    },
  };
}
