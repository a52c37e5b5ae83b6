// The outcome at the top of a job's page, and the tab with the complete report.

import { get, isIgnorable } from "../../fetch.js";
import { clamp, notice, scrollRegion, scrollTable, smallButton, swatch, table, tableFrame, thumbnails, titledSection } from "../../components.js";
import { el, setChildren } from "../../dom.js";
import { brief, bytes, pluralize, duration, decimal, integer, ms, percent, points, readable, si, times } from "../../format.js";
import { findAssetIfPossible } from "../../lookups.js";

const NETWORKS = { teacher: ["Teacher", [9, 5]], undistilled: ["Undistilled", [2, 4]] };

export function outcome() {
  const node = el("section", { class: "band", "aria-labelledby": "outcome", hidden: true });
  return {
    node,
    update(report, job) {
      node.hidden = !report;
      if (report) setChildren(node, el("h2", { class: "hidden", id: "outcome" }, "Outcome"), summary(report), verdict(report.verdict), report.verdict.findings?.map(({ message, cause, hint }) => notice(`Warning: ${message}`, `Likely cause: ${cause}. To try: ${hint}.`)), el("div", { class: "panel tiles" }, tiles(report, job)));
    },
  };
}

function summary({ student, teacher, seeds, epochs }) {
  const top1 = el("b", {}, percent(student.top1, 1));
  if (!teacher) return el("p", { class: "gist" }, epochs ? "Trained without a teacher: " : "Evaluated without training: ", top1, " top-1 on the test split.");
  const smaller = teacher.num_params / student.num_params;
  const gain = seeds?.top1_gain;
  const many = seeds?.num_seeds > 1;
  return el("p", { class: "gist" },
    "The student reaches ", top1, " top-1, ", el("b", {}, points(student.top1 - teacher.top1)), " from its teacher",
    smaller > 1.05 ? [", with ", el("b", {}, `${times(smaller)} fewer parameters`)] : null, ".",
    gain ? [" Distillation ", gain.mean >= 0 ? "helped: " : "did not help: ", el("b", {}, `${points(gain.mean)}${many ? ` ± ${decimal(gain.std)}` : ""}`), ` against the undistilled student${many ? "" : ", with one seed"}.`] : null);
}

function verdict({ accepted, checks }) {
  if (accepted === null) return el("p", { class: "muted small" }, "Verdict: none, because the job has no acceptance criteria.");
  const missed = checks.filter((check) => !check.passed).map((check) => readable(check.name));
  return notice(accepted ? "Accepted: all criteria are met" : "Not accepted", missed.length ? `Missed: ${missed.join(", ")}.` : null, { tone: accepted ? null : "bad" });
}

function tiles({ student, teacher, baseline, details }, job) {
  // Lines of a tile: [network, text], or [null, remark].
  const others = (pick, show) => [["teacher", teacher], ["undistilled", baseline]].filter(([, results]) => results && pick(results) !== null).map(([name, results]) => [name, show(pick(results))]);
  const cost = (pick, show, better) => (teacher && pick(teacher) ? [["teacher", show(pick(teacher))], [null, ratio(pick(teacher) / pick(student), ...better)]] : []);
  const p50 = (results) => results.latency_ms.p50;
  return [
    tile("Top-1, test", percent(student.top1, 1), others((results) => results.top1, (value) => decimal(value))),
    student.agreement === null ? null : tile("Agreement", percent(student.agreement, 1), baseline?.agreement != null ? [["undistilled", decimal(baseline.agreement)]] : []),
    tile("Parameters", si(student.num_params), cost((results) => results.num_params, si, ["fewer", "more"])),
    tile("Size", bytes(student.size_bytes), cost((results) => results.size_bytes, bytes, ["smaller", "larger"])),
    tile("Latency, p50", ms(p50(student)), cost(p50, ms, ["faster", "slower"])),
    teacher ? null : tile("Throughput", si(student.images_per_s), []),
    job.usage?.device_s ? tile("Device time", duration(job.usage.device_s), details?.training_s ? [[null, `${duration(details.training_s)} of it training`]] : [], true) : null,
  ];
}

const ratio = (value, better, worse) => (value >= 1 ? `${times(value)} ${better}` : `${times(1 / value)} ${worse}`);

// The unit of a value is printed small. A time has several units, so `isTime` leaves them.
function tile(name, text, lines, isTime = false) {
  const [value, ...unit] = isTime ? [text] : text.split(" ");
  return el("div", { class: "tile" }, el("h3", {}, name), el("p", { class: "value" }, value, unit.length ? el("small", {}, unit.join(" ")) : null),
    el("dl", {}, lines.map(([network, line]) => (network
      ? el("div", {}, el("dt", {}, swatch(`--${network}`, NETWORKS[network][1]), NETWORKS[network][0]), el("dd", {}, line))
      : el("div", {}, el("dt", {}, line), el("dd"))))));
}

