// The top of a job's page: name, state, what it is made of, what can be done.

import { cancel, canCancel } from "../../cancel.js";
import { el, put, setText } from "../../dom.js";
import { ago, duration, moment } from "../../format.js";
import { methodOf, named, studentOf, teacherOf } from "../../names.js";
import { copyButton } from "../../parts.js";
import { href } from "../../router.js";
import { chip } from "../../state.js";
import { jobPath } from "../../api.js";

export function header(onChange) {
  const title = el("h1", { tabindex: "-1" });
  const state = el("span");
  const facts = el("div", { class: "facts" });
  const actions = el("div", { class: "actions" });
  const node = el("div", {}, el("a", { class: "crumb", href: href("/jobs") }, "← Jobs"),
    el("div", { class: "job-head" }, el("div", { class: "title" }, title, state), actions), facts);
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
    } catch {
      onChange(null); // it has changed meanwhile: look again
    }
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
      put(actions,
        canCancel(job) ? el("button", { class: "button", type: "button", on: { click: stop } }, "Cancel job") : null,
        job.state === "succeeded" ? el("a", { class: "button primary", href: jobPath(job.id, "/student"), download: "student.safetensors" }, "Download student") : null);
      const [teacher, dataset] = await Promise.all([teacherOf(job), named("datasets", job.dataset)]);
      const student = studentOf(job);
      put(facts,
        fact(teacher ? "Teacher → student" : "Student", teacher ? `${teacher} → ${student}` : student),
        fact("Method", methodOf(job)),
        fact("Data", dataset?.name ?? job.dataset),
        el("span", { title: moment(job.created_at) }, el("span", { class: "muted" }, "Posted"), posted),
        job.usage?.device_s ? fact("Device time", duration(job.usage.device_s)) : null,
        el("span", {}, el("code", { class: "muted" }, job.id), copyButton(() => job.id, "Copy the job's id")));
    },
  };
}

const fact = (name, value) => el("span", {}, el("span", { class: "muted" }, name), value);
