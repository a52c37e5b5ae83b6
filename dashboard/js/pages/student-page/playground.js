// Predictions of teacher and student for files or test images.

import { get, post } from "../../fetch.js";
import { acceptDrops, announce, clamp, namedSection, picture, smallButton } from "../../components.js";
import { el, setChildren, setText } from "../../dom.js";
import { decimal } from "../../format.js";
import { icon, TICK } from "../../job-state.js";
import { replaceQuery } from "../../router.js";
import { untilVisible } from "../../streams.js";

const TYPES = "image/png,image/jpeg,image/bmp,image/webp";
const NUM_SAMPLES = 10;

function dropZone(onFiles) {
  const input = el("input", { type: "file", accept: TYPES, multiple: true, hidden: true, on: { change } });
  const button = el("button", { type: "button", class: "drop", on: { click: () => input.click() } }, el("strong", {}, "Choose images"), el("span", {}, "or drop them here: PNG, JPEG, WebP or BMP"));

  function change() {
    const files = [...input.files];
    input.value = ""; // so that the same file can be chosen again
    if (files.length) onFiles(files);
  }
  return el("div", { class: "dropping" }, acceptDrops(button, onFiles), input);
}

// A file as {name, bytes: base64, src}.
const read = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve({ name: file.name, bytes: reader.result.split(",")[1] ?? "", src: reader.result });
  reader.onerror = () => reject(reader.error);
  reader.readAsDataURL(file);
});

// Ten test images as buttons, of as many classes as possible.
function samples(dataset, onImages, signal) {
  const node = el("div", { class: "samples" });
  const showFailure = (error) => error.name === "AbortError" || setChildren(node, el("p", { class: "muted small" }, "The images of the data set cannot be loaded."));
  if (dataset) fill().catch(showFailure);
  return node;

  async function fill() {
    const { data } = await get(`/v1/datasets/${encodeURIComponent(dataset.id)}/images`, { split: "test" }, signal);
    const seen = new Set();
    const first = data.filter(({ target }) => !seen.has(target) && seen.add(target));
    const images = [...first, ...data.filter((image) => !first.includes(image))].slice(0, NUM_SAMPLES);
    if (!images.length) return;
    setChildren(node, el("p", { class: "muted small", id: "samples" }, "Or a test image:"),
      el("ul", { "aria-labelledby": "samples" }, images.map((image) => el("li", {}, sample(image)))));
  }

  function sample({ row, target, class: name, png }) {
    const truth = name ?? (target === null ? null : String(target));
    const image = { name: `test image ${row}`, bytes: png, src: `data:image/png;base64,${png}`, truth };
    const label = `Predict ${image.name}${truth === null ? "" : `, class ${truth}`}`;
    return el("button", { type: "button", "aria-label": label, on: { click: () => onImages([{ ...image }]) } }, imageOf(image.src, "", 40));
  }
}

const MAX_CARDS = 24;
const PREPARING = "is being prepared for its first prediction: some seconds…";

export function playground({ teachers, dataset, config }, studentModel, query, signal) {
  const available = teachers.filter(({ model }) => model);
  let teacher = available.find(({ id }) => id === query.get("teacher")) ?? available[0] ?? null;
  const cards = el("div", { class: "predictions" });
  const first = el("p", { class: "muted small" }, "The first prediction saves the student as a model of this project.");
  const message = el("p", { class: "refused small", role: "status" });
  const clear = smallButton("Clear the predictions", removeCards, { hidden: true });
  studentModel.watch((model) => {
    first.hidden = Boolean(model);
  });

  async function predictFiles(list) {
    try {
      await predictImages(await Promise.all(list.slice(0, MAX_CARDS).map(read)));
      if (list.length > MAX_CARDS) setText(message, `Only the first ${MAX_CARDS} of ${list.length} images were used.`);
    } catch (error) {
      setText(message, `A file cannot be read: ${error.message}`);
    }
  }

  async function predictImages(images) {
    setText(message, "");
    const selected = teacher; // it may change while the predictions are computed
    const title = available.length > 1 ? `Teacher: ${selected?.model.name}` : "Teacher";
    const columns = [selected && { who: "teacher", title }, { who: "student", title: "Student" }].filter(Boolean);
    const cardOf = new Map(images.map((image) => [image, predictionCard(image, columns, translator(selected, config))]));
    cards.prepend(...[...cardOf.values()].map(({ node }) => node));
    while (cards.children.length > MAX_CARDS) cards.lastChild.remove();
    clear.hidden = false;
    const small = images.filter(fits);
    const large = { error: "the file is larger than 11 MB" };
    for (const image of images) if (!fits(image)) columns.forEach(({ who }) => cardOf.get(image).set(who, large));
    await Promise.all(columns.map(({ who }) => predictBy(who, selected, small, cardOf)));
    if (!signal.aborted) announce(images.map((image) => `${image.name}: ${cardOf.get(image).words()}`).join(". "));
  }

  async function predictBy(who, selected, images, cardOf) {
    const pending = new Set(images);
    const setAll = (result) => pending.forEach((image) => cardOf.get(image).set(who, result));
    try {
      const model = who === "student" ? await studentModel.create() : selected.model;
      await predict(model, images, {
        signal,
        onWait: () => setAll({ waiting: `The ${who} ${PREPARING}` }),
        onResult: (image, result) => pending.delete(image) && cardOf.get(image).set(who, result),
      });
    } catch (error) {
      if (error.name !== "AbortError") setAll({ error: error.message });
    }
  }

  function selectTeacher(event) {
    teacher = available.find(({ id }) => id === event.target.value);
    replaceQuery({ teacher: teacher.id });
  }

  function removeCards() {
    setChildren(cards);
    clear.hidden = true;
    setText(message, "");
  }

  const options = available.map(({ id, model }) => el("option", { value: id, selected: id === teacher.id }, model.name));
  const choice = available.length > 1
    ? el("label", { class: "which" }, el("span", {}, "Teacher to compare with"), el("select", { class: "input", on: { change: selectTeacher } }, options))
    : null;
  return namedSection("try", "Try it", el("div", { class: "actions" }, clear), choice,
    el("div", { class: "panel try-it" }, dropZone(predictFiles), samples(dataset, predictImages, signal)), first, message, cards);
}

