// Small parts that pages share: progress, notices, a question, a text to copy.

import { el, put } from "./dom.js";
import { announce } from "./shell.js";

/** A bar of 0..1 with a name for those who cannot see it. */
export function progressBar(label) {
  const inner = el("span");
  const node = el("div", { class: "track", role: "progressbar", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100" }, inner);
  return {
    node,
    set(fraction) {
      const percent = Math.floor(100 * Math.min(1, Math.max(0, fraction ?? 0)));
      node.setAttribute("aria-valuenow", percent);
      inner.style.width = `${percent}%`;
    },
  };
}

/** What went wrong and what helps. */
export function problem(error, again) {
  const title = error.status === 0 ? "The server cannot be reached" : error.status === 404 ? "There is no such job" : "This did not work";
  const hint = error.status === 0 ? "The page tries again by itself." : `${error.message}${error.problem?.request_id ? ` (${error.problem.request_id})` : ""}`;
  return el(
    "div", { class: "notice", "data-tone": "bad", role: "alert" },
    el("strong", {}, title), hint,
    again ? el("div", {}, el("button", { class: "button small", type: "button", on: { click: again } }, "Try again")) : null,
  );
}

/** Ask before something that cannot be undone; true if the reader wants it. */
export function ask({ title, text, yes }) {
  const accept = el("button", { class: "button danger", value: "yes" }, yes);
  const refuse = el("button", { class: "button", value: "no", autofocus: true }, "Keep it");
  const box = el(
    "dialog", { "aria-labelledby": "ask-title" },
    el("form", { method: "dialog" }, el("h2", { id: "ask-title" }, title), el("p", {}, text), el("div", { class: "actions" }, refuse, accept)),
  );
  document.body.append(box);
  box.showModal();
  return new Promise((resolve) => {
    box.addEventListener("close", () => {
      box.remove();
      resolve(box.returnValue === "yes");
    });
  });
}

/** A button that copies; it says so. */
export function copyButton(text, label = "Copy") {
  const button = el("button", { class: "button small", type: "button" }, "Copy");
  if (label !== "Copy") button.setAttribute("aria-label", label);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      put(button, "Copied");
      announce("Copied");
    } catch {
      put(button, "Not allowed");
    }
    setTimeout(() => put(button, "Copy"), 1600);
  });
  return button;
}

export function code(text, label) {
  return el("div", { class: "code" }, el("pre", { tabindex: "0", role: "region", "aria-label": label }, text), copyButton(() => text));
}

/** A table with a header for every column. `rows`: arrays of cells. */
export function table({ caption, columns, rows, className = "plain cards" }) {
  const heads = columns.map((name) => el("th", { scope: "col" }, name));
  const lines = rows.map((cells) => el("tr", {}, cells.map((cell, at) =>
    at === 0 ? el("th", { scope: "row", class: "wide" }, cell) : el("td", { "data-label": columns[at] }, cell))));
  return el("table", { class: className }, el("caption", { class: "hidden" }, caption),
    el("thead", {}, el("tr", {}, heads)), el("tbody", {}, lines));
}
