// How it goes: the states so far, why it waits, how far it is, why it failed.

import { el, put, setText } from "../../dom.js";
import { between, clock, duration, left } from "../../format.js";
import { progressBar } from "../../parts.js";
import { TERMINAL, isLive, phaseWords, word } from "../../state.js";

const REASONS = { lost: "its worker was lost", drained: "its worker was shut down", stopped: "its worker was shut down", storage_away: "the object store was away" };

/** The states in order, each with how long it took. */
export function timeline() {
  const list = el("ol", { class: "timeline", "aria-label": "States" });
  const states = [];

  function tick() {
    states.forEach(({ state, time, spent }, at) => {
      const next = states[at + 1]?.time;
      const ended = TERMINAL.includes(state);
      setText(spent, ended ? `at ${clock(time)}` : duration(between(time, next)));
    });
  }

  return {
    node: list,
    tick,
    add({ time, data }) {
      const spent = el("span", { class: "num" });
      const why = data.reason ? el("span", {}, ` (${REASONS[data.reason] ?? data.reason})`) : null;
      states.push({ state: data.state, time, spent });
      list.append(el("li", { title: clock(time) }, el("b", {}, word(data.state)), spent, why));
      tick();
    },
  };
}

/** Progress of a live job; nothing for one that has ended. */
export function going() {
  const bar = progressBar("Progress of this job");
  const percent = el("strong", { class: "num" });
  const eta = el("span", { class: "muted num" });
  const where = el("p", { class: "where num" });
  const node = el("div", { class: "panel going" }, percent, bar.node, eta, where);
  return {
    node,
    update(job) {
      node.hidden = !isLive(job) || job.state === "queued";
      if (node.hidden) return;
      const { progress } = job;
      bar.set(progress?.fraction);
      setText(percent, `${Math.floor(100 * (progress?.fraction ?? 0))} %`);
      setText(eta, left(job.eta_s));
      const steps = progress ? `epoch ${progress.epoch} of ${progress.epochs} · step ${progress.step.toLocaleString("en-GB")} of ${progress.steps.toLocaleString("en-GB")}` : "";
      const both = job.resolved.evaluation?.baseline ? "student and undistilled student counted together" : "";
      const text = [job.state === "cancelling" ? "ending at the next step" : phaseWords(job.phase), steps, progress ? both : ""].filter(Boolean).join(" · ");
      setText(where, text.charAt(0).toUpperCase() + text.slice(1));
    },
  };
}

/** Why the job waits. */
export function waiting() {
  const node = el("div", { class: "notice", "data-tone": "wait", hidden: true });
  let seen = "";
  return {
    node,
    update(job) {
      node.hidden = job.state !== "queued";
      const now = `${job.waiting_reason}`;
      if (node.hidden || now === seen) return;
      seen = now;
      const none = now === "no worker is running";
      put(node, el("strong", {}, "Waiting in the queue"), sentence(now), none ? [" Workers come with ", el("code", {}, "stillhouse up"), "; the job starts as soon as one is there."] : null);
    },
  };
}

/** What went wrong, and what would help. */
export function fault() {
  const node = el("div", { class: "notice", "data-tone": "bad", hidden: true });
  return {
    node,
    update(job) {
      const { error } = job;
      node.hidden = !error || job.state !== "failed";
      if (node.hidden || node.firstChild) return;
      const where = [error.phase ? `while ${phaseWords(error.phase)}` : "", error.run ? `run ${error.run}` : ""].filter(Boolean).join(", ");
      put(node,
        el("strong", {}, `Failed: ${error.code.replaceAll("_", " ")}`, where ? el("span", { class: "muted" }, ` · ${where}`) : null),
        el("p", {}, sentence(error.message)),
        error.hint ? el("p", {}, el("b", {}, "What may help: "), sentence(error.hint)) : null,
        error.items?.length ? el("ul", {}, error.items.map((item) => el("li", {}, el("code", {}, item.name), ` ${item.detail}`))) : null);
    },
  };
}

function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}
