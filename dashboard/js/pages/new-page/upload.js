// A drop zone for one file: describe it, upload it, and follow its processing.

import { ApiError, del, get, post } from "../../fetch.js";
import { acceptDrops, announce, button, notice, progressBar } from "../../components.js";
import { el, setChildren, setText } from "../../dom.js";
import { bytes, capital } from "../../format.js";
import { form } from "../../schema-form.js";
import { Draft, FieldIssues, withoutDefaults } from "../../json-schema.js";
import { pollWhileVisible } from "../../streams.js";
import { architectureField } from "./architecture-picker.js";

const MAX_BYTES = 1.5 * 2 ** 30; // the browser can compute the digest of data in memory only
const MAX_TRIES = 3;
const PAUSE_MS = 1500;
const POLL_MS = 1000;
const PROGRESS_MS = 500;

/** `kind`: {path, schema, id, name, hint, only, rare, progress, hasArchitecture?}. Uploads go on while the user visits
 * other pages. */
export function uploadZone(kind, root, onReady) {
  const node = acceptDrops(el("div", { class: "drop" }), ([file]) => busy() || choose(file));
  const ctx = { draft: null, root, id: kind.id, issues: new FieldIssues() };
  let running = null;
  let poll = null;
  let uploaded = null; // {file, id}: a complete upload is not repeated

  const busy = () => Boolean(running || poll);

  function idle(...above) {
    const input = el("input", { type: "file", class: "hidden", on: { change: () => input.files[0] && choose(input.files[0]) } });
    setChildren(node, above, el("p", {}, el("label", { class: "button small" }, "Choose a file", el("span", { class: "hidden" }, ` as ${kind.name}`), input), " or drop it here."), el("p", { class: "help" }, kind.hint));
  }

  function choose(file) {
    const reason = refusal(file);
    if (reason) return idle(el("p", { class: "notice", "data-tone": "bad", role: "alert" }, reason));
    const draft = new Draft({ name: file.name.replace(/(\.tar)?\.\w+$/, "").slice(0, 200) });
    ctx.draft = draft;
    const message = el("div", { role: "alert" });
    const start = button("Upload", () => begin(file, message));
    return setChildren(node, el("p", {}, el("strong", {}, file.name), ` · ${bytes(file.size)}`), message,
      el("div", { class: "grid" }, form(ctx, kind.schema, "", { only: ["name"] }), kind.hasArchitecture ? architectureField(ctx, "/architecture") : null, form(ctx, kind.schema, "", { only: kind.only })),
      kind.rare ? el("details", {}, el("summary", {}, "More"), el("div", { class: "grid" }, form(ctx, kind.schema, "", { only: kind.rare }))) : null,
      el("div", { class: "actions" }, button("Choose another file", () => idle()), start));
  }

  async function begin(file, message) {
    const before = [...node.childNodes];
    running = new AbortController();
    const bar = progressBar(`Upload of ${file.name}`);
    const words = el("p", { role: "status" });
    let last = 0;
    const showProgress = (text, fraction) => {
      if (fraction < 1 && Date.now() - last < PROGRESS_MS) return;
      last = Date.now();
      setText(words, text);
      bar.set(fraction);
    };
    setChildren(node, el("p", {}, el("strong", {}, file.name)), words, bar.node,
      el("div", { class: "actions" }, button("Cancel the upload", () => running?.abort())));
    try {
      if (uploaded?.file !== file) uploaded = { file, id: await upload(file, showProgress, running.signal) };
      const body = withoutDefaults(kind.schema, { ...ctx.draft.value, upload_id: uploaded.id }, root);
      follow(await post(kind.path, body, { signal: running.signal, headers: idempotencyKey() }));
    } catch (error) {
      setChildren(node, before);
      setChildren(message, error.name === "AbortError" ? "The upload was cancelled and deleted." : error.message);
      const rest = ctx.issues.show((error.problem?.errors ?? []).map((issue) => ({ ...issue, code: "" })));
      message.append(...rest.map(({ detail }) => el("p", {}, detail)));
    } finally {
      running = null;
    }
  }

  function follow(asset) {
    const failures = el("p", { class: "help", role: "status" });
    setChildren(node, el("p", {}, el("strong", {}, asset.name), ` · ${kind.progress}`), el("span", { class: "bone" }), failures);
    poll = pollWhileVisible(async () => {
      try {
        const now = await get(`${kind.path}/${asset.id}`);
        setText(failures, "");
        if (now.state === "ready" || now.state === "failed") finish(now);
      } catch (error) {
        setText(failures, error.message); // the next poll tries again
      }
    }, () => POLL_MS);
  }

  function finish(asset) {
    poll.stop();
    poll = null;
    announce(`${asset.name}: ${asset.state}`);
    if (asset.state === "failed") return idle(failureNotice(asset));
    idle(el("p", { class: "notice" }, el("strong", {}, `${asset.name} is ready`), "It is selected above.", (asset.warnings ?? []).map((text) => el("p", { class: "help" }, text))));
    return onReady(asset);
  }

  idle();
  return { node, follow, busy };
}

