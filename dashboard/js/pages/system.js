// The machine room; here workers, and jobs in the order in which they will start.

import { ago, announce, badge, chip, el, everything, fixed, frame, get, href, jobPath, keyed, LIVE, moment, notice, patch, put, row, scroll, sentence, setText, small, tabbed, TERMINAL, whole } from "../kit.js";
import { keysTab, pane, readyTab, useTab } from "./system/keys.js";

const TABS = {
  workers: ["Workers", workersTab], queue: ["Queue", queueTab], use: ["Storage and use", useTab],
  ready: ["Readiness", readyTab], keys: ["API keys", keysTab],
};

export const mount = (main, { query }) => tabbed(main, "System", TABS, query);

const tableOf = (caption, columns, body) => el("div", { class: "panel" }, scroll(caption, frame(caption, columns, body, "cards")));
const WORKER = ["Worker", "State", "Lane", "Busy with", "Last seen", "Started"];

function workersTab(signal) {
  const [words, lines] = [el("p", { class: "muted" }), el("tbody")];
  const table = tableOf("Workers", WORKER, lines);
  const show = keyed(lines, ({ name }) => name, workerRow);
  return pane({
    live: true, parts: [words, table],
    // The ages change also where nothing else does.
    ask: async (aborted) => ({ workers: await everything("/v1/workers", {}, aborted), at: Date.now() }),
    draw({ workers }) {
      const alive = workers.filter((worker) => worker.alive);
      setText(words, alive.length
        ? `Alive: ${alive.length}, busy: ${alive.filter(({ busy }) => busy).length}. One queue trains, the other prepares what is uploaded.`
        : "No worker is alive: jobs wait until one is. Workers come with stillhouse up.");
      show(workers.sort((a, b) => b.alive - a.alive || (a.queue + a.name < b.queue + b.name ? 1 : -1)));
      table.hidden = !workers.length;
    },
  }, signal);
}

function workerRow(worker) {
  const [state, doing, age] = [el("span"), el("span"), el("span", { class: "num" })];
  const node = row(WORKER, [worker.name, state, worker.queue, doing, age, el("span", { class: "muted num", title: moment(worker.started_at) }, ago(worker.started_at))]);
  let seen = "";
  return {
    update({ seen_at: at, alive, busy, jobs }) {
      setText(age, ago(at));
      age.title = moment(at);
      const now = JSON.stringify([alive, busy, jobs]);
      if (now !== seen) {
        put(state, alive ? badge("Alive", "good") : badge("Gone", "bad"));
        put(doing, jobs.length ? jobs.map((job, place) => [place ? ", " : "", link(job)]) : busy ? "other work" : "–");
      }
      seen = now;
      return node;
    },
  };
}

function link(id) {
  const node = el("a", { href: href(`/jobs/${id}`) }, id);
  get(jobPath(id)).then((job) => setText(node, job.resolved.name), () => {});
  return node;
}

const MOST = 100; // a priority is within ±100
const STATES = [...LIVE, "paused", ...TERMINAL];
const JOB = ["Job", "Place", "Priority", "Waits because", "Posted", "Change"];

function queueTab(signal) {
  const [refused, lines, none] = [el("div", { role: "alert" }), el("tbody"), el("p", { class: "panel empty" }, "Nothing waits.")];
  const rest = el("p", { class: "muted small" });
  const counts = el("ul", { class: "counts", "aria-label": "Jobs by state" });
  const table = tableOf("Jobs in the queue, the next one first", JOB, lines);
  const show = keyed(lines, ({ id }) => id, line);
  const tab = pane({ live: true, ask, draw, parts: [counts, refused, table, rest, none] }, signal);

  async function ask(aborted) {
    const [{ data: waiting }, { jobs }] = await Promise.all([get("/v1/jobs", { state: "queued", sort: "queue", limit: 200 }, aborted), get("/v1/usage", {}, aborted)]);
    return { waiting, jobs, minute: Math.floor(Date.now() / 60_000) };
  }

  function draw({ waiting, jobs }) {
    show(waiting);
    table.hidden = !waiting.length;
    none.hidden = waiting.length > 0;
    const more = (jobs.queued ?? 0) - waiting.length;
    setText(rest, more > 0 ? `and ${whole(more)} more behind these` : "");
    const tallies = STATES.map((state) => [state, jobs[state] ?? 0]).filter(([state, count]) => count || ["queued", "running"].includes(state));
    const text = JSON.stringify(tallies);
    if (counts.dataset.shown !== text) put(counts, tallies.map(([state, count]) => el("li", {}, el("a", { href: href("/jobs", { state }) }, chip(state), el("b", {}, whole(count))))));
    counts.dataset.shown = text;
  }

  function line(job) {
    let now = job;
    const { name } = job.resolved;
    const [place, priority, why, age] = [el("span"), el("b", { class: "num" }), el("span"), el("span", { class: "muted num", title: moment(job.created_at) })];
    const step = (word, by) => small(word, () => move(by), { "aria-label": `${word} the priority of ${name}` });
    const [raise, lower] = [step("Raise", 1), step("Lower", -1)];
    const node = row(JOB, [el("a", { href: href(`/jobs/${job.id}`) }, name), place, priority, why, age, el("span", { class: "pair-buttons" }, raise, lower)]);

    async function move(by) {
      try {
        now = await patch(jobPath(job.id), { priority: now.priority + by });
        put(refused);
        announce(`${name}: priority ${now.priority}`);
        await tab.show();
      } catch (error) {
        put(refused, notice(`The priority of “${name}” stays`, sentence(error.message)));
      }
    }

    return {
      update(next) {
        now = next;
        setText(place, String(next.queue_position + 1));
        setText(priority, fixed(next.priority, 0));
        setText(why, next.waiting_reason ?? "–");
        setText(age, ago(next.created_at));
        raise.disabled = next.priority >= MOST;
        lower.disabled = next.priority <= -MOST;
        return node;
      },
    };
  }

  return tab;
}
