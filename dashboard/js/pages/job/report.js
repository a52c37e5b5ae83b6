// The report as tables: everything that was measured, the criteria, every class.

import { el, put } from "../../dom.js";
import { brief, bytes, fixed, si } from "../../format.js";
import { table } from "../../parts.js";

const percent = (value) => (value === null || value === undefined ? "–" : `${fixed(value, 2)} %`);
const ms = (value) => `${fixed(value, 2)} ms`;
const ROWS = [
  ["Top-1", (one) => percent(one.top1)],
  ["Top-5", (one) => percent(one.top5)],
  ["Agreement", (one) => percent(one.agreement)],
  ["KL to the teacher", (one) => (one.kl_to_teacher === null ? "–" : `${brief(one.kl_to_teacher)} nats`)],
  ["Calibration error", (one) => percent(one.ece)],
  ["Parameters", (one) => one.num_params.toLocaleString("en-GB")],
  ["MACs", (one) => si(one.macs)],
  ["Size", (one) => bytes(one.size_bytes)],
  ["Latency, p50", (one) => ms(one.latency_ms.p50)],
  ["Latency, p95", (one) => ms(one.latency_ms.p95)],
  ["Throughput", (one) => `${brief(one.images_per_s)} images/s`],
];

export function reportTab() {
  const node = el("div", { class: "stack" });
  return {
    node,
    update(job, report) {
      if (!report) {
        put(node, el("p", { class: "muted" }, job.state === "succeeded" ? "Loading the report…" : "The report comes when the job has succeeded."));
        return;
      }
      const who = [["Student", report.student], ["Teacher", report.teacher], ["Undistilled student", report.baseline]].filter(([, one]) => one);
      put(node, el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Measurements" }, measured(who)), criteria(report.verdict.checks), classes(who), foot(report));
    },
  };
}

function measured(who) {
  return table({
    caption: "Measured on the test split", className: "plain",
    columns: ["On the test split", ...who.map(([name]) => name)],
    rows: ROWS.map(([name, show]) => [name, ...who.map(([, one]) => show(one))]),
  });
}

function criteria(checks) {
  if (!checks.length) return null;
  const rows = checks.map((check) => [check.name.replaceAll("_", " "), brief(check.limit), brief(check.value), check.passed ? "✓ met" : "✗ not met"]);
  return table({ caption: "Acceptance", columns: ["Criterion", "Limit", "Measured", "Verdict"], rows });
}

function classes(who) {
  const names = Object.keys(who[0][1].per_class_top1);
  const rows = names.slice(0, 1000).map((name) => [name, ...who.map(([, one]) => percent(one.per_class_top1[name]))]);
  return el("details", {}, el("summary", {}, `Top-1 by class (${names.length})`),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Top-1 by class" }, table({ caption: "Top-1 by class", columns: ["Class", ...who.map(([name]) => name)], rows, className: "plain" })));
}

function foot({ device, epochs, versions }) {
  const used = Object.entries(versions ?? {}).map(([name, version]) => `${name} ${version}`).join(", ");
  return el("p", { class: "muted small" },
    // An evaluation has trained nothing.
    epochs ? `The delivered student is of epoch ${epochs.best_epoch}, the best on validation (${percent(epochs.best_val_top1)}; last epoch ${percent(epochs.last_val_top1)}). ` : "",
    `Speed measured on ${device}. ${used}`);
}