function failureNotice({ name, error }) {
  const node = notice(`${name} cannot be used`, [capital(error.message), ". ", error.hint ? `${capital(error.hint)}.` : null], { items: error.items, role: "alert" });
  node.querySelector("ul")?.setAttribute("tabindex", "0"); // a long list scrolls
  return node;
}

/** A header: the API executes a repeated request once. (`crypto.randomUUID` is missing on plain http.) */
export const idempotencyKey = () => ({ "Idempotency-Key": [...crypto.getRandomValues(new Uint8Array(16))].map(hex).join("") });
const hex = (byte) => byte.toString(16).padStart(2, "0");

function refusal(file) {
  if (!crypto.subtle) return "The browser computes checksums only on https or localhost. Open the dashboard there, or use Client.upload of stillhouse.client.";
  if (!file.size) return "This file is empty.";
  return file.size > MAX_BYTES ? `The browser uploads files of at most ${bytes(MAX_BYTES)}. For this one use Client.upload of stillhouse.client.` : null;
}

// The id of the complete upload; a failed one is deleted. `onProgress(text, fraction)`.
async function upload(file, onProgress, signal) {
  onProgress("Computing the checksum", 0);
  const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
  const sha256 = [...new Uint8Array(digest)].map(hex).join("");
  const created = await post("/v1/uploads", { filename: file.name.slice(0, 200), size_bytes: file.size, sha256 }, { signal });
  try {
    let sent = 0;
    for (const part of created.parts) {
      const content = file.slice(sent, sent + part.size_bytes);
      await retry(() => putPart(part.url, content, (done) => onProgress(`Sent ${bytes(sent + done)} of ${bytes(file.size)}`, (sent + done) / file.size), signal), signal);
      sent += part.size_bytes;
    }
    onProgress("Verifying the upload", 1);
    await post(`/v1/uploads/${created.id}/complete`, undefined, { signal });
    return created.id;
  } catch (error) {
    del(`/v1/uploads/${created.id}`).catch(() => null);
    throw error;
  }
}

// After a lost connection only the part is sent again, not the file.
async function retry(action, signal) {
  for (let remaining = MAX_TRIES; ; remaining -= 1) {
    try {
      return await action();
    } catch (error) {
      if (error.status !== 0 || remaining === 1) throw error;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      signal.throwIfAborted();
    }
  }
}

// XMLHttpRequest, because fetch does not report the progress of an upload.
function putPart(url, content, progress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    signal.addEventListener("abort", stop);
    request.upload.onprogress = ({ loaded }) => progress(loaded);
    request.onload = () => (request.status < 300 ? resolve() : reject(new ApiError(request.status, "unexpected", request.response?.detail ?? `The server returned status ${request.status}.`)));
    request.onerror = () => reject(new ApiError(0, "offline", "The connection was lost."));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    request.onloadend = () => signal.removeEventListener("abort", stop);
    request.open("PUT", url);
    request.responseType = "json";
    request.send(content);
  });
}
