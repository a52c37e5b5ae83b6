// A new job: a form from the schemas of the API, validated while it is filled in.

import { get, isIgnorable, jobPath, post } from "../fetch.js";
import { announce, button, codeBlock, errorNotice, notice, showOutcome, smallButton } from "../components.js";
import { el, setChildren, setText } from "../dom.js";
import { bytes, capital, duration, integer, readable, si, times } from "../format.js";
import { shortName } from "../lookups.js";
import { href } from "../router.js";
import { assignFixes, Draft, FieldIssues, fieldTitle, fixButton, isEqual, withoutDefaults } from "../json-schema.js";
import { untilVisible } from "../streams.js";
import { tabs } from "../tabs.js";
import { fieldsOfKind, loadReady, sections, uploadZones } from "./new-page/sections.js";
import { idempotencyKey } from "./new-page/upload.js";

// State that stays while the user visits other pages.
const tab = { draft: null, source: null, clean: {}, previous: null, open: new Set(), uploads: null, root: null, methods: null, key: null, notify: null };
const RETRY_MS = 5000;
const EMPTY = "|||"; // the source of an address without parameters
const JOB = { $ref: "#/components/schemas/JobSpec" };
const body = () => withoutDefaults(JOB, fieldsOfKind(tab.draft.value), tab.root) ?? {};
const busy = () => Object.values(tab.uploads ?? {}).some((zone) => zone.busy());
const dirty = () => tab.draft && !isEqual(body(), tab.clean);

