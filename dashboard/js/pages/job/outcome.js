// What came out: one sentence, five numbers beside the teacher's and the undistilled student's.

import { el, put, svg } from "../../dom.js";
import { bytes, fixed, points, si, times } from "../../format.js";

const WHO = { teacher: ["Teacher", "9 5"], undistilled: ["Undistilled", "2 4"] };

export function outcome() {
  const node = el("section", { class: "band", "aria-labelledby": "outcome", hidden: true });
  return {
    node,
    update(report) {
      node.hidden = !report;
      if (report) put(node, el("h2", { class: "hidden", id: "outcome" }, "Outcome"), gist(report), verdict(report.verdict), el("div", { class: "panel tiles" }, tiles(report)));
    },
  };
}

function gist({ student, teacher, seeds, epochs }) {
  if (!teacher) return el("p", { class: "gist" }, epochs ? "Trained without a teacher: " : "Measured as it is: ", el("b", {}, `${fixed(student.top1)} %`), " top-1 on the test split.");
  const distance = points(student.top1 - teacher.top1);
  const smaller = teacher.num_params / student.num_params;
  const helped = seeds?.helped_by;
  const spread = seeds?.num_seeds > 1 && helped ? ` ± ${fixed(helped.std)}` : "";
  return el("p", { class: "gist" },
    "The student reaches ", el("b", {}, `${fixed(student.top1)} %`), " top-1, ", el("b", {}, distance), " from its teacher",
    smaller > 1.05 ? [", with ", el("b", {}, `${times(smaller)} fewer parameters`)] : null, ".",
    helped ? [" Distillation ", helped.mean >= 0 ? "helped: " : "did not help: ", el("b", {}, `${points(helped.mean)}${spread}`), ` against the undistilled student${seeds?.num_seeds > 1 ? "" : ", with one seed"}.`] : null);
}

function verdict({ accepted, checks }) {
  if (accepted === null) return null;
  const bad = checks.filter((check) => !check.passed).map((check) => check.name.replaceAll("_", " "));
  return el("p", { class: "notice", "data-tone": accepted ? null : "bad" },
    el("strong", {}, accepted ? "Accepted: every criterion holds" : "Not accepted"), bad.length ? `Missed: ${bad.join(", ")}.` : null);
}

function tiles({ student, teacher, baseline }) {
  const of = (pick, show) => [["teacher", teacher], ["undistilled", baseline]].filter(([, one]) => one && pick(one) !== null).map(([who, one]) => [who, show(pick(one))]);
  const cost = (pick, show, better) => (teacher ? [["teacher", show(pick(teacher))], [null, ratio(pick(teacher) / pick(student), ...better)]] : []);
  const p50 = (one) => one.latency_ms.p50;
  const ms = (value) => `${fixed(value, value < 10 ? 2 : 1)} ms`;
  return [
    tile("Top-1, test", fixed(student.top1), "%", of((one) => one.top1, (value) => fixed(value))),
    student.agreement === null ? null : tile("Agreement", fixed(student.agreement), "%", baseline?.agreement != null ? [["undistilled", fixed(baseline.agreement)]] : []),
    tile("Parameters", ...unit(si(student.num_params)), cost((one) => one.num_params, si, ["fewer", "more"])),
    tile("Size", ...unit(bytes(student.size_bytes)), cost((one) => one.size_bytes, bytes, ["smaller", "larger"])),
    tile("Latency, p50", ...unit(ms(p50(student))), cost(p50, ms, ["faster", "slower"])),
    teacher ? null : tile("Throughput", ...unit(si(student.images_per_s)), []),
  ];
}

const unit = (text) => [text.split(" ")[0], text.split(" ").slice(1).join(" ")];
const ratio = (value, better, worse) => (value >= 1 ? `${times(value)} ${better}` : `${times(1 / value)} ${worse}`);

function tile(name, value, unitText, lines) {
  return el("div", { class: "tile" }, el("h3", {}, name),
    el("p", { class: "value" }, value, unitText ? el("small", {}, unitText) : null),
    el("dl", {}, lines.map(([who, text]) => (who
      ? el("div", {}, el("dt", {}, swatch(who), WHO[who][0]), el("dd", {}, text))
      : el("div", {}, el("dt", {}, text), el("dd"))))));
}

function swatch(who) {
  const line = svg("line", { x1: 0, x2: 22, y1: 4, y2: 4, "stroke-dasharray": WHO[who][1] });
  line.style.stroke = `var(--${who})`;
  return svg("svg", { class: "swatch", viewBox: "0 0 22 8", "aria-hidden": "true" }, line);
}