// Names a class of the teacher by the classes of the data set.
function translator(teacher, config) {
  const classes = config?.classes ?? [];
  return (entry) => {
    const index = teacher?.map ? teacher.map.indexOf(entry.index) : entry.index;
    if (teacher?.map) return index >= 0 ? classes[index] : className(entry);
    return entry.class ?? classes[index] ?? className(entry);
  };
}

const MAX_BATCH = 16;
const BATCH_BYTES = 11 * 2 ** 20; // 15 MiB as base64; the API accepts 16 MiB
const WAIT_MS = 2000;
const MAX_BUSY = 5;
const MAX_PREPARING = 90; // three minutes

const fits = (image) => image.bytes.length <= (BATCH_BYTES * 4) / 3;

// Predict images [{bytes: base64}]. `onResult(image, {top} | {error})`; `onWait()` while the model is prepared.
async function predict(model, images, { onResult, onWait, signal }) {
  for (const batch of batches(images)) {
    const path = `/v1/models/${encodeURIComponent(model.id)}/predict`;
    const { data } = await retry(() => post(path, { images: batch.map(({ bytes }) => bytes) }), onWait, signal);
    if (signal.aborted) return;
    batch.forEach((image, index) => onResult(image, data[index]));
  }
}

function batches(images) {
  const all = [];
  let room = 0;
  for (const image of images) {
    if (!all.length || all.at(-1).length === MAX_BATCH || image.bytes.length * 0.75 > room) {
      all.push([]);
      room = BATCH_BYTES;
    }
    all.at(-1).push(image);
    room -= image.bytes.length * 0.75;
  }
  return all;
}

async function retry(call, onWait, signal) {
  for (let [busy, preparing] = [0, 0]; ;) {
    try {
      return await call();
    } catch (error) {
      if (error.code === "preparing" && ++preparing <= MAX_PREPARING) onWait();
      else if (error.code !== "busy" || ++busy > MAX_BUSY) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, WAIT_MS));
    signal.throwIfAborted();
    await untilVisible(signal);
  }
}

const DIFFERENT = ["M3 5.5h10", "M3 10.5h10", "M11 2.5l-6 11"];

// `set(who, {top} | {error} | {waiting})` fills a column; `who` is "student" or "teacher".
function predictionCard(image, columns, translate) {
  const verdict = el("span", { class: "agree" });
  const sections = Object.fromEntries(columns.map(({ who, title }) => [who, { title, body: el("div", {}, el("p", { class: "muted small" }, "Predicting…")) }]));
  const results = {};
  const truth = image.truth ?? null;
  const node = el("article", { class: "panel prediction-card", "aria-label": image.name },
    el("header", {}, imageOf(image.src, image.name, 72), el("div", {}, el("h3", {}, image.name),
      truth === null ? null : el("p", { class: "muted small" }, `Labeled ${truth}`), verdict)),
    Object.entries(sections).map(([who, { title, body }]) =>
      el("section", { class: "prediction", "data-who": who, "aria-label": title }, el("h4", {}, title), body)));

  const namer = (who) => (who === "teacher" ? translate : className);

  function set(who, result) {
    const { body } = sections[who];
    if (result.waiting) return setText(body.firstChild, result.waiting);
    results[who] = result.top;
    if (result.top) setChildren(body, bars(result.top, namer(who)));
    else setChildren(body, el("p", { class: "small failed" }, `No prediction: ${result.error}`));
    return compare();
  }

  function compare() {
    if (!results.student || !results.teacher) return;
    const same = best("student") === best("teacher");
    setChildren(verdict, el("span", { class: "chip", "data-tone": same ? "good" : "wait", "data-agree": String(same) },
      icon(same ? TICK : DIFFERENT), same ? "They agree" : "They disagree"));
  }

  const best = (who) => (results[who] ? namer(who)(results[who][0]) : "no prediction");
  // "Teacher 7, Student 7", for screen readers.
  const words = () => columns.map(({ who, title }) => `${title} ${best(who)}`).join(", ");
  return { node, set, words };
}

const className = ({ class: name, index }) => name ?? `class ${index}`;

const shareText = (share) => (share < 0.0005 ? "< 0.1 %" : `${decimal(100 * share, 1)} %`);

function bars(top, nameOf) {
  return el("ol", { class: "bars" }, top.map((entry) => {
    const share = el("i");
    share.style.width = `${100 * entry.probability}%`;
    return el("li", {}, clamp(nameOf(entry)), el("span", { class: "share", "aria-hidden": "true" }, share), el("span", { class: "num" }, shareText(entry.probability)));
  }));
}

function imageOf(src, alt, size) {
  const image = picture(src, { alt, width: size, height: size });
  image.addEventListener("error", () => image.replaceWith(el("span", { class: "no-picture", "aria-hidden": "true" }, "?")));
  return image;
}
