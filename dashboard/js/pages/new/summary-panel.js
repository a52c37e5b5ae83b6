// The panel beside the form: the validated job, its estimate, the start button, and the job as a command.

import { post } from "../../api.js";
import { button, codeBlock, errorNotice } from "../../components.js";
import { el, setChildren, setText } from "../../dom.js";
import { bytes, capital, duration, integer, readable, si, times } from "../../format.js";
import { shortName } from "../../lookups.js";
import { fieldTitle, fixButton } from "../../schema.js";
import { tabs } from "../../tabs.js";

const PAUSE_MS = 400;
const RETRY_MS = 5000;

/** Validates `body()` by the API. `onState({status: "empty" | "valid" | "invalid" | "failed", body, result?, error?})`. */
export function createValidator(body, onState) {
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
export function summaryPanel(ctx, on) {
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
