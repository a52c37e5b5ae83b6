// The selected jobs and their actions; the keys of the table.

import { button, openDialog, smallButton } from "../../components.js";
import { el, fromTemplate, setChildren, setText } from "../../dom.js";
import { pluralize } from "../../format.js";
import { canCancel, cancelJobs, jobName } from "../../job-actions.js";
import { stateWord } from "../../job-state.js";
import { href } from "../../router.js";

const COMPARE_LIMITS = [2, 10];

/** `on`: {jobs() -> Map of the shown jobs, select(ids), put(job)}. */
export function createSelection(on) {
  const ids = new Set();
  const count = el("strong", { role: "status" });
  const compare = el("a", { class: "button small" }, "Compare");
  const cancel = button("Cancel", cancelAll, { class: "small danger" });
  const clear = smallButton("Clear selection", () => select([]));
  const hint = el("span", { class: "muted small" });
  const node = el("section", { class: "panel selection", "aria-label": "Selected jobs", hidden: true }, count, compare, cancel, clear, hint);
  const message = el("div", { role: "status" });
  const all = el("input", { type: "checkbox", disabled: true, "aria-label": "Select all shown jobs", on: { change: () => select(all.checked ? on.jobs().keys() : []) } });

  const jobs = () => [...ids].map((id) => on.jobs().get(id)).filter(Boolean);

  function select(selected) {
    ids.clear();
    for (const id of selected) ids.add(id);
    show();
  }

  function show() {
    for (const id of ids) if (!on.jobs().has(id)) ids.delete(id);
    const selected = jobs();
    node.hidden = !selected.length;
    setText(count, selected.length ? `${pluralize(selected.length, "job")} selected` : "");
    const [min, max] = COMPARE_LIMITS;
    const comparable = selected.length >= min && selected.length <= max;
    if (comparable) compare.setAttribute("href", href("/compare", { jobs: [...ids].join(",") }));
    compare.hidden = !comparable;
    setText(hint, comparable || !selected.length ? "" : selected.length < min ? "Select another job to compare." : `At most ${max} jobs can be compared.`);
    const cancellable = selected.filter(canCancel).length;
    cancel.hidden = !cancellable;
    setText(cancel, cancellable === selected.length ? "Cancel" : `Cancel ${cancellable} of them`);
    const total = on.jobs().size;
    all.disabled = !total;
    all.checked = total > 0 && selected.length === total;
    all.indeterminate = selected.length > 0 && selected.length < total;
    on.select(ids);
  }

  async function cancelAll() {
    cancel.disabled = true;
    const results = await cancelJobs(jobs().filter(canCancel), on.put);
    cancel.disabled = false;
    if (!results) return;
    select([]);
    setChildren(message, resultNotice(results, () => setChildren(message)));
  }

  return {
    node,
    message,
    all,
    show,
    clear: () => select([]),
    toggle(id) {
      if (!ids.delete(id)) ids.add(id);
      show();
    },
  };
}

function resultNotice(results, close) {
  const failed = results.filter(({ error }) => error).length;
  const done = results.length - failed;
  const title = failed ? `${done} of ${results.length} jobs cancelled` : `${pluralize(done, "job")} cancelled`;
  return el("div", { class: "notice outcome", "data-tone": failed ? "bad" : null },
    el("strong", {}, title),
    el("ul", {}, results.map(({ job, changed, error }) => el("li", {}, jobName(job), ": ", error ? error.message : resultWords(changed.state)))),
    smallButton("Close", close));
}

const resultWords = (state) => (state === "cancelling" ? "stops at its next step" : stateWord(state).toLowerCase());

/** The keys of the table. `on`: {search(), select(row)}. Returns a function that removes them. */
export function tableKeys(body, on) {
  const names = () => [...body.querySelectorAll(".name")];
  const current = () => (body.contains(document.activeElement) ? document.activeElement.closest("tr") : null);

  function move(by) {
    const list = names();
    const index = list.findIndex((name) => name.closest("tr") === current());
    list[index < 0 ? 0 : Math.min(list.length - 1, Math.max(0, index + by))]?.focus();
  }

  function open(event) {
    const name = current()?.querySelector(".name");
    if (!name || event.target.matches("a, button")) return false; // the browser activates these
    location.hash = name.getAttribute("href");
    return true;
  }

  const commands = {
    "/": () => on.search(),
    "?": showHelp,
    j: () => move(1),
    k: () => move(-1),
    x: () => current() && on.select(current()),
    Enter: open,
  };

  function keydown(event) {
    if (keysOff || !(event.key in commands) || isWriting(event)) return;
    if (commands[event.key](event) !== false) event.preventDefault();
  }

  document.addEventListener("keydown", keydown);
  return () => document.removeEventListener("keydown", keydown);
}

// In a text field a letter is no command; in a checkbox it is.
function isWriting(event) {
  const { target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return true;
  return target.matches("textarea, select, input:not([type=checkbox])");
}

let keysOff = false; // for speech input, and against keys pressed by accident

export function showHelp() {
  const box = el("input", { type: "checkbox", checked: keysOff, on: { change: () => { keysOff = box.checked; } } });
  openDialog("keys-title", "Keys", [fromTemplate("jobs-keys"), el("label", { class: "tick" }, box, "Turn these keys off until the page is reloaded")], el("button", { class: "button", autofocus: true }, "Close"), "keys-help");
}
