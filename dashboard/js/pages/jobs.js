// The table of jobs: is it running, how long yet, is the student any good.

import { clock } from "../format.js";
import { el, put, setText, typing } from "../dom.js";
import { problem } from "../parts.js";
import { connection } from "../shell.js";
import { whileVisible } from "../visible.js";
import { nothing, skeleton } from "./jobs/blank.js";
import { asked, countWords, filters } from "./jobs/filters.js";
import { JobList } from "./jobs/list.js";
import { COLUMNS, row } from "./jobs/row.js";

const LIVE_MS = 5000;
const IDLE_MS = 8000; // a job that was posted elsewhere appears by itself

export function mount(main, { query }) {
  document.title = "Jobs – Stillhouse";
  let list = null;
  let request = new AbortController();
  const rows = new Map();
  const body = el("tbody");
  const grid = el("table", { class: "cards jobs" }, el("caption", { class: "hidden" }, "Jobs, the newest first"),
    el("thead", {}, el("tr", {}, COLUMNS.map((name) => el("th", { scope: "col" }, name || el("span", { class: "hidden" }, "Actions"))))), body);
  const said = el("div");
  const empty = el("div");
  const count = el("span");
  const fresh = el("span");
  const more = el("button", { class: "button", type: "button", hidden: true, on: { click: () => load(() => list.more(request.signal)) } }, "Show more");
  const bar = filters(show);
  put(main,
    el("div", { class: "jobs-head" }, el("h1", { tabindex: "-1" }, "Jobs"), bar.nodes), said,
    el("div", { class: "panel" }, el("div", { class: "scroll" }, grid), empty),
    el("div", { class: "jobs-foot" }, more, count, fresh,
      el("span", { class: "keys" }, el("kbd", {}, "j"), " ", el("kbd", {}, "k"), " move · ", el("kbd", {}, "Enter"), " open · ", el("kbd", {}, "/"), " search")));

  function show(next) {
    request.abort();
    request = new AbortController();
    list = new JobList(asked(next));
    bar.show(next);
    rows.clear();
    put(empty);
    grid.hidden = false;
    more.hidden = true;
    setText(count, "");
    put(body, skeleton());
    grid.setAttribute("aria-busy", "true");
    load(() => list.more(request.signal));
  }

  async function load(step) {
    const mine = list;
    try {
      await step();
      if (mine !== list) return;
      put(said);
      draw();
      connection(list.live.length ? "live" : "idle");
    } catch (error) {
      if (error.name === "AbortError" || mine !== list || error.status === 401) return;
      connection(error.status === 0 ? "offline" : "idle");
      put(said, problem(error, poll.now));
    }
  }

  function draw() {
    grid.removeAttribute("aria-busy");
    const sorted = list.sorted;
    if (!rows.size) put(body);
    for (const id of rows.keys()) if (!list.jobs.has(id)) { rows.get(id).node.remove(); rows.delete(id); }
    sorted.forEach((job, at) => {
      if (!rows.has(job.id)) rows.set(job.id, row((changed) => { list.take([changed]); draw(); }));
      const line = rows.get(job.id);
      line.update(job);
      if (body.children[at] !== line.node) body.insertBefore(line.node, body.children[at] ?? null);
    });
    grid.hidden = !sorted.length;
    if (sorted.length) put(empty);
    else if (!empty.firstChild) put(empty, nothing(list.filter.state || list.filter.q));
    more.hidden = !list.cursor;
    if (sorted.length) countWords(count, sorted.length, list.cursor);
    else setText(count, "");
    setText(fresh, `Updated ${clock(new Date().toISOString())}`);
  }

  const poll = whileVisible(
    () => load(() => (list.jobs.size || !body.querySelector("[aria-hidden]") ? list.refresh(request.signal) : list.more(request.signal))),
    () => (list?.live.length ? LIVE_MS : IDLE_MS),
  );

  function keys(event) {
    if (typing(event)) return;
    if (event.key === "/") {
      event.preventDefault();
      bar.box.focus();
    } else if (event.key === "j" || event.key === "k") {
      const names = [...body.querySelectorAll(".name")];
      const at = names.indexOf(document.activeElement);
      names[Math.min(names.length - 1, Math.max(0, at + (event.key === "j" ? 1 : -1)))]?.focus();
    }
  }
  document.addEventListener("keydown", keys);
  show(query);

  return {
    update: show,
    leave() {
      request.abort();
      poll.stop();
      bar.stop();
      document.removeEventListener("keydown", keys);
    },
  };
}
