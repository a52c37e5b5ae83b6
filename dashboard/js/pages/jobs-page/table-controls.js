// The controls of the table of jobs: its filters, the selection of rows, and keys.

import { button, labeledInput, openDialog, searchField, smallButton } from "../../components.js";
import { el, fromTemplate, setChildren, setText } from "../../dom.js";
import { allPages } from "../../fetch.js";
import { integer, pluralize, readable } from "../../format.js";
import { canCancel, cancelJobs, jobName } from "../../job-actions.js";
import { stateWord } from "../../job-state.js";
import { currentAddress, href, replaceQuery } from "../../router.js";

const GROUPS = {
  queued: ["Queued", ["queued", "paused"]],
  running: ["Running", ["starting", "running", "pausing", "cancelling"]],
  succeeded: ["Succeeded", ["succeeded"]],
  failed: ["Failed", ["failed"]],
  cancelled: ["Cancelled", ["cancelled"]],
};
const FIELDS = ["method", "architecture", "dataset", "label"];

/** The filter of an address, as parameters of the API. */
export function parseQuery(query) {
  const state = query.get("state");
  return {
    state: state ? (GROUPS[state]?.[1] ?? [state]) : null,
    q: query.get("q") ?? "",
    method: query.get("method") ?? "",
    architecture: query.get("architecture") ?? "",
    dataset: query.get("dataset") ?? "",
    label: labels(query.get("label")),
  };
}

const labels = (text) => (text ?? "").split(",").map((pair) => pair.trim()).filter(Boolean);

export const isFiltered = (filter) => Object.values(filter).flat().some(Boolean);

export function matches(job, { state, q, method, architecture, dataset, label }) {
  const text = q.toLowerCase();
  return (!state || state.includes(job.state))
    && (!q || job.id === q || job.resolved.name.toLowerCase().includes(text))
    && (!method || [job.resolved.method ?? []].flat().some(({ type }) => type === method))
    && (!architecture || job.resolved.student?.architecture === architecture)
    && (!dataset || job.dataset === dataset)
    && label.every((pair) => {
      const [key, ...rest] = pair.split(":");
      return job.labels?.[key] === rest.join(":");
    });
}

function morePanel(onChange) {
  const method = select("method", "Any method");
  const architecture = el("input", { class: "input", id: "filter-architecture", list: "architectures", placeholder: "Any", maxlength: "200", spellcheck: "false", autocomplete: "off" });
  const dataset = select("dataset", "Any data set");
  const label = el("input", { class: "input", id: "filter-label", placeholder: "key:value", maxlength: "300", spellcheck: "false", autocomplete: "off", "aria-describedby": "label-hint" });
  const hint = el("p", { class: "small wrong", id: "label-hint", role: "status" });
  const names = el("datalist", { id: "architectures" });
  const fields = { method, architecture, dataset, label };
  const clear = smallButton("Clear filters", () => onChange(Object.fromEntries(FIELDS.map((name) => [name, ""]))));
  const node = el("div", { class: "more-filters", id: "more-filters", role: "group", "aria-label": "More filters", hidden: true },
    labeledInput("Method", method), labeledInput("Student's architecture", architecture, names), labeledInput("Data set", dataset), labeledInput("Label", label, hint), clear);
  let loaded = false;

  for (const [name, input] of Object.entries(fields)) input.addEventListener("change", () => apply(name, input));

  function apply(name, input) {
    const value = input.value.trim();
    if (name === "label") {
      const invalid = labels(value).find((pair) => !pair.includes(":"));
      setChildren(hint, invalid ? `“${invalid}” is not key:value` : "");
      input.setAttribute("aria-invalid", String(Boolean(invalid)));
      if (invalid) return;
    }
    onChange({ [name]: value });
  }

  async function load() {
    if (loaded) return;
    loaded = true;
    const [methods, datasets, architectures] = await Promise.all(["/v1/methods", "/v1/datasets", "/v1/architectures"].map((path) => allPages(path).catch(() => [])));
    setOptions(method, methods.map(({ name }) => [name, readable(name)]));
    setOptions(dataset, datasets.map(({ id, name }) => [id, name]));
    setChildren(names, architectures.map(({ name }) => el("option", { value: name })));
  }

  return {
    node,
    load,
    show(values) {
      for (const [name, input] of Object.entries(fields)) {
        if (input instanceof HTMLSelectElement && values[name] && ![...input.options].some(({ value }) => value === values[name])) setOptions(input, [[values[name], values[name]]]);
        if (input !== document.activeElement && input.value.trim() !== values[name]) input.value = values[name];
      }
      const active = FIELDS.filter((name) => values[name]).length;
      clear.hidden = !active;
      return active;
    },
  };
}

const select = (name, any) => el("select", { class: "input", id: `filter-${name}` }, el("option", { value: "" }, any));

// Replace the options; the selected one stays, even if it is not among them.
function setOptions(input, options) {
  const selected = input.value;
  const listed = options.some(([value]) => value === selected) || !selected;
  const extra = listed ? [] : [...input.options].filter(({ value }) => value === selected);
  setChildren(input, input.options[0], extra, options.map(([value, text]) => el("option", { value }, text)));
  input.value = selected;
}

export function filters(onSearch) {
  const links = new Map([["", stateLink("All")]]);
  for (const [name, [label]] of Object.entries(GROUPS)) links.set(name, stateLink(label));
  const search = searchField(() => set({}), { "aria-label": "Search jobs by name or id", placeholder: "Search name or id" });
  const more = morePanel(set);
  const toggle = button("Filters", () => open(more.node.hidden), { "aria-expanded": "false", "aria-controls": more.node.id });

  function set(changes) {
    search.cancel();
    replaceQuery({ q: search.text(), ...changes });
    onSearch(currentAddress().query);
  }

  function open(visible) {
    more.node.hidden = !visible;
    toggle.setAttribute("aria-expanded", String(visible));
    if (visible) more.load();
  }

  return {
    nodes: [
      el("nav", { class: "segments filters", "aria-label": "State" }, [...links.values()].map(({ link }) => link)),
      el("div", { class: "search-tools" }, toggle, search.node),
      more.node,
    ],
    box: search.input,
    stop: search.cancel,
    show(query) {
      const state = query.get("state") ?? "";
      const q = query.get("q") ?? "";
      const rest = Object.fromEntries(FIELDS.map((name) => [name, query.get(name) ?? ""]));
      search.show(q);
      for (const [name, { link }] of links) {
        link.setAttribute("href", href("/jobs", { state: name, q, ...rest }));
        if (name === state) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
      const active = more.show(rest);
      setText(toggle, active ? `Filters · ${active}` : "Filters");
      if (active) open(true);
    },
    count(states) {
      const total = Object.values(states).reduce((sum, num) => sum + num, 0);
      for (const [name, { link, count: tally }] of links) {
        const count = name ? GROUPS[name][1].reduce((sum, state) => sum + (states[state] ?? 0), 0) : total;
        setText(tally, integer(count));
        link.title = `${pluralize(count, "job")} of the project`;
      }
    },
  };
}

function stateLink(label) {
  const count = el("span", { class: "tally num", "aria-hidden": "true" }); // the title of the link has it
  return { link: el("a", {}, label, count), count };
}

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
