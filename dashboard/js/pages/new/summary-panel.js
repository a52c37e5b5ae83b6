// Beside the form: what the API says of the job, the same job as a command, and the start.

import { post } from "../../api.js";
import { button, copyButton, errorNotice } from "../../components.js";
import { el, setChildren, setText } from "../../dom.js";
import { bytes, capital, duration, readable, si, times, integer } from "../../format.js";
import { shortName } from "../../lookups.js";
import { fixButton, fieldTitle } from "../../schema.js";
import { tabs } from "../../tabs.js";

const PAUSE_MS = 400;
const AGAIN_MS = 5000;

/** `body()`: the job; `tell(state)`: {status: "empty" | "checking" | "valid" | "invalid" | "broken", body, answer?, error?}. */
export function checker(body, tell) {
  let timer = 0;
  let request = null;

  function later() {
    stop();
    timer = setTimeout(now, PAUSE_MS);
  }

  async function now() {
    stop();
    if (document.hidden) return;
    const asked = body();
    if (!asked.dataset && !asked.student && !asked.model && !asked.teachers) {
      tell({ status: "empty", body: asked });
      return;
    }
    request = new AbortController();
    try {
      tell({ status: "valid", body: asked, answer: await post("/v1/jobs?validate_only=true", asked, { signal: request.signal }) });
    } catch (error) {
      if (error.name === "AbortError") return;
      tell({ status: error.status === 422 || error.status === 400 ? "invalid" : "broken", body: asked, error });
      if (error.status === 0) timer = setTimeout(now, AGAIN_MS);
    }
  }

  function stop() {
    clearTimeout(timer);
    request?.abort();
    request = null;
  }

  const seen = () => document.hidden || now();
  document.addEventListener("visibilitychange", seen);
  return {
    later, now,
    stop() {
      stop();
      document.removeEventListener("visibilitychange", seen);
    },
  };
}

export function rail(ctx, on) {
  const job = el("div", { class: "stack-small" });
  const why = el("p", { class: "small", role: "status", id: "start-why" });
  const faults = el("ul", { class: "missing" });
  const start = button("Start job", on.start, { class: "primary", disabled: true, "aria-describedby": "start-why" });
  const failed = el("div");
  const snippets = Object.entries(SNIPPETS).map(([name, write]) => {
    const pre = el("pre", { tabindex: "0", role: "region", "aria-label": `The job by ${name}` });
    return { name, write, pre, node: el("div", { class: "code" }, pre, copyButton(() => pre.textContent, `Copy the ${name} text`)) };
  });
  const as = tabs("Copy as", snippets.map(({ name, node }) => ({ id: `as-${name.toLowerCase()}`, label: name, create: () => node })), "as-curl", () => {});
  const node = el("aside", { class: "rail", "aria-label": "This job" },
    el("div", { class: "panel part" }, el("h2", {}, "This job"), job, el("div", { class: "go" }, start, why, faults, failed)),
    el("div", { class: "panel part" }, el("h2", {}, "Copy as"), as.node));

  function update({ status, body, answer, problems = [], error }) {
    start.disabled = status !== "valid";
    node.dataset.status = status;
    setText(why, reason(status, problems));
    if (status === "checking") return;
    setChildren(failed);
    for (const { write, pre } of snippets) setText(pre, write(body));
    setChildren(faults, problems.map((fault) => item(fault, on)));
    if (status === "broken") setChildren(failed, errorNotice(error, on.again));
    if (answer) setChildren(job, gist(answer, ctx), facts(answer), time(answer.estimate), answer.warnings.map((text) => el("p", { class: "notice", "data-tone": "wait" }, text)), answer.resolved.kind === "evaluate" ? null : fitting(answer.methods));
    else if (!job.firstChild) setChildren(job, el("p", { class: "help" }, "Choose a data set and a student: what would run is shown here."));
    job.dataset.stale = !answer && job.childElementCount > 1;
  }

  return { node, update, failed: (cause) => setChildren(failed, errorNotice(cause)), busy: (on_) => { start.disabled = on_; setText(start, on_ ? "Starting…" : "Start job"); } };
}

function reason(status, problems) {
  if (status === "checking") return "Checking…";
  if (status === "valid") return "Ready to start.";
  if (status === "empty") return "It needs a data set and a student.";
  if (status === "broken") return "It could not be checked.";
  return problems.length === 1 ? "One thing is missing or wrong:" : `${problems.length} things are missing or wrong:`;
}

