// What came out: in short at the top of the page; whole in a tab, with where the student is wrong.

import { get, isIgnorable } from "../../api.js";
import { tableFrame, scrollTable, notice, scrollRegion, smallButton, table, thumbnails, titledSection } from "../../components.js";
import { el, setChildren, svg } from "../../dom.js";
import { brief, bytes, counted, duration, fixed, ms, percent, readable, points, si, times, integer } from "../../format.js";
import { findAssetIfPossible } from "../../lookups.js";

const WHO = { teacher: ["Teacher", "9 5"], undistilled: ["Undistilled", "2 4"] };

export function outcome() {
  const node = el("section", { class: "band", "aria-labelledby": "outcome", hidden: true });
  return {
    node,
    update(report, job) {
      node.hidden = !report;
      if (report) setChildren(node, el("h2", { class: "hidden", id: "outcome" }, "Outcome"), gist(report), verdict(report.verdict), el("div", { class: "panel tiles" }, tiles(report, job)));
    },
  };
}

function gist({ student, teacher, seeds, epochs }) {
  const reached = el("b", {}, percent(student.top1, 1));
  if (!teacher) return el("p", { class: "gist" }, epochs ? "Trained without a teacher: " : "Measured as it is: ", reached, " top-1 on the test split.");
  const smaller = teacher.num_params / student.num_params;
  const helped = seeds?.top1_gain;
  const many = seeds?.num_seeds > 1;
  return el("p", { class: "gist" },
    "The student reaches ", reached, " top-1, ", el("b", {}, points(student.top1 - teacher.top1)), " from its teacher",
    smaller > 1.05 ? [", with ", el("b", {}, `${times(smaller)} fewer parameters`)] : null, ".",
    helped ? [" Distillation ", helped.mean >= 0 ? "helped: " : "did not help: ", el("b", {}, `${points(helped.mean)}${many ? ` ± ${fixed(helped.std)}` : ""}`), ` against the undistilled student${many ? "" : ", with one seed"}.`] : null);
}

function verdict({ accepted, checks }) {
  if (accepted === null) return el("p", { class: "muted small" }, "Verdict: none, as the job asked for no criterion (accept).");
  const bad = checks.filter((check) => !check.passed).map((check) => readable(check.name));
  return notice(accepted ? "Accepted: every criterion holds" : "Not accepted", bad.length ? `Missed: ${bad.join(", ")}.` : null, { tone: accepted ? null : "bad" });
}

function tiles({ student, teacher, baseline, details }, job) {
  const of = (pick, show) => [["teacher", teacher], ["undistilled", baseline]].filter(([, one]) => one && pick(one) !== null).map(([who, one]) => [who, show(pick(one))]);
  const cost = (pick, show, better) => (teacher ? [["teacher", show(pick(teacher))], [null, ratio(pick(teacher) / pick(student), ...better)]] : []);
  const p50 = (one) => one.latency_ms.p50;
  return [
    tile("Top-1, test", percent(student.top1, 1), of((one) => one.top1, (value) => fixed(value))),
    student.agreement === null ? null : tile("Agreement", percent(student.agreement, 1), baseline?.agreement != null ? [["undistilled", fixed(baseline.agreement)]] : []),
    tile("Parameters", si(student.num_params), cost((one) => one.num_params, si, ["fewer", "more"])),
    tile("Size", bytes(student.size_bytes), cost((one) => one.size_bytes, bytes, ["smaller", "larger"])),
    tile("Latency, p50", ms(p50(student)), cost(p50, ms, ["faster", "slower"])),
    teacher ? null : tile("Throughput", si(student.images_per_s), []),
    job.usage?.device_s ? tile("Device time", duration(job.usage.device_s), details?.training_s ? [[null, `${duration(details.training_s)} of it in training`]] : [], true) : null,
  ];
}

const ratio = (value, better, worse) => (value >= 1 ? `${times(value)} ${better}` : `${times(1 / value)} ${worse}`);

// The unit is small, except within a time.
function tile(name, text, lines, large = false) {
  const [value, ...unit] = large ? [text] : text.split(" ");
  return el("div", { class: "tile" }, el("h3", {}, name), el("p", { class: "value" }, value, unit.length ? el("small", {}, unit.join(" ")) : null),
    el("dl", {}, lines.map(([who, told]) => (who
      ? el("div", {}, el("dt", {}, swatch(who), WHO[who][0]), el("dd", {}, told))
      : el("div", {}, el("dt", {}, told), el("dd"))))));
}

function swatch(who) {
  const line = svg("line", { x1: 0, x2: 22, y1: 4, y2: 4, "stroke-dasharray": WHO[who][1] });
  line.style.stroke = `var(--${who})`;
  return svg("svg", { class: "swatch", viewBox: "0 0 22 8", "aria-hidden": "true" }, line);
}

