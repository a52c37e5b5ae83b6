// A place for a file: drop it, say what it is, see it sent and read.

import { ApiError, del, get, post } from "../../api.js";
import { button, notice, progressBar } from "../../components.js";
import { el, setChildren, setText } from "../../dom.js";
import { bytes, capital } from "../../format.js";
import { announce } from "../../layout.js";
import { form } from "../../schema-form.js";
import { Draft, FieldIssues, withoutDefaults } from "../../schema.js";
import { pollWhileVisible } from "../../streams.js";

const MOST_BYTES = 1.5 * 2 ** 30; // the browser takes a digest of what is in memory only
const TRIES = 3;
const PAUSE_MS = 1500;
const LOOK_MS = 1000;
const SAY_MS = 500;

/** It goes on while the reader is on another page: `busy()`. `done(asset)` when it is ready. */
export function drop(kind, root, done) {
  const node = el("div", { class: "drop", on: { dragover: over, dragleave: away, drop: dropped } });
  const ctx = { draft: null, root, id: kind.id, faults: new FieldIssues() };
  let running = null;
  let poll = null;
  let sent = null; // {file, id}: what has arrived is not sent again

  function over(event) {
    event.preventDefault();
    node.classList.toggle("over", !running && !poll);
  }
  function away() {
    node.classList.remove("over");
  }
  function dropped(event) {
    event.preventDefault();
    away();
    if (!running && !poll && event.dataTransfer.files[0]) choose(event.dataTransfer.files[0]);
  }

  function idle(...above) {
    const input = el("input", { type: "file", class: "hidden", on: { change: () => input.files[0] && choose(input.files[0]) } });
    setChildren(node, above, el("p", {}, el("label", { class: "button small" }, "Choose a file", el("span", { class: "hidden" }, ` as ${kind.what}`), input), " or drop it here."), el("p", { class: "help" }, kind.hint));
  }

  function choose(file) {
    const refusal = obstacle(file);
    if (refusal) return idle(el("p", { class: "notice", "data-tone": "bad", role: "alert" }, refusal));
    const draft = new Draft({ name: file.name.replace(/(\.tar)?\.\w+$/, "").slice(0, 200), ...kind.guess?.() });
    ctx.draft = draft;
    const said = el("div", { role: "alert" });
    const go = button("Upload", () => begin(file, said));
    return setChildren(node, el("p", {}, el("strong", {}, file.name), ` · ${bytes(file.size)}`), said,
      el("div", { class: "grid" }, form(ctx, kind.schema, "", { only: ["name"] }), kind.first?.(ctx), form(ctx, kind.schema, "", { only: kind.only })),
      kind.rare ? el("details", {}, el("summary", {}, "More"), el("div", { class: "grid" }, form(ctx, kind.schema, "", { only: kind.rare }))) : null,
      el("div", { class: "actions" }, button("Not this file", () => idle()), go));
  }

  async function begin(file, said) {
    const before = [...node.childNodes];
    running = new AbortController();
    const bar = progressBar(`Upload of ${file.name}`);
    const words = el("p", { role: "status" });
    let last = 0;
    const say = (text, fraction) => {
      if (fraction < 1 && Date.now() - last < SAY_MS) return;
      last = Date.now();
      setText(words, text);
      bar.set(fraction);
    };
    setChildren(node, el("p", {}, el("strong", {}, file.name)), words, bar.node,
      el("div", { class: "actions" }, button("Give up", () => running?.abort())));
    try {
      if (sent?.file !== file) sent = { file, id: await upload(file, say, running.signal) };
      const body = withoutDefaults(kind.schema, { ...ctx.draft.value, upload_id: sent.id }, root);
      follow(await post(kind.path, body, { signal: running.signal, headers: once() }));
    } catch (error) {
      setChildren(node, before);
      setChildren(said, error.name === "AbortError" ? "Given up; nothing of it was kept." : error.message);
      const rest = ctx.faults.show((error.problem?.errors ?? []).map((fault) => ({ ...fault, code: "" })));
      said.append(...rest.map(({ detail }) => el("p", {}, detail)));
    } finally {
      running = null;
    }
  }

  function follow(asset) {
    const failures = el("p", { class: "help", role: "status" });
    setChildren(node, el("p", {}, el("strong", {}, asset.name), ` · ${kind.reading}`), el("span", { class: "bone" }), failures);
    poll = pollWhileVisible(async () => {
      try {
        const now = await get(`${kind.path}/${asset.id}`);
        setText(failures, "");
        if (now.state === "ready" || now.state === "failed") ended(now);
      } catch (error) {
        setText(failures, error.message); // and asked again
      }
    }, () => LOOK_MS);
  }

  function ended(asset) {
    poll.stop();
    poll = null;
    announce(`${asset.name}: ${asset.state}`);
    if (asset.state === "failed") return idle(failed(asset));
    idle(el("p", { class: "notice" }, el("strong", {}, `${asset.name} is ready`), "It is chosen above.", (asset.warnings ?? []).map((text) => el("p", { class: "help" }, text))));
    return done(asset);
  }

  idle();
  return { node, follow, busy: () => Boolean(running || poll) };
}

