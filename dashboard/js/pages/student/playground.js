// Try it: images that are dropped, chosen or the data set's own, and what teacher and student say of each.

import { get, post } from "../../api.js";
import { el, setChildren, setText } from "../../dom.js";
import { fixed } from "../../format.js";
import { icon } from "../../job-state.js";
import { announce } from "../../layout.js";
import { replaceQuery } from "../../router.js";

const TYPES = "image/png,image/jpeg,image/bmp,image/webp";
const TEN = 10;

/** A button that takes files, dropped on it or chosen; `take([File])`. */
export function dropZone(take) {
  const input = el("input", { type: "file", accept: TYPES, multiple: true, hidden: true, on: { change: chosen } });
  const button = el("button", {
    type: "button", class: "drop", on: { click: () => input.click(), dragover: over, dragleave: out, drop },
  }, el("strong", {}, "Choose images"), el("span", {}, "or drop them here: PNG, JPEG, WebP or BMP"));

  function chosen() {
    const files = [...input.files];
    input.value = ""; // the same file may be chosen again
    if (files.length) take(files);
  }
  function over(event) {
    event.preventDefault();
    button.dataset.over = "";
  }
  function out() {
    delete button.dataset.over;
  }
  function drop(event) {
    event.preventDefault();
    out();
    const files = [...event.dataTransfer.files];
    if (files.length) take(files);
  }
  return el("div", { class: "dropping" }, button, input);
}

/** A file as {name, bytes: base64, src}. */
export function read(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve({ name: file.name, bytes: reader.result.split(",")[1] ?? "", src: URL.createObjectURL(file) }));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(file);
  });
}

/** Ten test images as buttons, one of each class as far as that goes; `take([image])`. */
export function samples(dataset, take, signal) {
  const node = el("div", { class: "samples" });
  const failed = (error) => error.name === "AbortError" || setChildren(node, el("p", { class: "muted small" }, "The data set's images cannot be had just now."));
  if (dataset) fill().catch(failed);
  return node;

  async function fill() {
    const { data } = await get(`/v1/datasets/${encodeURIComponent(dataset.id)}/images`, { split: "test" }, signal);
    const seen = new Set();
    const first = data.filter(({ target }) => !seen.has(target) && seen.add(target));
    const ten = [...first, ...data.filter((each) => !first.includes(each))].slice(0, TEN);
    if (!ten.length) return;
    setChildren(node, el("p", { class: "muted small", id: "samples" }, "Or a test image:"),
      el("ul", { "aria-labelledby": "samples" }, ten.map((each) => el("li", {}, sample(each)))));
  }

  function sample({ row, target, class: name, png }) {
    const truth = name ?? (target === null ? null : String(target));
    const image = { name: `test image ${row}`, bytes: png, src: `data:image/png;base64,${png}`, truth };
    const label = `Ask about ${image.name}${truth === null ? "" : `, class ${truth}`}`;
    return el("button", { type: "button", "aria-label": label, on: { click: () => take([{ ...image }]) } }, picture({ ...image, name: "" }, 40));
  }
}

const KEPT = 24;
const READY = "is made ready for its first question: some seconds…";

