// A combobox by its ARIA pattern, and one that finds jobs.

import { get, isIgnorable } from "./fetch.js";
import { debounce, el, keyedRows, setChildren, setText } from "./dom.js";
import { ago, percent } from "./format.js";
import { stateWord } from "./job-state.js";

/** `search(text)` calls `show(items, words)`, once or more often; `option(item)`: the content of an option; `blur(text)`: the
 * field lost the focus. `pick(item, text, first)`: an option was chosen; on Enter without one `item` is undefined. */
export function combobox({ id, label, props, search, option, pick, blur = () => {} }) {
  const list = el("ul", { id, role: "listbox", "aria-label": label });
  const note = el("p", { class: "muted small", role: "status" });
  const popup = el("div", { class: "popup panel", hidden: true, on: { mousedown: (event) => event.preventDefault() } }, list, note);
  const input = el("input", {
    class: "input", role: "combobox", autocomplete: "off", spellcheck: "false", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": id, ...props,
    on: { input: open, click: open, keydown, blur: () => { close(); blur(input.value.trim()); } },
  });
  // An option keeps its element while the list changes, so that a click on it is never lost.
  const draw = keyedRows(list, (item) => item.id ?? item.name, (item) => {
    const node = el("li", { role: "option", "data-name": item.name, on: { click: () => choose(item) } });
    return { update: (next) => setChildren(node, option(next)) };
  });
  let items = [];
  let active = -1;
  let isOpen = false;
  let current = false; // whether the items match the present text

  function open() {
    isOpen = true;
    current = false;
    search(input.value.trim());
  }

  function show(next, words = "") {
    if (!isOpen) return;
    const previous = items[active];
    items = next;
    current = true;
    draw(items);
    setText(note, words);
    list.hidden = !items.length;
    popup.hidden = !items.length && !words;
    input.setAttribute("aria-expanded", String(items.length > 0));
    move(items.indexOf(previous));
  }

  function move(to) {
    active = Math.min(to, items.length - 1);
    [...list.children].forEach((child, index) => {
      child.id = `${id}-${index}`;
      child.setAttribute("aria-selected", String(index === active));
    });
    list.children[active]?.scrollIntoView({ block: "nearest" });
    if (active < 0) input.removeAttribute("aria-activedescendant");
    else input.setAttribute("aria-activedescendant", `${id}-${active}`);
  }

  function keydown(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      if (isOpen) move(Math.max(0, active + step));
      else open();
    } else if (event.key === "Enter") {
      event.preventDefault();
      choose(isOpen ? items[active] : undefined);
    } else if (event.key === "Escape") close();
  }

  function choose(item) {
    const text = input.value.trim();
    const first = isOpen && current ? items[0] : undefined;
    close();
    pick(item, text, first);
  }

  function close() {
    isOpen = false;
    popup.hidden = true;
    input.setAttribute("aria-expanded", "false");
    items = [];
    move(-1);
  }

  return { input, popup, show, close, isOpen: () => isOpen };
}

const PAUSE_MS = 250;
const SHOWN = 8;

/** `otherIds()`: ids that are not offered; `onAdd(job)`: a job was chosen. */
export function jobSearch({ id, label, placeholder, otherIds, onAdd }) {
  let request = new AbortController();
  const later = debounce(search, PAUSE_MS);
  const { input, popup, show, close } = combobox({
    id: `${id}-list`, label: "Jobs found", props: { id, type: "search", "aria-label": label, placeholder, maxlength: "200" },
    search: later,
    option: (job) => {
      const top1 = job.result?.student_top1 ?? job.summary?.["val/top1"];
      const facts = [stateWord(job.state), Number.isFinite(top1) ? percent(top1, 1) : null, ago(job.created_at)].filter(Boolean);
      return [el("span", { class: "name" }, job.resolved.name), el("span", { class: "muted small" }, facts.join(" · "))];
    },
    pick: (job, _, first) => {
      if (!(job ?? first)) return;
      input.value = "";
      onAdd(job ?? first);
    },
  });

  async function search() {
    request.abort();
    request = new AbortController();
    try {
      const { data } = await get("/v1/jobs", { q: input.value.trim(), limit: SHOWN + otherIds().length }, request.signal);
      const ids = otherIds();
      const jobs = data.filter(({ id }) => !ids.includes(id)).slice(0, SHOWN);
      show(jobs, jobs.length ? "" : "No other job matches");
    } catch (error) {
      if (!isIgnorable(error)) show([], error.message);
    }
  }

  return {
    node: el("div", { class: "adder" }, input, popup),
    input,
    stop() {
      later.cancel();
      request.abort();
      close();
    },
  };
}
