// Tabs by the book: arrows move, the chosen one is in the address.

import { el } from "./dom.js";

/** `tabs`: [{id, label, make() -> node}], made when first opened. */
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