export function mount(main, { query }) {
  const abort = new AbortController();
  const heading = el("h1", { tabindex: "-1" }, "New job");
  const origin = el("div", { class: "new-message" });
  const message = el("div", { class: "new-message" });
  const columns = el("div", { class: "new" }, el("p", { class: "muted" }, "Loading…"));
  setChildren(main, heading, origin, message, columns);
  let ctx = null;
  let form = null;
  let panel = null;
  let last = null;
  let retryTimer = 0;

  const validator = createValidator(body, showState);

  async function begin(next) {
    try {
      await untilVisible(abort.signal);
      await load();
      await openDraft(next);
    } catch (error) {
      if (isIgnorable(error)) return;
      setChildren(columns, errorNotice(error, () => begin(next)));
      if (error.status === 0) retryTimer = setTimeout(() => begin(next), RETRY_MS);
    }
  }

  async function load() {
    if (ctx) return;
    const [root, methods, assets] = await Promise.all([tab.root ?? get("/openapi.json", {}, abort.signal), tab.methods ?? get("/v1/methods", { limit: 200 }, abort.signal), loadReady(abort.signal)]);
    Object.assign(tab, { root, methods });
    tab.notify = addAsset;
    ctx = { root, methods: methods.data, assets, open: tab.open, id: "f", rebuild: build, teachersChanged: () => form.teachersChanged() };
    panel = summaryPanel(ctx, { start, retry: validator.now, reveal: (pointer) => ctx.issues.reveal(pointer), fix, label: (pointer) => ctx.issues.find(pointer)?.label });
  }

  // Start the draft of the address; without parameters the present draft stays.
  async function openDraft(next) {
    const requested = ["from", "teacher", "dataset", "student"].map((key) => next.get(key) ?? "");
    const source = requested.join("|");
    if (!tab.draft || (source !== EMPTY && source !== tab.source)) {
      const [id, teacher, dataset, student] = requested;
      const old = id ? await get(jobPath(id), {}, abort.signal) : null;
      const job = old && withoutDefaults(JOB, old, tab.root, true);
      if (job?.name) job.name = `${job.name.slice(0, 190)} (copy)`;
      startDraft({ ...job, ...(teacher && { teachers: [{ model: teacher }] }), ...(dataset && { dataset }), ...(student && { student: { architecture: student } }) }, source);
      if (old) tab.title = `A copy of “${old.resolved.name}”.`;
    }
    build();
  }

  function startDraft(value, source) {
    if (dirty()) tab.previous = { draft: tab.draft, source: tab.source, clean: tab.clean, title: tab.title };
    Object.assign(tab, { draft: new Draft(value), source, title: "" });
    if (!busy()) tab.uploads = null; // their messages belong to the previous draft
    tab.clean = body();
  }

  function build(focus) {
    ctx.draft = tab.draft;
    ctx.uploads = tab.uploads ??= uploadZones(tab.root, (...args) => tab.notify(...args));
    ctx.issues = new FieldIssues(fix);
    tab.draft.onChange = () => { panel.update({ status: "checking" }); validator.later(); };
    form = sections(ctx);
    setChildren(columns, el("form", { class: "parts", autocomplete: "off", on: { submit: (event) => event.preventDefault() } }, form.nodes), panel.node);
    showOrigin();
    validator.now();
    if (focus) ctx.issues.reveal(focus);
  }

  function showOrigin() {
    const back = tab.previous && smallButton("Restore the previous draft", restoreDraft);
    const reset = (dirty() || tab.source !== EMPTY) && smallButton("Start over", startOver);
    setChildren(origin, el("p", { class: "muted" }, tab.title || "Only a data set and a student are required; everything else has a default."), reset, back);
  }

  function restoreDraft() {
    const { draft, source, clean, title } = tab.previous;
    tab.previous = null;
    Object.assign(tab, { draft, source, clean, title });
    build();
    heading.focus();
  }

  function startOver() {
    startDraft({}, EMPTY);
    history.replaceState(null, "", href("/new"));
    build();
    announce("The form is empty");
    heading.focus();
  }

  function showState(state) {
    last = state;
    showOutcome(state.error);
    const { list, rest } = assignFixes(state.status === "invalid" ? state.error.problem : {});
    const unplaced = ctx.issues.show(list);
    setChildren(message, unplaced.length + rest.length ? notice("", [unplaced.map(({ detail }) => el("p", {}, detail)), rest.map((patch) => fixButton(patch, fix))]) : []);
    panel.update({ ...state, issues: list.length || state.status !== "invalid" ? list : [{ pointer: "", detail: state.error.message }] });
    form.update(state.result?.methods, state.body);
    if (state.status === "invalid") loadMethods(state.body);
    showOrigin();
  }

  // The validation of an invalid job does not return the compatible methods.
  async function loadMethods({ student, teachers = [] }) {
    const teacher = teachers.map(({ model }) => ctx.assets.models.find(({ id }) => id === model)?.architecture).filter(Boolean);
    if (!student?.architecture && !teacher.length) return;
    try {
      const { data } = await get("/v1/methods", { student: student?.architecture, teacher, limit: 200 }, abort.signal);
      if (data[0].compatible !== null && last.status === "invalid") form.update(data, last.body);
    } catch { /* an unknown architecture, which the validation has reported */ }
  }

  function fix(patch) {
    const fixed = new Draft(body());
    fixed.set(patch.path, patch.op === "remove" ? undefined : patch.value);
    tab.draft.value = fixed.value;
    build(patch.path);
    announce("Changed");
  }

  function addAsset(kind, asset) {
    if (!tab.draft) return undefined; // the job was started meanwhile
    if (kind === "dataset") tab.draft.set("/dataset", asset.id);
    else tab.draft.set("/teachers", [...(tab.draft.get("/teachers") ?? []), { model: asset.id }]);
    if (abort.signal.aborted) return undefined;
    ctx.assets[kind === "dataset" ? "datasets" : "models"].unshift(asset);
    // The upload ends at any time: a field in use keeps its text and the focus.
    const { id, value } = document.activeElement;
    build();
    const field = id && columns.querySelector(`form #${CSS.escape(id)}`);
    if (!field) return ctx.issues.reveal(kind === "dataset" ? "/dataset" : `/teachers/${tab.draft.get("/teachers").length - 1}/model`);
    field.value = value;
    return field.focus();
  }

  async function start() {
    const spec = body();
    if (!tab.key || !isEqual(tab.key.body, spec)) tab.key = { body: spec, headers: idempotencyKey() };
    panel.setBusy(true);
    try {
      const { id } = await post("/v1/jobs", spec, { headers: tab.key.headers });
      validator.stop();
      Object.assign(tab, { draft: null, source: null, key: null });
      location.hash = href(`/jobs/${id}`);
    } catch (error) {
      panel.setBusy(false);
      if (error.status === 422) validator.now();
      else if (error.status !== 401) panel.showError(error);
    }
  }

  // Without this the browser opens a file that is dropped outside a drop zone.
  const ignore = (event) => event.preventDefault();
  const beforeUnload = (event) => (dirty() || busy()) && event.preventDefault();
  document.addEventListener("dragover", ignore);
  document.addEventListener("drop", ignore);
  addEventListener("beforeunload", beforeUnload);
  begin(query);

  return {
    update: (next) => ctx && begin(next),
    leave() {
      abort.abort();
      clearTimeout(retryTimer);
      validator.stop();
      if (tab.draft) tab.draft.onChange = () => {};
      document.removeEventListener("dragover", ignore);
      document.removeEventListener("drop", ignore);
      removeEventListener("beforeunload", beforeUnload);
    },
  };
}