const ROWS = [
  ["Top-1", (one) => percent(one.top1)],
  ["Top-5", (one) => percent(one.top5)],
  ["Agreement", (one) => percent(one.agreement)],
  ["KL to the teacher", (one) => (one.kl_to_teacher === null ? "–" : `${brief(one.kl_to_teacher)} nats`)],
  ["Calibration error", (one) => percent(one.ece)],
  ["Parameters", (one) => integer(one.num_params)],
  ["MACs", (one) => si(one.macs)],
  ["Size", (one) => bytes(one.size_bytes)],
  ["Latency, p50", (one) => ms(one.latency_ms.p50)],
  ["Latency, p95", (one) => ms(one.latency_ms.p95)],
  ["Throughput", (one) => `${brief(one.images_per_s)} images/s`],
];

export function reportTab(feed) {
  const node = el("div", { class: "stack" });
  let shown = null;
  return {
    node,
    async update(job, report) {
      if (!report) {
        setChildren(node, el("p", { class: "muted" }, job.state === "succeeded" ? "Loading the report…" : "The report comes when the job has succeeded."));
        return;
      }
      if (shown === report) return;
      shown = report;
      const who = [["Student", report.student], ["Teacher", report.teacher], ["Undistilled student", report.baseline]].filter(([, one]) => one);
      const confused = el("div", { class: "stack" });
      setChildren(node, scrollTable("Measurements", ["On the test split", ...who.map(([name]) => name)], ROWS.map(([name, show]) => [name, ...who.map(([, one]) => show(one))]), "plain"),
        seeds(report.seeds), criteria(report.verdict.checks), published(report), confused, gallery(report, job.dataset, feed.signal), classes(who), foot(report));
      const names = (await findAssetIfPossible("datasets", job.dataset))?.classes ?? Object.keys(report.student.per_class_top1);
      if (report.confusion) setChildren(confused, confusion(report.confusion, names));
      else confused.remove();
    },
  };
}

function seeds(found) {
  if (!found) return null;
  const { num_seeds: number, student_top1: top1, statement } = found;
  const spread = top1.std === null ? "" : ` ± ${fixed(top1.std, 2)}`;
  const told = statement ? `Student against undistilled student, ${statement.replaceAll("-", "−")}.` : "";
  return el("p", {}, el("b", {}, "Seeds. "), `${counted(number, "seed")}: top-1 ${fixed(top1.mean, 2)}${spread} %. `, told);
}

function criteria(checks) {
  if (!checks.length) return null;
  const rows = checks.map((check) => [readable(check.name), brief(check.limit), brief(check.value), check.passed ? "✓ met" : "✗ not met"]);
  return table({ caption: "Acceptance", columns: ["Criterion", "Limit", "Measured", "Verdict"], rows });
}

const FORMS = ["Form", "File", "Top-1", "Agrees with PyTorch", "Size", "Latency, p50", "Images/s"];

/** Each form in which the student was published, measured by itself; and those that were refused. */
function published({ exports = {}, refused_exports: refused = {}, ensemble_exports: ensemble = {} }) {
  const rows = [...lines(exports), ...lines(ensemble, "ensemble, ")];
  const no = Object.entries(refused);
  if (!rows.length && !no.length) return null;
  return titledSection("exports", "Exports", rows.length ? scrollTable("Published forms", FORMS, rows, "plain") : null,
    no.length ? notice("Not published", null, { tone: "wait", items: no.map(([form, why]) => ({ detail: `${readable(form)}: ${why}` })) }) : null);
}

const lines = (forms, prefix = "") => Object.entries(forms).map(([form, one]) => [
  [`${prefix}${readable(form)}`, one.warning ? el("p", { class: "muted small" }, one.warning) : null],
  el("code", {}, one.file), percent(one.top1), percent(one.agreement), bytes(one.size_bytes), ms(one.latency_ms.p50), brief(one.images_per_s),
]);

function classes(who) {
  const names = Object.keys(who[0][1].per_class_top1);
  const rows = names.slice(0, 1000).map((name) => [name, ...who.map(([, one]) => percent(one.per_class_top1[name]))]);
  return el("details", {}, el("summary", {}, `Top-1 by class (${names.length})`), scrollTable("Top-1 by class", ["Class", ...who.map(([name]) => name)], rows, "plain"));
}

function foot({ device, epochs, versions }) {
  const used = Object.entries(versions ?? {}).map(([name, version]) => `${name} ${version}`).join(", ");
  return el("p", { class: "muted small" },
    // An evaluation has trained nothing.
    epochs ? `The delivered student is of epoch ${epochs.best_epoch}, the best on validation (${percent(epochs.best_val_top1)}; last epoch ${percent(epochs.last_val_top1)}). ` : "",
    `Speed measured on ${device}. ${used}`);
}