export function playground({ teachers, dataset, config }, keep, query, signal) {
  const there = teachers.filter(({ model }) => model);
  let teacher = there.find(({ id }) => id === query.get("teacher")) ?? there[0] ?? null;
  const cards = el("div", { class: "answers" });
  const first = el("p", { class: "muted small" }, "The first question keeps the student as a model of this project, so that it can be asked.");
  const said = el("p", { class: "refused small", role: "status" });
  const clear = el("button", { type: "button", class: "button small", hidden: true, on: { click: empty } }, "Clear the answers");
  const urls = [];
  keep.watch((model) => {
    first.hidden = Boolean(model);
  });

  async function files(list) {
    try {
      await about(await Promise.all(list.slice(0, KEPT).map(read)));
      if (list.length > KEPT) setText(said, `The first ${KEPT} of ${list.length} images were asked about; drop the others later.`);
    } catch (error) {
      setText(said, `A file cannot be read: ${error.message}`);
    }
  }

  async function about(images) {
    setText(said, "");
    urls.push(...images.map(({ src }) => src));
    const asked = teacher;
    const title = there.length > 1 ? `Teacher: ${asked?.model.name}` : "Teacher";
    const columns = [asked && { who: "teacher", title }, { who: "student", title: "Student" }].filter(Boolean);
    const made = new Map(images.map((image) => [image, answerCard(image, columns, translator(asked, config))]));
    cards.prepend(...[...made.values()].map(({ node }) => node));
    while (cards.children.length > KEPT) cards.lastChild.remove();
    clear.hidden = false;
    const small = images.filter(fits);
    const large = { error: "the file is larger than 11 MB" };
    for (const image of images) if (!fits(image)) columns.forEach(({ who }) => made.get(image).set(who, large));
    await Promise.all(columns.map(({ who }) => question(who, asked, small, made)));
    if (!signal.aborted) announce(images.map((image) => `${image.name}: ${made.get(image).words()}`).join(". "));
  }

  async function question(who, asked, images, made) {
    const left = new Set(images);
    const tell = (answer) => left.forEach((image) => made.get(image).set(who, answer));
    try {
      const model = who === "student" ? await keep.make() : asked.model;
      await ask(model, images, {
        signal,
        waits: () => tell({ waits: `The ${who} ${READY}` }),
        said: (image, answer) => left.delete(image) && made.get(image).set(who, answer),
      });
    } catch (error) {
      if (error.name !== "AbortError") tell({ error: error.message });
    }
  }

  function choose(event) {
    teacher = there.find(({ id }) => id === event.target.value);
    replaceQuery({ teacher: teacher.id });
  }

  function empty() {
    setChildren(cards);
    clear.hidden = true;
    setText(said, "");
  }

  const options = there.map(({ id, model }) => el("option", { value: id, selected: id === teacher.id }, model.name));
  const choice = there.length > 1
    ? el("label", { class: "which" }, el("span", {}, "Teacher to compare with"), el("select", { class: "input", on: { change: choose } }, options))
    : null;
  return {
    node: el("section", { class: "band", "aria-labelledby": "try" },
      el("div", { class: "section-head" }, el("h2", { id: "try" }, "Try it"), el("div", { class: "actions" }, clear)), choice,
      el("div", { class: "panel asking" }, dropZone(files), samples(dataset, about, signal)), first, said, cards),
    leave() {
      for (const url of urls) if (url.startsWith("blob:")) URL.revokeObjectURL(url);
    },
  };
}

/** What the data set calls a class of the teacher: it may have other classes, or none with names. */
function translator(teacher, config) {
  const classes = config?.classes ?? [];
  return (entry) => {
    const at = teacher?.map ? teacher.map.indexOf(entry.index) : entry.index;
    if (teacher?.map) return at >= 0 ? classes[at] : name(entry);
    return entry.class ?? classes[at] ?? name(entry);
  };
}

// What models say of images: asked in batches, with patience, and shown side by side.

const TINY = 64;
const AT_MOST = 16;
const BATCH_BYTES = 11 * 2 ** 20; // 16 MiB of base64, and some room
const WAIT_MS = 2000;
const BUSY = 5;
const PREPARING = 90; // three minutes

/** Whether one image is small enough to be asked about at all. */
export const fits = (image) => image.bytes.length <= (BATCH_BYTES * 4) / 3;

/** Ask about images [{bytes: base64}]; `said(image, {top} | {error})` for each, `waits()` while the model is prepared. */
export async function ask(model, images, { said, waits, signal }) {
  for (const batch of batches(images)) {
    const path = `/v1/models/${encodeURIComponent(model.id)}/predict`;
    const { data } = await patiently(() => post(path, { images: batch.map(({ bytes }) => bytes) }), waits, signal);
    if (signal.aborted) return;
    batch.forEach((image, at) => said(image, data[at]));
  }
}

function batches(images) {
  const all = [];
  let room = 0;
  for (const image of images) {
    if (!all.length || all.at(-1).length === AT_MOST || image.bytes.length * 0.75 > room) {
      all.push([]);
      room = BATCH_BYTES;
    }
    all.at(-1).push(image);
    room -= image.bytes.length * 0.75;
  }
  return all;
}

