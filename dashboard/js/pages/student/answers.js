// What models say of images: asked in batches, with patience, and shown side by side.

import { post } from "../../api.js";
import { el, put, setText } from "../../dom.js";
import { fixed } from "../../format.js";
import { icon } from "../../state.js";

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
    if (answer.top) put(body, bars(answer.top, called(who)));
    else put(body, el("p", { class: "small failed" }, `No answer: ${answer.error}`));
    return judge();
  }

  function judge() {
    if (!found.student || !found.teacher) return;
    const same = best("student") === best("teacher");
    put(verdict, el("span", { class: "chip", "data-tone": same ? "good" : "wait", "data-agree": String(same) },
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
