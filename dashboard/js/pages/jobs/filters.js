// The filters above the table. Their state is the address.

import { el, setText } from "../../dom.js";
import { here, href, replaceQuery } from "../../router.js";

const GROUPS = {
  queued: ["Queued", ["queued", "paused"]],
  running: ["Running", ["starting", "running", "pausing", "cancelling"]],
  succeeded: ["Succeeded", ["succeeded"]],
  failed: ["Failed", ["failed"]],
  cancelled: ["Cancelled", ["cancelled"]],
};
const PAUSE_MS = 250;

/** What the API is asked for: {state: [...] | null, q}. */
export function asked(query) {
  const state = query.get("state");
  return { state: state ? (GROUPS[state]?.[1] ?? [state]) : null, q: query.get("q") ?? "" };
}

export function filters(onSearch) {
  const links = new Map([["", el("a", {}, "All")]]);
  for (const [name, [label]] of Object.entries(GROUPS)) links.set(name, el("a", {}, label));
  const box = el("input", {
    class: "input", type: "search", "aria-label": "Search jobs by name or id", placeholder: "Search name or id", maxlength: "200",
    "aria-keyshortcuts": "/", on: { input: later, keydown: (event) => event.key === "Escape" && box.blur() },
  });
  let timer = 0;

  function later() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      replaceQuery({ q: box.value.trim() });
      onSearch(here().query);
    }, PAUSE_MS);
  }

  return {
    nodes: [
      el("nav", { class: "segments filters", "aria-label": "State" }, [...links.values()]),
      el("div", { class: "search" }, box, el("kbd", { "aria-hidden": "true" }, "/")),
    ],
    box,
    stop: () => clearTimeout(timer),
    show(query) {
      const state = query.get("state") ?? "";
      const q = query.get("q") ?? "";
      if (box.value.trim() !== q) box.value = q;
      for (const [name, link] of links) {
        link.setAttribute("href", href("/jobs", { state: name, q }));
        if (name === state) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
    },
  };
}

/** "3 jobs", "50 jobs, more below". */
export function countWords(node, count, more) {
  setText(node, `${count} ${count === 1 ? "job" : "jobs"}${more ? " shown" : ""}`);
}