async function patiently(call, waits, signal) {
  for (let [busy, preparing] = [0, 0]; ;) {
    try {
      return await call();
    } catch (error) {
      if (error.code === "preparing" && ++preparing <= PREPARING) waits();
      else if (error.code !== "busy" || ++busy > BUSY) throw error;
    }
    await pause(signal);
  }
}

/** Some seconds, and as long as nobody looks. Raises when the page is left. */
function pause(signal) {
  return new Promise((resolve, reject) => {
    const left = () => reject(new DOMException("the page was left", "AbortError"));
    if (signal.aborted) return left();
    signal.addEventListener("abort", left, { once: true });
    const done = () => {
      if (document.hidden) return document.addEventListener("visibilitychange", done, { once: true });
      signal.removeEventListener("abort", left);
      return resolve();
    };
    return setTimeout(done, WAIT_MS);
  });
}

const SAME = ["M2.8 8.6l3.4 3.4 7-7.6"];
const OTHER = ["M3 5.5h10", "M3 10.5h10", "M11 2.5l-6 11"];

/** One card: `set(who, {top} | {error} | {waits})` fills a column; `who` is "student" or "teacher". */
export function answerCard(image, columns, translate) {
  const verdict = el("span", { class: "agree" });
  const places = Object.fromEntries(columns.map(({ who, title }) => [who, { title, body: el("div", {}, el("p", { class: "muted small" }, "Asking…")) }]));
  const found = {};
  const truth = image.truth ?? null;
  const node = el("article", { class: "panel answer", "aria-label": image.name },
    el("header", {}, picture(image, 72), el("div", {}, el("h3", {}, image.name),
      truth === null ? null : el("p", { class: "muted small" }, `Labeled ${truth}`), verdict)),
    Object.entries(places).map(([who, { title, body }]) =>
      el("section", { class: "said", "data-who": who, "aria-label": title }, el("h4", {}, title), body)));

  const called = (who) => (who === "teacher" ? translate : name);

  function set(who, answer) {
    const { body } = places[who];
    if (answer.waits) return setText(body.firstChild, answer.waits);
    found[who] = answer.top;
    if (answer.top) setChildren(body, bars(answer.top, called(who)));
    else setChildren(body, el("p", { class: "small failed" }, `No answer: ${answer.error}`));
    return judge();
  }

  function judge() {
    if (!found.student || !found.teacher) return;
    const same = best("student") === best("teacher");
    setChildren(verdict, el("span", { class: "chip", "data-tone": same ? "good" : "wait", "data-agree": String(same) },
      icon(same ? SAME : OTHER), same ? "They agree" : "They disagree"));
  }

  const best = (who) => (found[who] ? called(who)(found[who][0]) : "no answer");
  /** "Teacher 7, Student 7", for those who cannot see it. */
  const words = () => columns.map(({ who, title }) => `${title} ${best(who)}`).join(", ");
  return { node, set, words };
}

/** The class as people call it. */
export const name = ({ class: told, index }) => told ?? `class ${index}`;

const percent = (share) => (share < 0.0005 ? "< 0.1 %" : `${fixed(100 * share, 1)} %`);

function bars(top, called) {
  return el("ol", { class: "bars" }, top.map((entry) => {
    const share = el("i");
    share.style.width = `${100 * entry.probability}%`;
    return el("li", {}, el("span", { class: "class" }, called(entry)), el("span", { class: "share", "aria-hidden": "true" }, share), el("span", { class: "num" }, percent(entry.probability)));
  }));
}

/** The image itself, as it is: a tiny one keeps its pixels. */
export function picture({ src, name }, size) {
  const image = el("img", { alt: name, width: size, height: size });
  image.addEventListener("load", () => image.classList.toggle("tiny", image.naturalWidth < TINY));
  image.addEventListener("error", () => image.replaceWith(el("span", { class: "no-picture", "aria-hidden": "true" }, "?")));
  image.src = src; // dom.js lets addresses of our own pages through only; these are bytes
  return image;
}
