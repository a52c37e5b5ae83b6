// The outcome at the top of a job's page: what is wrong with a student is said with numbers, cause and hint.

import { outcome } from "/static/js/pages/job-page/job-report.js";
import { equal, test } from "./testing.js";

const EVALUATION = { top1: 53.8, agreement: null, num_params: 1000, size_bytes: 4000, latency_ms: { p50: 1, p95: 2 }, images_per_s: 100 };
const FINDING = { code: "worse_than_baseline", message: "distillation made the student worse: top-1 53.8 %", cause: "the student still improved", hint: "train for more than 3 epochs" };
const report = (verdict) => ({ student: EVALUATION, teacher: null, baseline: null, epochs: null, details: {}, verdict: { accepted: null, checks: [], ...verdict } });

function notices(verdict) {
  const band = outcome();
  band.update(report(verdict), { usage: {} });
  return [...band.node.querySelectorAll(".notice")].map((node) => node.textContent);
}

test("findings of the verdict are shown with cause and hint", () => {
  const [text, ...others] = notices({ findings: [FINDING] });
  equal(others.length, 0);
  for (const part of [FINDING.message, FINDING.cause, FINDING.hint]) equal(text.includes(part), true);
});

test("a report without findings has no warnings", () => {
  equal(notices({ findings: [] }).length, 0);
  equal(notices({}).length, 0); // reports of version 0.1.0 have no such field
});
