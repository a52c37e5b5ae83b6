// Jobs that were chosen, and what can be done with them; the keyboard on the table.

import { button, openDialog, smallButton } from "../../components.js";
import { fromTemplate, el, setChildren, setText } from "../../dom.js";
import { canCancel, cancelJobs, jobName } from "../../job-actions.js";
import { stateWord } from "../../job-state.js";
import { href } from "../../router.js";

const COMPARED = [2, 10];

export function picked(on) {
  const ids = new Set();
  const count = el("strong", { role: "status" });
  const compare = el("a", { class: "button small" }, "Compare");
  const cancelled = button("Cancel", cancelAll, { class: "small danger" });
  const none = smallButton("Choose none", () => choose([]));
  const why = el("span", { class: "muted small" });
  const node = el("section", { class: "panel picked", "aria-label": "Chosen jobs", hidden: true }, count, compare, cancelled, none, why);
  const told = el("div", { role: "status" });
  const all = el("input", { type: "checkbox", disabled: true, "aria-label": "Choose all jobs that are shown", on: { change: () => choose(all.checked ? on.jobs().keys() : []) } });

  const jobs = () => [...ids].map((id) => on.jobs().get(id)).filter(Boolean);

  function choose(wanted) {
    ids.clear();
    for (const id of wanted) ids.add(id);
    show();
  }

  function show() {
    for (const id of ids) if (!on.jobs().has(id)) ids.delete(id);
    const chosen = jobs();
    node.hidden = !chosen.length;
    setText(count, chosen.length ? `${chosen.length} ${chosen.length === 1 ? "job" : "jobs"} chosen` : "");
    const [least, most] = COMPARED;
    const fit = chosen.length >= least && chosen.length <= most;
    if (fit) compare.setAttribute("href", href("/compare", { jobs: [...ids].join(",") }));
    compare.hidden = !fit;
    setText(why, fit || !chosen.length ? "" : chosen.length < least ? "Choose another one to compare." : `At most ${most} can be compared.`);
    const ends = chosen.filter(canCancel).length;
    cancelled.hidden = !ends;
    setText(cancelled, ends === chosen.length ? "Cancel" : `Cancel ${ends} of them`);
    const total = on.jobs().size;
    all.disabled = !total;
    all.checked = total > 0 && chosen.length === total;
    all.indeterminate = chosen.length > 0 && chosen.length < total;
    on.shown(ids);
  }

  async function cancelAll() {
    cancelled.disabled = true;
    const found = await cancelJobs(jobs().filter(canCancel), on.changed);
    cancelled.disabled = false;
    if (!found) return;
    choose([]);
    setChildren(told, outcome(found, () => setChildren(told)));
  }

  return {
    node,
    told,
    all,
    show,
    clear: () => choose([]),
    toggle(id) {
      if (!ids.delete(id)) ids.add(id);
      show();
    },
  };
}

function outcome(found, close) {
  const failed = found.filter(({ error }) => error).length;
  const done = found.length - failed;
  const title = failed ? `${done} of ${found.length} jobs cancelled` : `${done} ${done === 1 ? "job" : "jobs"} cancelled`;
  return el("div", { class: "notice outcome", "data-tone": failed ? "bad" : null },
    el("strong", {}, title),
    el("ul", {}, found.map(({ job, changed, error }) => el("li", {}, jobName(job), ": ", error ? error.message : words(changed.state)))),
    smallButton("Close", close));
}

const words = (state) => (state === "cancelling" ? "ends at its next step" : stateWord(state).toLowerCase());

export function tableKeys(body, on) {
  const names = () => [...body.querySelectorAll(".name")];
  const current = () => (body.contains(document.activeElement) ? document.activeElement.closest("tr") : null);

  function move(by) {
    const list = names();
    const at = list.findIndex((name) => name.closest("tr") === current());
    list[at < 0 ? 0 : Math.min(list.length - 1, Math.max(0, at + by))]?.focus();
  }

  function open(event) {
    const name = current()?.querySelector(".name");
    if (!name || event.target.matches("a, button")) return false; // they open by themselves
    location.hash = name.getAttribute("href");
    return true;
  }

  const does = {
    "/": () => on.search(),
    "?": help,
    j: () => move(1),
    k: () => move(-1),
    x: () => current() && on.pick(current()),
    Enter: open,
  };

  function pressed(event) {
    if (off || !(event.key in does) || writes(event)) return;
    if (does[event.key](event) !== false) event.preventDefault();
  }

  document.addEventListener("keydown", pressed);
  return () => document.removeEventListener("keydown", pressed);
}

// A letter is no command where the keyboard writes; in a checkbox it does not.
function writes(event) {
  const at = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return true;
  return at.matches("textarea, select, input:not([type=checkbox])");
}

let off = false; // for those who speak to the page, or hit keys by chance

export function help() {
  const box = el("input", { type: "checkbox", checked: off, on: { change: () => { off = box.checked; } } });
  openDialog("keys-title", "Keys", [fromTemplate("jobs-keys"), el("label", { class: "tick" }, box, "Turn these keys off, until the page is loaded again")], el("button", { class: "button", autofocus: true }, "Close"), "keys-help");
}
