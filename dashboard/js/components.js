// Components that pages share: buttons, dialogs, notices, tables, thumbnails; the state of the connection, and announcements for
// screen readers.

import { isIgnorable } from "./fetch.js";
import { debounce, el, setChildren, setText, svg } from "./dom.js";
import { capital } from "./format.js";
import { CLOCK, CROSS, icon, TICK } from "./job-state.js";
import { href } from "./router.js";

const CONNECTIONS = { live: "Live", idle: "Up to date", reconnecting: "Reconnecting: this may be old", offline: "Offline: this may be old" };
export const connection = el("span", { class: "link-state", "data-state": "idle" }, CONNECTIONS.idle);

export function setConnection(name) {
  if (connection.dataset.state === name) return;
  connection.dataset.state = name;
  connection.title = CONNECTIONS[name];
  setText(connection, CONNECTIONS[name]);
}

/** Show that a request succeeded, or how it failed. */
export const showOutcome = (error) => setConnection(error?.status === 0 ? "offline" : "idle");

export function announce(text) {
  setText(document.getElementById("live"), text);
}

export function progressBar(label) {
  const inner = el("span");
  const node = el("div", { class: "track", role: "progressbar", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100" }, inner);
  return {
    node,
    set(fraction) {
      const percent = Math.floor(100 * Math.min(1, Math.max(0, fraction ?? 0)));
      node.setAttribute("aria-valuenow", percent);
      inner.style.width = `${percent}%`;
    },
  };
}

/** `props.class` beside "button": small, primary, danger. */
export const button = (text, click, { class: look = "", ...props } = {}) =>
  el("button", { class: `button ${look}`.trim(), type: "button", ...props, on: { click } }, text);
export const smallButton = (text, click, props) => button(text, click, { class: "small", ...props });

/** A button that is pressed or not. */
export function toggleButton(label, pressed, onChange) {
  const node = el("button", { class: "toggle", type: "button", "aria-pressed": String(pressed), on: { click() {
    const on = node.getAttribute("aria-pressed") !== "true";
    node.setAttribute("aria-pressed", String(on));
    onChange(on);
  } } }, label);
  return node;
}

/** Buttons of which one is pressed. `options`: {id: label}. */
export function segmentedControl(name, options, onChoose) {
  const buttons = Object.entries(options).map(([id, label]) => el("button", { type: "button", "data-id": id, on: { click: () => onChoose(id) } }, label));
  return {
    node: el("div", { class: "segments", role: "group", "aria-label": name }, buttons),
    mark: (id) => buttons.forEach((option) => option.setAttribute("aria-pressed", String(option.dataset.id === id))),
  };
}

/** The notice of a failed request; with `retry` it has a button. */
export function errorNotice(error, retry) {
  const missing = error.status === 404;
  const title = error.status === 0 ? "The server cannot be reached" : missing ? capital(error.message) : "This did not work";
  const hint = error.status === 0 ? "The page tries again." : missing ? "" : `${error.message}${error.problem?.request_id ? ` (${error.problem.request_id})` : ""}`;
  return el("div", { class: "notice", "data-tone": "bad", role: "alert" }, el("strong", {}, title), hint, retry ? el("div", {}, smallButton("Try again", retry)) : null);
}

export const notice = (title, text, { tone = "bad", items, role } = {}) => el("div", { class: "notice", "data-tone": tone, role }, el("strong", {}, title), text,
  items?.length ? el("ul", {}, items.map(({ name, detail }) => el("li", {}, name ? el("code", {}, name) : null, " ", detail))) : null);

/** Run `action`, show the state of the connection, and call `onError` if an error needs a notice. */
export async function attempt(action, onError) {
  try {
    await action();
    showOutcome();
  } catch (error) {
    if (isIgnorable(error)) return;
    showOutcome(error);
    onError(error);
  }
}

/** Open a modal dialog. Resolves to the `value` of the button that closed it. */
export function openDialog(id, title, inner, actions, look) {
  const box = el("dialog", { class: look, "aria-labelledby": id },
    el("form", { method: "dialog" }, el("h2", { id }, title), inner, el("div", { class: "actions" }, actions)));
  document.body.append(box);
  box.showModal();
  return new Promise((resolve) => {
    box.addEventListener("close", () => {
      box.remove();
      resolve(box.returnValue);
    });
  });
}

export async function confirmAction({ title, text, yes, no = "Keep it" }) {
  return await openDialog("ask-title", title, el("p", {}, text), [
    el("button", { class: "button", value: "no", autofocus: true }, no),
    el("button", { class: "button danger", value: "yes" }, yes),
  ]) === "yes";
}

export function copyButton(text, label = "Copy", word = "Copy") {
  const node = smallButton(word, copy, { "aria-label": label === word ? null : label });
  async function copy() {
    try {
      await navigator.clipboard.writeText(text());
      setChildren(node, "Copied");
      announce("Copied");
    } catch {
      setChildren(node, "Not allowed");
    }
    setTimeout(() => setChildren(node, word), 1600);
  }
  return node;
}

export const copyAs = (format, text) => copyButton(text, `Copy as ${format}`, `Copy as ${format}`);

export const csv = (header, rows) => [header, ...rows].map((cells) => cells.map(csvField).join(",")).join("\r\n");

// An apostrophe before a text that a spreadsheet would run as a formula. A negative number is none.
function csvField(value) {
  if (value === null || value === undefined) return "";
  const text = /^\s*[=+\-@＝＋－＠\t\r]/.test(value) && !Number.isFinite(Number(value)) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function codeBlock(text, label, copyLabel) {
  const pre = el("pre", { tabindex: "0", role: "region", "aria-label": label }, text);
  return el("div", { class: "code" }, pre, copyButton(() => pre.textContent, copyLabel));
}

/** A name of at most three lines. */
export const clamp = (name) => el("span", { class: "clamp", title: name }, name);

export const tableRow = (columns, cells) => el("tr", {}, cells.map((cell, index) => (index
  ? el("td", { "data-label": columns[index] }, cell) : el("th", { scope: "row", class: "wide" }, typeof cell === "string" ? clamp(cell) : cell))));

export const tableFrame = (caption, columns, body, className) => el("table", { class: className }, el("caption", { class: "hidden" }, caption),
  el("thead", {}, el("tr", {}, columns.map((name) => el("th", { scope: "col" }, name)))), body);

export const table = ({ caption, columns, rows, className = "plain cards" }) => tableFrame(caption, columns, el("tbody", {}, rows.map((cells) => tableRow(columns, cells))), className);

export const scrollRegion = (label, node, look = "") => el("div", { class: `scroll ${look}`.trim(), tabindex: "0", role: "region", "aria-label": label }, node);
export const scrollTable = (caption, columns, rows, className = "cards") => scrollRegion(caption, table({ caption, columns, rows, className }));

export const titledSection = (id, title, ...nodes) => el("section", { class: "band", "aria-labelledby": id }, el("h3", { id }, title), nodes);
/** A section named by its heading; `beside`: nodes beside the heading. */
export const namedSection = (id, title, beside, ...nodes) => el("section", { class: "band", "aria-labelledby": id },
  el("div", { class: "section-head" }, el("h2", { id }, title), beside), nodes);
export const section = (title, ...nodes) => el("section", { class: "band" }, el("h2", {}, title), nodes);

export const emptyState = (title, ...words) => el("div", { class: "panel empty" }, el("img", { src: "/static/logo.svg", alt: "", width: 52, height: 52 }), el("h2", {}, title), words);

export const skeleton = () => el("div", { class: "panel bone-rows", "aria-hidden": "true" }, Array.from({ length: 4 }, () => el("span", { class: "bone" })));

/** A list of [name, value]; pairs without a value are left out. */
export function factList(pairs) {
  const set = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", { class: "fact-list" }, set.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

/** A bar beside a number, not for screen readers. */
export function meter(value, max) {
  const inner = el("span");
  inner.style.width = `${value > 0 ? Math.max(2, (100 * value) / max) : 0}%`;
  return el("span", { class: "meter", "aria-hidden": "true" }, inner);
}

export const badge = (word, tone, paths = { good: TICK, bad: CROSS }[tone] ?? CLOCK) => el("span", { class: "chip", "data-tone": tone }, icon(paths), word);

/** A long identifier, shortened on the page; the button copies all of it. */
export const copyableCode = (text, name, max = 20) => el("span", { class: "digest" },
  el("code", { title: text }, text.length > max ? `${text.slice(0, max)}…` : text), copyButton(() => text, `Copy ${name}`));

/** A message of the API as a sentence with links to jobs. */
export function sentence(text) {
  const full = capital(text) + (/[.!?]$/.test(text) ? "" : ".");
  return full.split(/(job_[0-9a-z]+)/i).map((part, index) => (index % 2 ? el("a", { href: href(`/jobs/${part.toLowerCase()}`) }, part.toLowerCase()) : part));
}

export const digest = (sha256, name) => copyableCode(sha256, `the SHA-256 of ${name}`, 12);

/** A name in muted ink before its value. */
export const fact = (name, ...value) => el("span", {}, el("span", { class: "muted" }, name), value);

export const labeledInput = (text, input, ...below) => el("div", { class: "field" }, el("label", { for: input.id }, text), input, below);

/** A short line as in a chart. `color`: a CSS variable; `dash`: lengths of strokes and gaps. */
export function swatch(color, dash, width = 22) {
  const line = svg("line", { x1: 0, x2: width, y1: 4, y2: 4, "stroke-dasharray": dash.join(" ") || null });
  line.style.stroke = `var(${color})`;
  return svg("svg", { class: "swatch", viewBox: `0 0 ${width} 8`, "aria-hidden": "true" }, line);
}

/** Call `onFiles(files)` for files that are dropped on `node`. */
export function acceptDrops(node, onFiles) {
  const listen = (type, over) => node.addEventListener(type, (event) => {
    event.preventDefault();
    node.classList.toggle("over", over);
    if (event.type === "drop" && event.dataTransfer.files.length) onFiles([...event.dataTransfer.files]);
  });
  listen("dragover", true);
  listen("dragleave", false);
  listen("drop", false);
  return node;
}

const PAUSE_MS = 250;

/** A search field. `onSearch()` runs after a pause in typing; `text()`: its text; `show(text)`: shows the text of the address. */
export function searchField(onSearch, props) {
  const search = debounce(onSearch, PAUSE_MS);
  const input = el("input", {
    class: "input", type: "search", maxlength: "200", "aria-keyshortcuts": "/", ...props, on: { input: search, keydown: (event) => event.key === "Escape" && input.blur() },
  });
  const text = () => input.value.trim();
  return {
    input, text, cancel: search.cancel, node: el("div", { class: "search" }, input, el("kbd", { "aria-hidden": "true" }, "/")),
    show(next) {
      // A change of the address that arrives late must not replace what is being typed.
      if (!search.pending() && text() !== next) input.value = next;
    },
  };
}

const TINY = 64;

/** Images of a data set. `list`: [{row, class, target, png: base64}]. */
export function thumbnails(list, label, caption) {
  return el("ul", { class: "thumbs", "aria-label": label }, list.map((item) => el("li", {}, thumbnail(item), caption?.(item))));
}

function thumbnail({ class: name, target, row: index, png }) {
  const label = name ?? target;
  const words = `${label === null || label === undefined ? "no class" : `class ${label}`}, row ${index}`;
  return picture(`data:image/png;base64,${png}`, { alt: words, title: words, width: 40, height: 40 });
}

/** An image; a small one keeps sharp pixels when it is enlarged. */
export function picture(src, props) {
  const image = el("img", props);
  image.addEventListener("load", () => image.classList.toggle("tiny", image.naturalWidth < TINY));
  image.src = src; // not by el(): dom.js refuses addresses outside this site
  return image;
}
