// Where the student is wrong: which classes it takes for which, and images that it and its teacher see differently.

import { count as counted, el, frame, get, grid, percent, put, scroll, small, thumbs, titled } from "../../kit.js";

const MOST_CLASSES = 30;
const WORST = 20;

/** A table with its colours, or the worst where there are many classes. `counts[true][named]`, `names` in the same order. */
export function confusion(counts, names) {
  const totals = counts.map((row) => row.reduce((sum, one) => sum + one, 0));
  const wrong = worst(counts, totals);
  return titled("confusion", "Confusion of the student",
    el("p", { class: "muted" }, gist(wrong, names)),
    counts.length <= MOST_CLASSES ? all(counts, totals, names) : most(wrong, names));
}

function worst(counts, totals) {
  const found = [];
  counts.forEach((row, truth) => row.forEach((count, named) => {
    if (truth !== named && count) found.push({ truth, named, count, share: count / totals[truth] });
  }));
  return found.sort((a, b) => b.count - a.count);
}

function gist(wrong, names) {
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
  return scroll("Confusion", frame("Test images by true class (row) and class that the student names (column), and their share of the row",
    ["True ↓ named →", ...names], el("tbody", {}, rows), "heat"));
}

function cell(count, share, right, heat) {
  const node = el("td", { "data-right": right, class: count ? null : "none" }, el("b", {}, String(count)), count ? el("small", {}, percent(100 * share, 0)) : null);
  node.style.setProperty("--heat", heat.toFixed(3));
  return node;
}

const most = (wrong, names) => (wrong.length ? grid("Confusion", ["True class", "Named", "Images", "Of the class"],
  wrong.slice(0, WORST).map(({ truth, named, count, share }) => [names[truth], names[named], String(count), percent(100 * share, 1)]), "plain") : null);

const FIRST = 12;
const LISTED = 50;

/** Test images, the surest of both first. Null where there is no teacher to differ from. */
export function gallery({ teacher, disagreements }, dataset, signal) {
  if (!teacher) return null;
  const place = el("div");
  const { length } = disagreements;
  const told = length
    ? `${length === LISTED ? "The first 50 images" : counted(length, "image")} of the test split, where both are surest first.`
    : "Student and teacher name the same class for every image of the test split.";
  if (length) fill(place, disagreements, dataset, signal);
  return titled("gallery", "Where student and teacher disagree", el("p", { class: "muted" }, told), place);
}

async function fill(place, list, dataset, signal, whole = false) {
  if (!whole) put(place, el("p", { class: "muted" }, "Loading the images…"));
  try {
    const more = list.length > FIRST && !whole;
    const rows = (more ? list.slice(0, FIRST) : list).map(({ index }) => index).join(",");
    const { data } = await get(`/v1/datasets/${encodeURIComponent(dataset)}/images`, { split: "test", rows }, signal);
    const images = new Map(data.map((image) => [image.row, image]));
    const both = list.filter(({ index }) => images.has(index)).map((each) => ({ ...images.get(each.index), ...each }));
    put(place, el("div", { class: "gallery" }, thumbs(both, "Disagreements", caption)),
      more ? small(`Show all ${list.length}`, () => fill(place, list, dataset, signal, true)) : null);
  } catch (error) {
    // The words are worth something without the images.
    if (error.name === "AbortError") return;
    put(place, el("p", { class: "muted" }, "The images cannot be had: ", error.message),
      el("ul", { class: "gallery" }, list.map((each) => el("li", {}, caption(each)))));
  }
}

const caption = ({ index, target, teacher, teacher_confidence: sure, student, student_confidence: confidence }) => el("dl", { "data-row": index },
  fact("True", target), fact("Teacher", teacher, sure, teacher === target), fact("Student", student, confidence, student === target));

const fact = (who, name, sure, right) => el("div", {}, el("dt", {}, who), el("dd", {}, el("b", {}, name), sure === undefined ? null : [
  ` ${percent(100 * sure, 0)} `, el("span", { class: "mark", "aria-hidden": "true" }, right ? "✓" : "✗"), el("span", { class: "hidden" }, right ? "right" : "wrong")]));