const PAUSE_MS = 400;

/** Validates `body()` by the API. `onState({status: "empty" | "valid" | "invalid" | "failed", body, result?, error?})`. */
function createValidator(body, onState) {
  let timer = 0;
  let request = null;

  function later() {
    stop();
    timer = setTimeout(now, PAUSE_MS);
  }

  async function now() {
    stop();
    if (document.hidden) return;
    const spec = body();
    if (!spec.dataset && !spec.student && !spec.model && !spec.teachers) {
      onState({ status: "empty", body: spec });
      return;
    }
    request = new AbortController();
    try {
      onState({ status: "valid", body: spec, result: await post("/v1/jobs?validate_only=true", spec, { signal: request.signal }) });
    } catch (error) {
      if (error.name === "AbortError") return;
      onState({ status: error.status === 422 || error.status === 400 ? "invalid" : "failed", body: spec, error });
      if (error.status === 0) timer = setTimeout(now, RETRY_MS);
    }
  }

  function stop() {
    clearTimeout(timer);
    request?.abort();
    request = null;
  }

  const onVisibility = () => document.hidden || now();
  document.addEventListener("visibilitychange", onVisibility);
  return {
    later, now,
    stop() {
      stop();
      document.removeEventListener("visibilitychange", onVisibility);
    },
  };
}

/** `on`: {start(), retry(), reveal(pointer), fix(patch), label(pointer)}. */
function summaryPanel(ctx, on) {
  const job = el("div", { class: "stack-small" });
  const statusText = el("p", { class: "small", role: "status", id: "start-status" });
  const issueList = el("ul", { class: "issues" });
  const start = button("Start job", on.start, { class: "primary", disabled: true, "aria-describedby": "start-status" });
  const failure = el("div");
  const snippets = Object.entries(SNIPPETS).map(([name, write]) => ({ name, write, node: codeBlock("", `The job by ${name}`, `Copy the ${name} text`) }));
  const formats = tabs("Copy as", snippets.map(({ name, node }) => ({ id: `as-${name.toLowerCase()}`, label: name, create: () => node })), "as-curl", () => {});
  const node = el("aside", { class: "job-summary", "aria-label": "This job" },
    el("div", { class: "panel part" }, el("h2", {}, "This job"), job, el("div", { class: "go" }, start, statusText, issueList, failure)),
    el("div", { class: "panel part" }, el("h2", {}, "Copy as"), formats.node));

  function update({ status, body, result, issues = [], error }) {
    start.disabled = status !== "valid";
    node.dataset.status = status;
    setText(statusText, statusWords(status, issues));
    if (status === "checking") return;
    setChildren(failure);
    for (const { write, node: block } of snippets) setText(block.firstChild, write(body));
    setChildren(issueList, issues.map((issue) => issueItem(issue, on)));
    if (status === "failed") setChildren(failure, errorNotice(error, on.retry));
    if (result) setChildren(job, summary(result, ctx), outline(result), time(result.estimate), result.warnings.map((text) => el("p", { class: "notice", "data-tone": "wait" }, text)), result.resolved.kind === "evaluate" ? null : compatibility(result.methods));
    else if (!job.firstChild) setChildren(job, el("p", { class: "help" }, "Choose a data set and a student to see the complete job here."));
    job.dataset.stale = !result && job.childElementCount > 1;
  }

  return { node, update, showError: (cause) => setChildren(failure, errorNotice(cause)), setBusy: (busy) => { start.disabled = busy; setText(start, busy ? "Starting…" : "Start job"); } };
}

function statusWords(status, issues) {
  if (status === "checking") return "Checking…";
  if (status === "valid") return "Ready to start.";
  if (status === "empty") return "The job needs a data set and a student.";
  if (status === "failed") return "The job could not be validated.";
  return issues.length === 1 ? "One thing is missing or wrong:" : `${issues.length} things are missing or wrong:`;
}

