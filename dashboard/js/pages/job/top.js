// The top of the page: name, actions, states, progress, what went wrong.

import { ago, announce, between, button, canCancel, cancel, capital, chip, clock, copyButton, duration, el, href, ifKnown, isLive, jobPath, left, methodOf, moment, phaseWords, plain, post, progressBar, put, remove, sentence, setText, studentOf, teacherOf, TERMINAL, whole, word } from "../../kit.js";

const WISHES = {
  pause: { label: "Pause", states: ["queued", "starting", "running"] },
  resume: { label: "Resume", states: ["pausing", "paused"] },
  retry: { label: "Retry", states: ["failed"] },
};

/** `onChange` takes the job as an action left it, or null to have it looked for. */
export function header(onChange) {
  const title = el("h1", { tabindex: "-1" });
  const state = el("span");
  const facts = el("div", { class: "facts" });
  const actions = el("div", { class: "actions" });
  const said = el("p", { class: "refused small", role: "status" });
  const node = el("div", {}, el("a", { class: "crumb", href: href("/jobs") }, "← Jobs"),
    el("div", { class: "job-head" }, el("div", { class: "title" }, title, state), actions), said, facts);
  let job = null;
  let seen = "";
  const posted = el("span");
  const tick = () => job && setText(posted, ago(job.created_at));

  async function stop(event) {
    event.target.disabled = true;
    try {
      const changed = await cancel(job);
      if (changed) onChange(changed);
      else event.target.disabled = false;
    } catch (error) {
      event.target.disabled = false;
      setText(said, `Not cancelled: ${error.message}`);
      onChange(null); // it may have changed meanwhile: look again
    }
  }

  async function wish(event, action) {
    event.target.disabled = true;
    try {
      const changed = await post(jobPath(job.id, `/${action}`));
      announce(`${changed.resolved.name}: ${word(changed.state)}`);
      if (action === "retry") location.reload(); // its stream had ended
      else onChange(changed);
    } catch (error) {
      event.target.disabled = false;
      setText(said, `This was not done: ${error.message}.`);
      onChange(null);
    }
  }

  const wishes = () => Object.entries(WISHES).filter(([, { states }]) => states.includes(job.state))
    .map(([action, { label }]) => button(label, (event) => wish(event, action)));

  async function throwAway(event) {
    event.target.disabled = true;
    try {
      if (await remove(job)) location.hash = href("/jobs");
    } catch (error) {
      setText(said, `Not deleted: ${error.message}.`);
    }
    event.target.disabled = false;
  }

  function buttons() {
    const student = job.state === "succeeded" && job.kind === "distill"; // an evaluation makes none
    const page = (path, text, query) => el("a", { class: "button", href: href(path, query) }, text);
    return [
      ...wishes(),
      canCancel(job) ? button("Cancel job", stop) : null,
      TERMINAL.includes(job.state) ? button("Delete", throwAway) : null,
      page("/new", "Duplicate", { from: job.id }),
      page("/compare", "Compare", { jobs: job.id }),
      student ? page(`/students/${job.id}`, "Student page") : null,
      student ? el("a", { class: "button primary", href: jobPath(job.id, "/student"), download: "student.safetensors" }, "Download student") : null,
    ];
  }

  return {
    node,
    tick,
    async update(next) {
      job = next;
      tick();
      const now = JSON.stringify([job.state, job.resolved.name]);
      if (now === seen) return;
      seen = now;
      put(title, job.resolved.name);
      put(state, chip(job.state));
      put(actions, buttons());
      const [teacher, dataset] = await Promise.all([teacherOf(job), ifKnown("datasets", job.dataset)]);
      const student = studentOf(job);
      put(facts,
        fact(teacher ? "Teacher → student" : "Student", teacher ? `${teacher} → ${student}` : student),
        fact("Method", methodOf(job)),
        fact("Data", dataset?.name ?? job.dataset),
        ...Object.entries(job.labels ?? {}).map(([key, value]) => fact("Label", el("a", { href: href("/jobs", { label: `${key}:${value}` }) }, `${key}:${value}`))),
        el("span", { title: moment(job.created_at) }, el("span", { class: "muted" }, "Posted"), posted),
        job.usage?.device_s && TERMINAL.includes(job.state) ? fact("Device time", duration(job.usage.device_s)) : null,
        el("span", {}, el("code", { class: "muted" }, job.id), copyButton(() => job.id, "Copy the job's id")));
    },
  };
}

const fact = (name, value) => el("span", {}, el("span", { class: "muted" }, name), value);

const REASONS = { lost: "its worker was lost", drained: "its worker was shut down", stopped: "its worker was shut down", storage_away: "the object store was away" };

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
      const why = data.reason && data.state === "queued" ? el("span", {}, ` (${REASONS[data.reason] ?? data.reason})`) : null;
      states.push({ state: data.state, time, spent });
      list.append(el("li", { title: clock(time) }, el("b", {}, word(data.state)), spent, why));
      tick();
    },
  };
}

const ENDING = { cancelling: "ending at the next step", pausing: "writing a checkpoint" };

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
      const steps = progress ? `epoch ${progress.epoch} of ${progress.epochs} · step ${whole(progress.step)} of ${whole(progress.steps)}` : "";
      const both = job.resolved.evaluation?.baseline ? "student and undistilled student counted together" : "";
      const text = [ENDING[job.state] ?? phaseWords(job.phase), steps, progress ? both : ""].filter(Boolean).join(" · ");
      setText(where, capital(text));
    },
  };
}

export function waiting() {
  const node = el("div", { class: "notice", "data-tone": "wait", hidden: true });
  let seen = "";
  return {
    node,
    update(job) {
      node.hidden = !["queued", "paused"].includes(job.state);
      const now = `${job.waiting_reason ?? "its worker is free for others; Resume goes on from the last checkpoint"}`;
      if (node.hidden || now === seen) return;
      seen = now;
      const none = now === "no worker is running";
      put(node, el("strong", {}, job.state === "paused" ? "Paused" : "Waiting in the queue"), sentence(now), none ? [" Workers come with ", el("code", {}, "stillhouse up"), "; the job starts as soon as one is there."] : null);
    },
  };
}

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
        el("strong", {}, `Failed: ${plain(error.code)}`, where ? el("span", { class: "muted" }, ` · ${where}`) : null),
        el("p", {}, sentence(error.message)),
        error.hint ? el("p", {}, el("b", {}, "What may help: "), sentence(error.hint)) : null,
        error.items?.length ? el("ul", {}, error.items.map((item) => el("li", {}, el("code", {}, item.name), ` ${item.detail}`))) : null);
    },
  };
}
