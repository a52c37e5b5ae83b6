// Two to ten jobs beside each other.

import { announce, bones, connection, copyOf, el, get, isLive, jobPath, moot, problem, put, replaceQuery, whileVisible } from "../kit.js";
import { asked, compareHref, curves, jobSearch, keys, missing, MOST } from "./compare/jobs.js";
import { results, settings } from "./compare/tables.js";

const POLL_MS = 10000;
const MAX_POINTS = 500;
const WORDS = "Add a job: its name or id";

export function mount(main, { query }) {
  let ids = [];
  let axis = "epoch";
  let answer = null;
  let failed = false;
  let request = new AbortController();
  const go = (next) => { location.hash = compareHref(next, axis); };
  const heading = el("h1", { tabindex: "-1" }, "Compare");
  const key = keys({ onMove: (id) => { announce("Reference changed"); go([id, ...ids.filter((each) => each !== id)]); }, onRemove: remove });
  const add = jobSearch({ id: "add-job", label: "Add a job", words: WORDS, taken: () => ids, onAdd: ({ id }) => go([...ids, id]) });
  const said = el("div", { class: "compare-said" });
  const place = el("div");
  const parts = [settings(), results()];
  const lines = curves(chooseAxis);
  const body = el("div", { class: "stack", hidden: true }, parts[1].node, parts[0].node, lines.node);
  put(main, el("a", { class: "crumb", href: "#/jobs" }, "← Jobs"), el("div", { class: "compare-head" }, heading, add.node), key.node, said, place, body);

  function remove(id) {
    go(ids.filter((each) => each !== id));
    if (ids.length === 1) heading.focus();
  }

  function chooseAxis(next) {
    replaceQuery({ x: next === "epoch" ? "" : next });
    axis = next;
    lines.mark(axis);
    load();
  }

  function show(next) {
    const wanted = asked(next);
    const same = wanted.ids.join() === ids.join() && answer;
    ids = wanted.ids;
    axis = wanted.axis;
    lines.mark(axis);
    add.input.disabled = ids.length >= MOST;
    add.input.placeholder = add.input.disabled ? "Ten jobs are the most" : WORDS;
    key.update(ids, answer?.jobs);
    put(said, wanted.more ? el("p", { class: "notice" }, `Ten jobs are the most: ${wanted.more} more in the address ${wanted.more === 1 ? "is" : "are"} left out.`) : null);
    if (same) return load();
    body.hidden = true;
    put(place, ids.length < 2 ? copyOf(ids.length ? "compare-one" : "compare-none") : bones());
    return load();
  }

  async function load() {
    request.abort();
    const mine = request = new AbortController();
    try {
      if (ids.length < 2) return await alone(mine.signal);
      const found = await get("/v1/compare", { jobs: ids.join(","), x: axis, max_points: MAX_POINTS }, mine.signal);
      if (mine !== request) return undefined;
      failed = false;
      draw(found);
      connection(found.jobs.some(isLive) ? "live" : "idle");
    } catch (error) {
      if (moot(error) || mine !== request) return undefined;
      failed = error.status === 0;
      connection(failed ? "offline" : "idle");
      if (!answer || !failed) { body.hidden = true; put(place); }
      put(said, (error.status === 404 && await gone(mine.signal)) || problem(error, load));
    }
    return undefined;
  }

  // One job is named, though there is nothing to compare it with.
  async function alone(signal) {
    answer = null;
    connection("idle");
    if (!ids.length) return;
    const job = await get(jobPath(ids[0]), {}, signal);
    const { student } = job.resolved;
    key.update(ids, [{ id: job.id, name: job.resolved.name, state: job.state, student: student.architecture, methods: [] }]);
  }

  async function gone(signal) {
    const there = await Promise.all(ids.map((id) => get(jobPath(id), {}, signal).catch((error) => (error.status === 404 ? null : id))));
    const lost = ids.filter((_, at) => there[at] === null);
    return lost.length ? missing(lost, () => go(ids.filter((id) => !lost.includes(id)))) : null;
  }

  function draw(found) {
    const first = !answer || body.hidden;
    answer = found;
    key.update(ids, answer.jobs);
    put(place);
    if (said.querySelector("[role=alert]")) put(said);
    body.hidden = false;
    for (const part of parts) part.update(answer);
    lines.update(answer, axis);
    if (first) document.title = `Compare ${answer.jobs.length} jobs – Stillhouse`;
  }

  const poll = whileVisible(() => (failed || (ids.length > 1 && answer?.jobs.some(isLive)) ? load() : undefined), () => POLL_MS);
  show(query);

  return {
    update: show,
    leave() {
      request.abort();
      poll.stop();
      add.stop();
      lines.destroy();
    },
  };
}
