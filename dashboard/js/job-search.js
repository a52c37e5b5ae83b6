// A combobox that finds jobs by name or id.

import { get, isIgnorable } from "./api.js";
import { el } from "./dom.js";
import { ago, percent } from "./format.js";
import { stateWord } from "./job-state.js";
import { combobox } from "./tabs.js";

const PAUSE_MS = 250;
const SHOWN = 8;

export function jobSearch({ id, label, words, taken, onAdd }) {
  let timer = 0;
  let request = new AbortController();
  const { input, found, show, close } = combobox({
    id: `${id}-found`, label: "Jobs found", props: { id, type: "search", "aria-label": label, placeholder: words, maxlength: "200" },
    look: () => {
      clearTimeout(timer);
      timer = setTimeout(look, PAUSE_MS);
    },
    option: (job) => {
      const top1 = job.result?.student_top1 ?? job.summary?.["val/top1"];
      const facts = [stateWord(job.state), Number.isFinite(top1) ? percent(top1, 1) : null, ago(job.created_at)].filter(Boolean);
      return [el("span", { class: "name" }, job.resolved.name), el("span", { class: "muted small" }, facts.join(" · "))];
    },
    pick: (job, _, first) => {
      if (!(job ?? first)) return;
      input.value = "";
      onAdd(job ?? first);
    },
  });

  async function look() {
    request.abort();
    request = new AbortController();
    try {
      const { data } = await get("/v1/jobs", { q: input.value.trim(), limit: SHOWN + taken().length }, request.signal);
      const there = taken();
      const jobs = data.filter(({ id }) => !there.includes(id)).slice(0, SHOWN);
      show(jobs, jobs.length ? "" : "No further job fits");
    } catch (error) {
      if (!isIgnorable(error)) show([], error.message);
    }
  }

  return {
    node: el("div", { class: "adder" }, input, found),
    input,
    stop() {
      clearTimeout(timer);
      request.abort();
      close();
    },
  };
}
