// Artifacts to download, each with its digest; and the job's runs.

import { all, jobPath } from "../../api.js";
import { el, put } from "../../dom.js";
import { between, bytes, duration, moment } from "../../format.js";
import { copyButton, problem, table } from "../../parts.js";

/** A tab that shows a list of the API and asks again when the job's state changes. */
function listTab(part, show, none) {
  const node = el("div", {}, el("p", { class: "muted" }, "Loading…"));
  let seen = "";
  return {
    node,
    async update(job) {
      const now = `${job.state}.${job.run}`;
      if (now === seen) return;
      seen = now;
      try {
        const items = await all(jobPath(job.id, part));
        put(node, items.length ? show(items) : el("p", { class: "muted" }, none));
      } catch (error) {
        seen = "";
        put(node, problem(error, () => this.update(job)));
      }
    },
  };
}

const order = (item) => (item.name === "student.safetensors" ? "" : item.name);

export const artifactsTab = () => listTab("/artifacts", (items) => table({
  caption: "Artifacts",
  columns: ["Artifact", "Format", "Size", "SHA-256"],
  rows: [...items].sort((a, b) => (order(a) < order(b) ? -1 : 1)).map((item) => [
    el("a", { href: item.links.content, download: item.name }, item.name),
    item.format,
    bytes(item.size_bytes),
    el("span", { class: "digest" }, el("code", { class: "mono", title: item.sha256, "data-sha256": item.sha256 }, `${item.sha256.slice(0, 16)}…`),
      copyButton(() => item.sha256, `Copy the SHA-256 of ${item.name}`)),
  ]),
}), "Artifacts come when the job has succeeded.");

export const runsTab = () => listTab("/runs", (items) => table({
  caption: "Runs",
  columns: ["Run", "Worker", "Device", "Started", "Took", "Ended", "Went on from"],
  rows: items.map((run) => [
    `Run ${run.number}`,
    run.worker,
    run.device ?? "–",
    moment(run.started_at),
    duration(between(run.started_at, run.ended_at)),
    run.exit ?? "still running",
    run.resumed_from_step === null ? "the start" : `step ${run.resumed_from_step.toLocaleString("en-GB")}`,
  ]),
}), "No worker has taken the job yet.");
