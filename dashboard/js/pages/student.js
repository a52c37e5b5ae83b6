// A finished student: what it is worth, what it says of an image, and how to take it home.

import { get, jobPath } from "../api.js";
import { el, put } from "../dom.js";
import { nameOf } from "../cancel.js";
import { problem } from "../parts.js";
import { href } from "../router.js";
import { connection } from "../shell.js";
import { TERMINAL, chip } from "../state.js";
import { whileVisible } from "../visible.js";
import { card, files } from "./student/card.js";
import { header, keeper, load, numbers } from "./student/head.js";
import { playground } from "./student/playground.js";

const WAIT_MS = 5000;

export function mount(main, { args: [id], query }) {
  const gone = new AbortController();
  let waiting = null;
  let play = null;
  let again = 0;

  async function begin() {
    put(main, el("h1", { tabindex: "-1", class: "hidden" }, "Student"), el("p", { class: "muted" }, "Loading the student…"));
    try {
      const job = await get(jobPath(id), {}, gone.signal);
      connection("idle");
      if (job.state === "succeeded" && job.kind === "distill") await show(job);
      else none(job);
    } catch (error) {
      failed(error);
    }
  }

  async function show(job) {
    const known = await load(job, gone.signal);
    if (gone.signal.aborted) return;
    const keep = keeper(job, gone.signal);
    const top = header(known, keep);
    play = playground(known, keep, query, gone.signal);
    put(main, el("div", { class: "stack student" }, top.node, numbers(known), play.node, files(known, query), card(known)));
    document.title = `${nameOf(job)}, student – Stillhouse`;
    keep.look();
    if (document.activeElement === document.body) main.querySelector("h1").focus();
  }

  // A job without a student: say why; one that goes on is looked at until it has one.
  function none(job) {
    const over = TERMINAL.includes(job.state);
    const own = href(`/jobs/${job.id}`);
    const why = job.kind !== "distill" ? "This job trains no student."
      : over ? "This job has ended without a student." : "The student comes when the job has succeeded.";
    put(main, el("div", { class: "stack" },
      el("div", {}, el("a", { class: "crumb", href: own }, "← Job"), el("h1", { tabindex: "-1" }, `Student of ${nameOf(job)}`)),
      el("div", { class: "notice", "data-tone": over ? null : "wait" }, el("p", {}, chip(job.state), " ", why),
        el("a", { class: "button small", href: own }, "Open the job"))));
    if (over) return;
    waiting ??= whileVisible(async () => {
      const now = await get(jobPath(id), {}, gone.signal).catch(() => job);
      if (now.state === job.state) return;
      waiting.stop();
      waiting = null;
      begin();
    }, () => WAIT_MS);
  }

  function failed(error) {
    if (error.name === "AbortError" || error.status === 401) return;
    connection(error.status === 0 ? "offline" : "idle");
    put(main, el("h1", { class: "hidden", tabindex: "-1" }, "Student"), problem(error, error.status === 404 ? null : begin));
    if (error.status === 0) again = setTimeout(begin, WAIT_MS);
  }

  begin();
  return {
    update() {}, // the query is of this page's own making
    leave() {
      gone.abort();
      clearTimeout(again);
      waiting?.stop();
      play?.leave();
    },
  };
}
