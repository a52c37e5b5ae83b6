// A combobox that finds jobs by name or id.

import { get, isIgnorable } from "./api.js";
import { el } from "./dom.js";
import { ago, percent } from "./format.js";
import { stateWord } from "./job-state.js";
import { combobox } from "./tabs.js";

const PAUSE_MS = 250;
const SHOWN = 8;

/** `excluded()`: ids that are not offered; `onAdd(job)`: a job was chosen. */
export function jobSearch({ id, label, placeholder, excluded, onAdd }) {
  let timer = 0;
  let request = new AbortController();
  const { input, popup, show, close } = combobox({
    id: `${id}-list`, label: "Jobs found", props: { id, type: "search", "aria-label": label, placeholder, maxlength: "200" },
    search: () => {
      clearTimeout(timer);
      timer = setTimeout(search, PAUSE_MS);
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

  async function search() {
    request.abort();
    request = new AbortController();
    try {
      const { data } = await get("/v1/jobs", { q: input.value.trim(), limit: SHOWN + excluded().length }, request.signal);
      const ids = excluded();
      const jobs = data.filter(({ id }) => !ids.includes(id)).slice(0, SHOWN);
      show(jobs, jobs.length ? "" : "No other job matches");
    } catch (error) {
      if (!isIgnorable(error)) show([], error.message);
    }
  }

  return {
    node: el("div", { class: "adder" }, input, popup),
    input,
    stop() {
      clearTimeout(timer);
      request.abort();
      close();
    },
  };
}