function issueItem({ pointer, detail, fix = [] }, on) {
  const name = on.label(pointer) ?? (pointer.split("/").slice(1).map(fieldTitle).join(", ") || "The job");
  return el("li", {}, el("button", { class: "plain-link", type: "button", on: { click: () => on.reveal(pointer) } }, name), `: ${detail} `, fix.map((patch) => fixButton(patch, on.fix)));
}

function summary({ resolved }, ctx) {
  const teachers = resolved.teachers.map(({ model }) => shortName(ctx.assets.models.find(({ id }) => id === model)?.architecture) || model);
  const { student, model, method } = resolved;
  if (resolved.kind === "evaluate") return el("p", { class: "gist" }, "Evaluates ", el("b", {}, ctx.assets.models.find(({ id }) => id === model)?.name ?? model), " on the test split.");
  return el("p", { class: "gist" }, teachers.length ? [el("b", {}, teachers.join(" + ")), " → "] : null, el("b", {}, shortName(student.architecture)),
    student.derive ? `, ${readable(student.convolution ?? "")}` : null, ` by ${method.map(({ type }) => readable(type)).join(" + ")}`);
}

function outline({ resolved, estimate }) {
  const { trainings, steps, num_params, student_size_bytes, teacher_size_bytes } = estimate;
  const smaller = teacher_size_bytes / student_size_bytes;
  const lines = [
    ["Trainings", trainings > 0 && `${trainings} of ${resolved.training.epochs} epochs`],
    ["Steps", steps > 0 && integer(steps)],
    ["Scheme", resolved.scheme && resolved.scheme.type !== "offline" && readable(resolved.scheme.type)],
    ["Also trained", resolved.evaluation?.baseline && "the student without a teacher"],
    ["Student", num_params && `${si(num_params)} parameters`],
    ["Student's size", student_size_bytes && `${bytes(student_size_bytes)}${smaller > 1.05 ? `, ${times(smaller)} smaller` : ""}`],
    ["Teacher's size", teacher_size_bytes && bytes(teacher_size_bytes)],
    ["Exports", trainings > 0 && resolved.exports.join(", ")],
  ];
  return el("dl", { class: "outline" }, lines.filter(([, text]) => text).map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text))));
}

function time({ seconds, basis }) {
  if (!seconds) return el("p", { class: "time" }, el("b", {}, "Duration unknown"), el("span", { class: "help" }, `${capital(basis ?? "no similar job has finished yet")}.`));
  const { low, likely, high } = seconds;
  return el("p", { class: "time" }, el("b", {}, `About ${duration(likely)}`), el("span", {}, `${duration(low)} to ${duration(high)}`), basis ? el("span", { class: "help" }, basis) : null);
}

function compatibility(methods) {
  if (!methods.length) return null;
  const incompatible = methods.filter(({ compatible }) => !compatible);
  const text = `${methods.length - incompatible.length} of ${methods.length} methods are compatible`;
  if (!incompatible.length) return el("p", { class: "help" }, text);
  const groups = Object.groupBy(incompatible, ({ reason: cause, help }) => `${cause}: ${help}.`);
  return el("details", { class: "small" }, el("summary", {}, text),
    Object.entries(groups).map(([cause, list]) => el("p", { class: "help" }, el("b", {}, list.map(({ name }) => readable(name)).join(", ")), `: ${cause}`)));
}

const json = (body) => JSON.stringify(body, null, 2);
const PYTHON = { true: "True", false: "False", null: "None" };
const pythonic = (text) => text.replace(/"(?:[^"\\]|\\.)*"|\b(?:true|false|null)\b/g, (token) => PYTHON[token] ?? token);

const SNIPPETS = {
  curl: (body) => `curl ${location.origin}/v1/jobs \\\n  -H "Authorization: Bearer $KEY" \\\n  --json '${json(body).replaceAll("'", "'\\''")}'`,
  Python: (body) => `import os  # set KEY before: export KEY=…
from stillhouse.client import Client

with Client("${location.origin}", os.environ["KEY"]) as client:
    job = client.post("/v1/jobs", ${pythonic(json(body)).replaceAll("\n", "\n    ")})
    print(job["id"])
    client.wait(job)`,
  CLI: (body) => `cat > job.json <<'END'\n${json(body)}\nEND\nSTILLHOUSE_URL=${location.origin} STILLHOUSE_API_KEY=$KEY stillhouse submit job.json --wait`,
};