const ROWS = [
  ["Top-1", (results) => percent(results.top1)],
  ["Top-5", (results) => percent(results.top5)],
  ["Agreement", (results) => percent(results.agreement)],
  ["KL to the teacher", (results) => (results.kl_to_teacher == null ? "–" : `${brief(results.kl_to_teacher)} nats`)],
  ["Calibration error", (results) => percent(results.ece)],
  ["Parameters", (results) => integer(results.num_params)],
  ["MACs", (results) => si(results.macs)],
  ["Size", (results) => bytes(results.size_bytes)],
  ["Latency, p50", (results) => ms(results.latency_ms.p50)],
  ["Latency, p95", (results) => ms(results.latency_ms.p95)],
  ["Latency as ONNX on one core, p50", (results) => ms(results.cpu_latency_ms?.p50)],
  ["Throughput", (results) => `${brief(results.images_per_s)} images/s`],
];

/** The measurements of all networks of a report as a table; rows without any value are left out. */
export function measurements(report) {
  const networks = [["Student", report.student], ["Teacher", report.teacher], ["Undistilled student", report.baseline]].filter(([, results]) => results);
  const rows = ROWS.map(([name, show]) => [name, ...networks.map(([, results]) => show(results))]);
  return { networks, columns: ["On the test split", ...networks.map(([name]) => name)], rows: rows.filter(([, ...cells]) => cells.some((text) => text !== "–")) };
}

export function reportTab(store) {
  const node = el("div", { class: "stack" });
  let shown = null;
  return {
    node,
    async update(job, report) {
      if (!report) {
        setChildren(node, el("p", { class: "muted" }, job.state === "succeeded" ? "Loading the report…" : "The report is written when the job succeeds."));
        return;
      }
      if (shown === report) return;
      shown = report;
      const { networks, columns, rows } = measurements(report);
      const confusionPanel = el("div", { class: "stack" });
      setChildren(node, scrollTable("Measurements", columns, rows, "plain"),
        seeds(report.seeds), criteria(report.verdict.checks), exportTable(report), confusionPanel, gallery(report, job.dataset, store.signal), classes(networks), footer(report));
      const names = (await findAssetIfPossible("datasets", job.dataset))?.classes ?? Object.keys(report.student.per_class_top1);
      if (report.confusion) setChildren(confusionPanel, confusion(report.confusion, names));
      else confusionPanel.remove();
    },
  };
}

function seeds(statistics) {
  if (!statistics) return null;
  const { num_seeds: number, student_top1: top1, statement } = statistics;
  const spread = top1.std === null ? "" : ` ± ${decimal(top1.std, 2)}`;
  const comparison = statement ? `Student against undistilled student, ${statement.replaceAll("-", "−")}.` : "";
  return el("p", {}, el("b", {}, "Seeds. "), `${pluralize(number, "seed")}: top-1 ${decimal(top1.mean, 2)}${spread} %. `, comparison);
}

function criteria(checks) {
  if (!checks.length) return null;
  const rows = checks.map((check) => [readable(check.name), brief(check.limit), brief(check.value), check.passed ? "✓ met" : "✗ not met"]);
  return table({ caption: "Acceptance", columns: ["Criterion", "Limit", "Measured", "Verdict"], rows });
}

const EXPORT_COLUMNS = ["Format", "File", "Top-1", "Agrees with PyTorch", "Size", "Latency, p50", "Images/s"];

function exportTable({ exports = {}, refused_exports: refused = {}, ensemble_exports: ensemble = {} }) {
  const rows = [...lines(exports), ...lines(ensemble, "ensemble, ")];
  const reasons = Object.entries(refused);
  if (!rows.length && !reasons.length) return null;
  return titledSection("exports", "Exports", rows.length ? scrollTable("Exported files", EXPORT_COLUMNS, rows, "plain") : null,
    reasons.length ? notice("Not exported", null, { tone: "wait", items: reasons.map(([format, reason]) => ({ detail: `${readable(format)}: ${reason}` })) }) : null);
}

const lines = (exports, prefix = "") => Object.entries(exports).map(([format, results]) => [
  [`${prefix}${readable(format)}`, results.warning ? el("p", { class: "muted small" }, results.warning) : null],
  el("code", {}, results.file), percent(results.top1), percent(results.agreement), bytes(results.size_bytes), ms(results.latency_ms.p50), brief(results.images_per_s),
]);

function classes(networks) {
  const names = Object.keys(networks[0][1].per_class_top1);
  const rows = names.slice(0, 1000).map((name) => [name, ...networks.map(([, results]) => percent(results.per_class_top1[name]))]);
  return el("details", {}, el("summary", {}, `Top-1 by class (${names.length})`), scrollTable("Top-1 by class", ["Class", ...networks.map(([name]) => name)], rows, "plain"));
}

function footer({ device, epochs, versions }) {
  const used = Object.entries(versions ?? {}).map(([name, version]) => `${name} ${version}`).join(", ");
  return el("p", { class: "muted small" },
    // An evaluation has trained nothing.
    epochs ? `The exported student is from epoch ${epochs.best_epoch}, the best on the validation split (${percent(epochs.best_val_top1)}; last epoch ${percent(epochs.last_val_top1)}). ` : "",
    `Speed measured on ${device}. ${used}`);
}