function item({ pointer, detail, fix = [] }, on) {
  const name = on.label(pointer) ?? (pointer.split("/").slice(1).map((step) => fieldTitle(step)).join(", ") || "The job");
  return el("li", {}, el("button", { class: "plain-link", type: "button", on: { click: () => on.reveal(pointer) } }, name), `: ${detail} `, fix.map((patch) => fixButton(patch, on.fix)));
}

function gist({ resolved }, ctx) {
  const teachers = resolved.teachers.map(({ model }) => shortName(ctx.assets.models.find(({ id }) => id === model)?.architecture) || model);
  const { student, model, method } = resolved;
  if (resolved.kind === "evaluate") return el("p", { class: "gist" }, "Measures ", el("b", {}, ctx.assets.models.find(({ id }) => id === model)?.name ?? model), " on the test split.");
  return el("p", { class: "gist" }, teachers.length ? [el("b", {}, teachers.join(" + ")), " → "] : null, el("b", {}, shortName(student.architecture)),
    student.derive ? `, ${(student.convolution ?? "").replaceAll("_", " ")}` : null, ` by ${method.map(({ type }) => readable(type)).join(" + ")}`);
}

function facts({ resolved, estimate }) {
  const { trainings, steps, num_params, student_size_bytes, teacher_size_bytes } = estimate;
  const smaller = teacher_size_bytes / student_size_bytes;
  const lines = [
    ["Trainings", trainings > 0 && `${trainings} of ${resolved.training.epochs} epochs`],
    ["Steps", steps > 0 && integer(steps)],
    ["Scheme", resolved.scheme && resolved.scheme.type !== "offline" && readable(resolved.scheme.type)],
    ["Also trained", resolved.evaluation?.baseline && "the student without a teacher"],
    ["Student", num_params && `${si(num_params)} parameters`],
    ["Its size", student_size_bytes && `${bytes(student_size_bytes)}${smaller > 1.05 ? `, ${times(smaller)} smaller` : ""}`],
    ["Teacher's size", teacher_size_bytes && bytes(teacher_size_bytes)],
    ["Published as", trainings > 0 && resolved.exports.join(", ")],
  ];
  return el("dl", { class: "outline" }, lines.filter(([, text]) => text).map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text))));
}

function time({ seconds, basis }) {
  if (!seconds) return el("p", { class: "time" }, el("b", {}, "Time not known"), el("span", { class: "help" }, `${capital(basis ?? "nothing like it was measured here yet")}.`));
  const { low, likely, high } = seconds;
  return el("p", { class: "time" }, el("b", {}, `About ${duration(likely)}`), el("span", {}, `${duration(low)} to ${duration(high)}`), basis ? el("span", { class: "help" }, basis) : null);
}

function fitting(methods) {
  if (!methods.length) return null;
  const bad = methods.filter(({ compatible }) => !compatible);
  const text = `${methods.length - bad.length} of ${methods.length} methods fit`;
  if (!bad.length) return el("p", { class: "help" }, text);
  const groups = Object.groupBy(bad, ({ reason: cause, help }) => `${cause}: ${help}.`);
  return el("details", { class: "small" }, el("summary", {}, text),
    Object.entries(groups).map(([cause, list]) => el("p", { class: "help" }, el("b", {}, list.map(({ name }) => readable(name)).join(", ")), `: ${cause}`)));
}

const json = (body) => JSON.stringify(body, null, 2);
const PYTHON = { true: "True", false: "False", null: "None" };
const pythonic = (text) => text.replace(/"(?:[^"\\]|\\.)*"|\b(?:true|false|null)\b/g, (each) => PYTHON[each] ?? each);

const SNIPPETS = {
  curl: (body) => `curl ${location.origin}/v1/jobs \\\n  -H "Authorization: Bearer $KEY" \\\n  --json '${json(body).replaceAll("'", "'\\''")}'`,
  Python: (body) => `import os  # and before: export KEY=…
from stillhouse.client import Client

with Client("${location.origin}", os.environ["KEY"]) as client:
    job = client.post("/v1/jobs", ${pythonic(json(body)).replaceAll("\n", "\n    ")})
    print(job["id"])
    client.wait(job)`,
  CLI: (body) => `cat > job.json <<'END'\n${json(body)}\nEND\nSTILLHOUSE_URL=${location.origin} STILLHOUSE_API_KEY=$KEY stillhouse submit job.json --wait`,
};