const MOST_CLASSES = 30;
const WORST = 20;

/** A table with its colors, or the worst where there are many classes. `counts[true][named]`, `names` in the same order. */
function confusion(counts, names) {
  const totals = counts.map((row) => row.reduce((sum, one) => sum + one, 0));
  const wrong = worst(counts, totals);
  return titledSection("confusion", "Confusion of the student",
    el("p", { class: "muted" }, oftenest(wrong, names)),
    counts.length <= MOST_CLASSES ? all(counts, totals, names) : most(wrong, names));
}

function worst(counts, totals) {
  const found = [];
  counts.forEach((row, truth) => row.forEach((count, named) => {
    if (truth !== named && count) found.push({ truth, named, count, share: count / totals[truth] });
  }));
  return found.sort((a, b) => b.count - a.count);
}

function oftenest(wrong, names) {
  if (!wrong.length) return "Every image of the test split got its right class.";
  const told = wrong.slice(0, 3).map(({ truth, named, count }) => `${names[truth]} for ${names[named]} (${count})`);
  return `Most often it takes ${told.join(", ")}.`;
}

function all(counts, totals, names) {
  // Mistakes are few beside what is right: each has a scale of its own.
  const peak = Math.max(1, ...counts.flatMap((row, truth) => row.filter((_, named) => named !== truth)));
  const rows = counts.map((row, truth) => el("tr", {}, el("th", { scope: "row" }, names[truth]), row.map((count, named) => {
    const share = totals[truth] ? count / totals[truth] : 0;
    return cell(count, share, truth === named, truth === named ? share : Math.sqrt(count / peak));
  })));
  return scrollRegion("Confusion", tableFrame("Test images by true class (row) and class that the student names (column), and their share of the row",
    ["True ↓ named →", ...names], el("tbody", {}, rows), "heat"));
}

function cell(count, share, right, heat) {
  const node = el("td", { "data-right": right, class: count ? null : "none" }, el("b", {}, String(count)), count ? el("small", {}, percent(100 * share, 0)) : null);
  node.style.setProperty("--heat", heat.toFixed(3));
  return node;
}

const most = (wrong, names) => (wrong.length ? scrollTable("Confusion", ["True class", "Named", "Images", "Of the class"],
  wrong.slice(0, WORST).map(({ truth, named, count, share }) => [names[truth], names[named], String(count), percent(100 * share, 1)]), "plain") : null);

const FIRST = 12;
const LISTED = 50;

/** Test images, the surest of both first. Null where there is no teacher to differ from. */
function gallery({ teacher, disagreements }, dataset, signal) {
  if (!teacher) return null;
  const place = el("div");
  const { length } = disagreements;
  const told = length
    ? `${length === LISTED ? "The first 50 images" : counted(length, "image")} of the test split, where both are surest first.`
    : "Student and teacher name the same class for every image of the test split.";
  if (length) fill(place, disagreements, dataset, signal);
  return titledSection("gallery", "Where student and teacher disagree", el("p", { class: "muted" }, told), place);
}

async function fill(place, list, dataset, signal, whole = false) {
  if (!whole) setChildren(place, el("p", { class: "muted" }, "Loading the images…"));
  try {
    const more = list.length > FIRST && !whole;
    const rows = (more ? list.slice(0, FIRST) : list).map(({ index }) => index).join(",");
    const { data } = await get(`/v1/datasets/${encodeURIComponent(dataset)}/images`, { split: "test", rows }, signal);
    const images = new Map(data.map((image) => [image.row, image]));
    const both = list.filter(({ index }) => images.has(index)).map((each) => ({ ...images.get(each.index), ...each }));
    setChildren(place, el("div", { class: "gallery" }, thumbnails(both, "Disagreements", caption)),
      more ? smallButton(`Show all ${list.length}`, () => fill(place, list, dataset, signal, true)) : null);
  } catch (error) {
    // The words are worth something without the images.
    if (isIgnorable(error)) return;
    setChildren(place, el("p", { class: "muted" }, "The images cannot be had: ", error.message),
      el("ul", { class: "gallery" }, list.map((each) => el("li", {}, caption(each)))));
  }
}

const caption = ({ index, target, teacher, teacher_confidence: sure, student, student_confidence: confidence }) => el("dl", { "data-row": index },
  fact("True", target), fact("Teacher", teacher, sure, teacher === target), fact("Student", student, confidence, student === target));

const fact = (who, name, sure, right) => el("div", {}, el("dt", {}, who), el("dd", {}, el("b", {}, name), sure === undefined ? null : [
  ` ${percent(100 * sure, 0)} `, el("span", { class: "mark", "aria-hidden": "true" }, right ? "✓" : "✗"), el("span", { class: "hidden" }, right ? "right" : "wrong")]));