const MOST_CLASSES = 30;
const MAX_PAIRS = 20;

// The confusion matrix, or the most frequent pairs of many classes. `counts[true][predicted]`.
function confusion(counts, names) {
  const totals = counts.map((row) => row.reduce((sum, count) => sum + count, 0));
  const pairs = confusedPairs(counts, totals);
  return titledSection("confusion", "Confusion of the student",
    el("p", { class: "muted" }, mostFrequent(pairs, names)),
    counts.length <= MOST_CLASSES ? matrix(counts, totals, names) : pairTable(pairs, names));
}

function confusedPairs(counts, totals) {
  const pairs = [];
  counts.forEach((row, truth) => row.forEach((count, predicted) => {
    if (truth !== predicted && count) pairs.push({ truth, predicted, count, share: count / totals[truth] });
  }));
  return pairs.sort((a, b) => b.count - a.count);
}

function mostFrequent(pairs, names) {
  if (!pairs.length) return "The student predicts the right class for every image of the test split.";
  const list = pairs.slice(0, 3).map(({ truth, predicted, count }) => `${names[truth]} for ${names[predicted]} (${count})`);
  return `The most frequent mistakes take ${list.join(", ")}.`;
}

function matrix(counts, totals, names) {
  // Mistakes are rare, so they have their own color scale.
  const peak = Math.max(1, ...counts.flatMap((row, truth) => row.filter((_, predicted) => predicted !== truth)));
  const rows = counts.map((row, truth) => el("tr", {}, el("th", { scope: "row" }, clamp(names[truth])), row.map((count, predicted) => {
    const share = totals[truth] ? count / totals[truth] : 0;
    return cell(count, share, truth === predicted, truth === predicted ? share : Math.sqrt(count / peak));
  })));
  return scrollRegion("Confusion", tableFrame("Test images by true class (row) and predicted class (column), and their share of the row",
    ["True ↓ predicted →", ...names.map(clamp)], el("tbody", {}, rows), "heat"));
}

function cell(count, share, right, heat) {
  const node = el("td", { "data-right": right, class: count ? null : "none" }, el("b", {}, String(count)), count ? el("small", {}, percent(100 * share, 0)) : null);
  node.style.setProperty("--heat", heat.toFixed(3));
  return node;
}

const pairTable = (pairs, names) => (pairs.length ? scrollTable("Confusion", ["True class", "Predicted", "Images", "Of the class"],
  pairs.slice(0, MAX_PAIRS).map(({ truth, predicted, count, share }) => [names[truth], names[predicted], String(count), percent(100 * share, 1)]), "plain") : null);

const FEW_IMAGES = 12;
const MAX_LISTED = 50; // the report lists no more

// Test images on which student and teacher disagree; null without a teacher.
function gallery({ teacher, disagreements }, dataset, signal) {
  if (!teacher) return null;
  const container = el("div");
  const { length } = disagreements;
  const text = length
    ? `${length === MAX_LISTED ? "The first 50 images" : pluralize(length, "image")} of the test split, ordered by the confidence of both.`
    : "Student and teacher predict the same class for every image of the test split.";
  if (length) fillGallery(container, disagreements, dataset, signal);
  return titledSection("gallery", "Where student and teacher disagree", el("p", { class: "muted" }, text), container);
}

async function fillGallery(container, list, dataset, signal, all = false) {
  if (!all) setChildren(container, el("p", { class: "muted" }, "Loading the images…"));
  try {
    const more = list.length > FEW_IMAGES && !all;
    const rows = (more ? list.slice(0, FEW_IMAGES) : list).map(({ index }) => index).join(",");
    const { data } = await get(`/v1/datasets/${encodeURIComponent(dataset)}/images`, { split: "test", rows }, signal);
    const images = new Map(data.map((image) => [image.row, image]));
    const items = list.filter(({ index }) => images.has(index)).map((entry) => ({ ...images.get(entry.index), ...entry }));
    setChildren(container, el("div", { class: "gallery" }, thumbnails(items, "Disagreements", caption)),
      more ? smallButton(`Show all ${list.length}`, () => fillGallery(container, list, dataset, signal, true)) : null);
  } catch (error) {
    if (isIgnorable(error)) return;
    setChildren(container, el("p", { class: "muted" }, "The images cannot be loaded: ", error.message),
      el("ul", { class: "gallery" }, list.map((entry) => el("li", {}, caption(entry)))));
  }
}

const caption = ({ index, target, teacher, teacher_confidence: teacherConfidence, student, student_confidence: studentConfidence }) => el("dl", { "data-row": index },
  fact("True", target), fact("Teacher", teacher, teacherConfidence, teacher === target), fact("Student", student, studentConfidence, student === target));

const fact = (label, name, confidence, right) => el("div", {}, el("dt", {}, label), el("dd", {}, el("b", {}, clamp(name)), confidence === undefined ? null : [
  ` ${percent(100 * confidence, 0)} `, el("span", { class: "mark", "aria-hidden": "true" }, right ? "✓" : "✗"), el("span", { class: "hidden" }, right ? "right" : "wrong")]));
