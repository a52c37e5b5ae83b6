// The table of jobs: is it running, how long yet, is the student any good.

import { button, clock, connection, el, get, href, moot, problem, put, setText } from "../kit.js";
import { asked, countWords, filtered, filters } from "./jobs/filters.js";
import { JobList, keepFresh } from "./jobs/list.js";
import { help, picked, tableKeys } from "./jobs/picked.js";
import { COLUMNS, nothing, row, skeleton } from "./jobs/row.js";

const DRAW_MS = 500; // at most two updates a second
const SETTLE_MS = 2000; // counts and places in the queue follow a change of state

export function mount(main, { query }) {
  let list = null;
  let request = new AbortController();
  let drawing = 0;
  let settling = 0;
  const rows = new Map();
  const body = el("tbody");
  const chosen = picked({ jobs: () => list.jobs, shown: (ids) => { for (const [id, line] of rows) line.pick(ids.has(id)); }, changed });
  const heads = COLUMNS.map((name, at) => el("th", { scope: "col", class: at ? null : "pick" }, at ? name || el("span", { class: "hidden" }, "Actions") : el("label", {}, chosen.all)));
  const grid = el("table", { class: "cards jobs" }, el("caption", { class: "hidden" }, "Jobs, the newest first"), el("thead", {}, el("tr", {}, heads)), body);
  const said = el("div");
  const empty = el("div");
  const count = el("span");
  const fresh = el("span");
  const more = button("Show more", () => load(() => list.more(request.signal)), { hidden: true });
  const bar = filters(show);
  put(main,
    el("div", { class: "jobs-head" }, el("div", { class: "jobs-title" }, el("h1", { tabindex: "-1" }, "Jobs"), el("a", { class: "button primary", href: href("/new") }, "New job")), bar.nodes),
    said, chosen.told,
    el("div", { class: "panel" }, el("div", { class: "scroll" }, grid), empty), chosen.node,
    el("div", { class: "jobs-foot" }, more, count, fresh, el("button", { class: "keys toggle", type: "button", on: { click: help } }, "Keys ", el("kbd", {}, "?"))));

  function show(next) {
    request.abort();
    request = new AbortController();
    list = new JobList(asked(next));
    bar.show(next);
    rows.clear();
    chosen.clear();
    put(empty);
    grid.hidden = false;
    more.hidden = true;
    setText(count, "");
    put(body, skeleton());
    grid.setAttribute("aria-busy", "true");
    load(() => list.more(request.signal)).then(settle);
  }

  async function load(step) {
    const mine = list;
    try {
      await step();
      if (mine !== list) return;
      put(said);
      draw();
      if (!live.streaming) connection("idle");
      live.start();
    } catch (error) {
      if (moot(error) || mine !== list) return;
      connection(error.status === 0 ? "offline" : "idle");
      put(said, problem(error, () => load(() => list.refresh(request.signal))));
      if (list.read) return;
      grid.removeAttribute("aria-busy");
      grid.hidden = true; // nothing is on its way any more
    }
  }

  function changed(job) {
    const state = list.jobs.get(job.id)?.state;
    list.take([job]);
    if (state !== job.state) settling ||= setTimeout(settle, SETTLE_MS);
    drawing ||= setTimeout(draw, DRAW_MS);
  }

  /** Counts by state and places in the queue: of the whole project, so no job's own change tells them. */
  async function settle() {
    clearTimeout(settling);
    settling = 0;
    if (document.hidden) return;
    const { signal } = request;
    try {
      bar.count((await get("/v1/usage", {}, signal)).jobs);
      await list.waiting(signal);
      if (list.read && !signal.aborted) draw();
    } catch {
      // The table itself says when the server is away.
    }
  }

  function draw() {
    clearTimeout(drawing);
    drawing = 0;
    if (!list.read) return;
    grid.removeAttribute("aria-busy");
    grid.hidden = false;
    const sorted = list.sorted;
    if (!rows.size) put(body);
    for (const id of rows.keys()) if (!list.jobs.has(id)) drop(id);
    sorted.forEach((job, at) => {
      if (!rows.has(job.id)) rows.set(job.id, row({ changed, pick: chosen.toggle, failed: (text) => setText(chosen.told, text) }));
      const line = rows.get(job.id);
      line.update(job);
      if (body.children[at] !== line.node) body.insertBefore(line.node, body.children[at] ?? null);
    });
    grid.hidden = !sorted.length;
    if (sorted.length) put(empty);
    else if (!empty.firstChild) put(empty, nothing(filtered(list.filter)));
    more.hidden = !list.cursor;
    if (sorted.length) countWords(count, sorted.length, list.cursor);
    else setText(count, "");
    chosen.show();
    setText(fresh, `Updated ${clock(new Date().toISOString())}${live.streaming ? "" : ", every few seconds"}`);
  }

  function drop(id) {
    const { node } = rows.get(id);
    const next = node.nextElementSibling ?? node.previousElementSibling;
    const focused = node.contains(document.activeElement);
    node.remove();
    rows.delete(id);
    if (focused) next?.querySelector(".name")?.focus();
  }

  const live = keepFresh({
    job: changed,
    again: () => load(() => list.refresh(request.signal)).then(settle),
    ages: () => rows.forEach((line) => line.tick()),
    lively: () => Boolean(list?.live.length),
  });
  const endKeys = tableKeys(body, {
    search: () => bar.box.focus(),
    pick: (node) => [...rows].forEach(([id, line]) => line.node === node && chosen.toggle(id)),
  });
  show(query);

  return {
    update: show,
    leave() {
      request.abort();
      clearTimeout(drawing);
      clearTimeout(settling);
      live.stop();
      bar.stop();
      endKeys();
    },
  };
}