function failed({ name, error }) {
  const node = notice(`${name} cannot be used`, [capital(error.message), ". ", error.hint ? `${capital(error.hint)}.` : null], { items: error.items, role: "alert" });
  node.querySelector("ul")?.setAttribute("tabindex", "0"); // a long list scrolls
  return node;
}

/** What makes a request done once only, however often it is sent; `crypto.randomUUID` is missing on plain http. */
export const once = () => ({ "Idempotency-Key": [...crypto.getRandomValues(new Uint8Array(16))].map(hex).join("") });
const hex = (byte) => byte.toString(16).padStart(2, "0");

function obstacle(file) {
  if (!crypto.subtle) return "The browser takes checksums only on https or on localhost. Open the dashboard there, or upload by Client.upload of stillhouse.client.";
  if (!file.size) return "This file is empty.";
  return file.size > MOST_BYTES ? `The browser sends files up to ${bytes(MOST_BYTES)}; upload this one by Client.upload of stillhouse.client.` : null;
}

/** The id of the complete upload. `say(what, fraction)` tells how far it is; after an abort nothing stays. */
async function upload(file, say, signal) {
  say("Taking the checksum", 0);
  const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
  const sha256 = [...new Uint8Array(digest)].map(hex).join("");
  const made = await post("/v1/uploads", { filename: file.name.slice(0, 200), size_bytes: file.size, sha256 }, { signal });
  try {
    let sent = 0;
    for (const part of made.parts) {
      const content = file.slice(sent, sent + part.size_bytes);
      await again(() => putPart(part.url, content, (done) => say(`Sent ${bytes(sent + done)} of ${bytes(file.size)}`, (sent + done) / file.size), signal), signal);
      sent += part.size_bytes;
    }
    say("Checking the whole", 1);
    await post(`/v1/uploads/${made.id}/complete`, undefined, { signal });
    return made.id;
  } catch (error) {
    del(`/v1/uploads/${made.id}`).catch(() => null);
    throw error;
  }
}

// A part may be sent again: a connection that breaks costs one part, not the file.
async function again(step, signal) {
  for (let left = TRIES; ; left -= 1) {
    try {
      return await step();
    } catch (error) {
      if (error.status !== 0 || left === 1) throw error;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      signal.throwIfAborted();
    }
  }
}

// XMLHttpRequest, because fetch does not tell how much has gone.
function putPart(url, content, progress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    signal.addEventListener("abort", stop);
    request.upload.onprogress = ({ loaded }) => progress(loaded);
    request.onload = () => (request.status < 300 ? resolve() : reject(new ApiError(request.status, "unexpected", request.response?.detail ?? `The server answered ${request.status}.`)));
    request.onerror = () => reject(new ApiError(0, "offline", "The connection broke off."));
    request.onabort = () => reject(new DOMException("given up", "AbortError"));
    request.onloadend = () => signal.removeEventListener("abort", stop);
    request.open("PUT", url);
    request.responseType = "json";
    request.send(content);
  });
}
