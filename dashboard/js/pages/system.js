// The machine room; here workers, and jobs in the order in which they will start.

import { firstPage, del, allPages, get, jobPath, patch, post } from "../api.js";
import { confirmAction as sure, attempt, badge, section, copyButton, factList, tableFrame, scrollTable, meter, notice, errorNotice, tableRow, scrollRegion, sentence, smallButton, copyableCode } from "../components.js";
import { el, keyedRows, setChildren, setText } from "../dom.js";
import { ago, bytes, timeOfDay, duration, fixed, dateTime, integer } from "../format.js";
import { BARRED, stateChip, LIVE, TERMINAL } from "../job-state.js";
import { announce } from "../layout.js";
import { href } from "../router.js";
import { tabbedPage } from "../tabs.js";

const TABS = {
  workers: ["Workers", workersTab], queue: ["Queue", queueTab], use: ["Storage and use", useTab],
  ready: ["Readiness", readyTab], keys: ["API keys", keysTab],
};

export const mount = (main, { query }) => tabbedPage(main, "System", TABS, query);

const tableOf = (caption, columns, body) => el("div", { class: "panel" }, scrollRegion(caption, tableFrame(caption, columns, body, "cards")));
const WORKER = ["Worker", "State", "Lane", "Busy with", "Last seen", "Started"];

function workersTab(signal) {
  const [words, lines] = [el("p", { class: "muted" }), el("tbody")];
  const table = tableOf("Workers", WORKER, lines);
  const show = keyedRows(lines, ({ name }) => name, workerRow);
  return pane({
    live: true, parts: [words, table],
    // The ages change also where nothing else does.
    ask: async (aborted) => ({ workers: await allPages("/v1/workers", {}, aborted), at: Date.now() }),
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
  const node = tableRow(WORKER, [worker.name, state, worker.queue, doing, age, el("span", { class: "muted num", title: dateTime(worker.started_at) }, ago(worker.started_at))]);
  let seen = "";
  return {
    update({ seen_at: at, alive, busy, jobs }) {
      setText(age, ago(at));
      age.title = dateTime(at);
      const now = JSON.stringify([alive, busy, jobs]);
      if (now !== seen) {
        setChildren(state, alive ? badge("Alive", "good") : badge("Gone", "bad"));
        setChildren(doing, jobs.length ? jobs.map((job, place) => [place ? ", " : "", link(job)]) : busy ? "other work" : "–");
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
  const show = keyedRows(lines, ({ id }) => id, line);
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
    setText(rest, more > 0 ? `and ${integer(more)} more behind these` : "");
    const tallies = STATES.map((state) => [state, jobs[state] ?? 0]).filter(([state, count]) => count || ["queued", "running"].includes(state));
    const text = JSON.stringify(tallies);
    if (counts.dataset.shown !== text) setChildren(counts, tallies.map(([state, count]) => el("li", {}, el("a", { href: href("/jobs", { state }) }, stateChip(state), el("b", {}, integer(count))))));
    counts.dataset.shown = text;
  }

  function line(job) {
    let now = job;
    const { name } = job.resolved;
    const [place, priority, why, age] = [el("span"), el("b", { class: "num" }), el("span"), el("span", { class: "muted num", title: dateTime(job.created_at) })];
    const step = (word, by) => smallButton(word, () => move(by), { "aria-label": `${word} the priority of ${name}` });
    const [raise, lower] = [step("Raise", 1), step("Lower", -1)];
    const node = tableRow(JOB, [el("a", { href: href(`/jobs/${job.id}`) }, name), place, priority, why, age, el("span", { class: "pair-buttons" }, raise, lower)]);

    async function move(by) {
      try {
        now = await patch(jobPath(job.id), { priority: now.priority + by });
        setChildren(refused);
        announce(`${name}: priority ${now.priority}`);
        await tab.show();
      } catch (error) {
        setChildren(refused, notice(`The priority of “${name}” stays`, sentence(error.message)));
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

// Storage, readiness, and API keys; for admins also projects.

export function pane({ ask, draw, parts, live = false }, signal) {
  const said = el("div");
  const node = el("div", { class: "stack" }, el("p", { class: "muted" }, "Loading…"));
  let seen = "";

  const load = () => attempt(async () => {
    const data = await ask(signal);
    setChildren(said);
    const now = JSON.stringify(data);
    if (now === seen) return;
    if (!seen) setChildren(node, parts);
    seen = now;
    draw(data);
  }, (error) => {
    setChildren(said, errorNotice(error, load));
    if (!seen) setChildren(node);
  });

  return { node: el("div", {}, said, node), show: load, tick: () => (live || said.firstChild ? load() : undefined) };
}

const KINDS = { datasets: "Data sets", models: "Models", artifacts: "Artifacts", checkpoints: "Checkpoints", teacher_caches: "Teachers' answers" };
const PARTS = {
  database: ["Database", "Holds every job; without it nothing is answered."],
  object_store: ["Object store", "Holds data sets, weights and artifacts."],
  train_workers: ["Workers that train", "Without one, jobs are accepted and wait."],
  prepare_workers: ["Workers that prepare", "Without one, uploads are accepted and wait."],
};

export function useTab(signal) {
  const node = el("div", { class: "stack" });
  return pane({
    parts: node, ask: (aborted) => get("/v1/usage", {}, aborted),
    draw({ device_s: seconds, storage_bytes: { total, ...kinds }, jobs }) {
      const most = Math.max(...Object.values(kinds));
      setChildren(node,
        el("div", { class: "panel figures" },
          figure("Time on devices", duration(seconds), `jobs in all: ${integer(Object.values(jobs).reduce((sum, each) => sum + each, 0))}`),
          figure("Stored", bytes(total), "data sets, models and what jobs left")),
        el("div", { class: "panel" }, scrollTable("Stored by kind", ["Stored by kind", "Size", "Share", "Compared"], Object.entries(kinds).map(([kind, size]) => [
          KINDS[kind] ?? kind, bytes(size), total ? `${fixed((100 * size) / total)} %` : "–", meter(size, most),
        ]), "kinds")));
    },
  }, signal);
}

const figure = (name, value, words) => el("div", {}, el("h2", {}, name), el("p", { class: "value" }, value), el("p", { class: "muted small" }, words));

export function readyTab(signal) {
  const [word, when, parts] = [el("span", { role: "status" }), el("span", { class: "muted small" }), el("div", { class: "stack" })];
  const again = smallButton("Check again", () => tab.show());
  const tab = pane({
    parts: [el("div", { class: "section-head" }, el("span", { class: "order" }, word, when), again), parts],
    ask,
    draw({ at, status, checks, info }) {
      setChildren(word, status === "ready" ? badge("Ready", "good") : badge("Not ready", "bad"));
      setText(when, `Checked ${timeOfDay(at)}`);
      setChildren(parts, el("div", { class: "panel" }, scrollTable("Checks", ["Part", "State", "What for"], Object.entries(checks).map(([part, state]) => {
        const [name, meaning] = PARTS[part] ?? [part, ""];
        return [name, verdict(state), el("span", { class: "muted small" }, meaning)];
      }))), factList([["Service", info.title], ["API version", info.version], ["Description of the API", el("a", { href: "/openapi.json" }, "/openapi.json")]]));
    },
  }, signal);
  return tab;
}

async function ask(signal) {
  // It answers 503 with the same body when it is not ready.
  const ready = get("/readyz", {}, signal).catch((error) => {
    if (error.problem?.checks) return error.problem;
    throw error;
  });
  const [{ status, checks }, { info: { title, version } }] = await Promise.all([ready, get("/openapi.json", {}, signal)]);
  return { at: new Date().toISOString(), status, checks, info: { title, version } };
}

function verdict(state) {
  if (typeof state === "number") return state ? badge(`${state} alive`, "good") : badge("None", "wait");
  return state === "ok" ? badge("Answers", "good") : badge("Does not answer", "bad");
}

function creator({ verb, what, scopes = [], make, onMade }) {
  const name = el("input", { class: "input", id: `new-${what}`, maxlength: "200", required: true, autocomplete: "off" });
  const boxes = scopes.map(([scope], at) => el("input", { type: "checkbox", value: scope, checked: at === 0 }));
  const button = el("button", { class: "button primary" }, verb);
  const said = el("div", { role: "status" });

  async function submit(event) {
    event.preventDefault();
    const chosen = boxes.filter((box) => box.checked).map(({ value }) => value);
    button.disabled = true;
    try {
      if (boxes.length && !chosen.length) throw new Error("Choose at least one thing that it may do.");
      const made = await make({ name: name.value.trim(), ...(boxes.length && { scopes: chosen }) });
      name.value = "";
      boxes.forEach((box, at) => { box.checked = at === 0; }); // the next one must not inherit what this one may
      setChildren(said, once(made));
      said.querySelector("pre").focus();
      await onMade();
    } catch (error) {
      setChildren(said, notice("This did not work", sentence(error.problem?.errors?.map(({ detail }) => detail).join("; ") ?? error.message)));
    }
    button.disabled = false;
  }

  const once = ({ name: made, key }) => el("div", { class: "notice once", "data-tone": "wait" }, el("strong", {}, `The key of “${made}”: copy it now`), "It is not shown again.",
    el("div", { class: "code" }, el("pre", { tabindex: "0", role: "region", "aria-label": `The key of ${made}` }, key), copyButton(() => key, "Copy the key")),
    smallButton("I have it", () => { setChildren(said); name.focus(); }));

  return [el("form", { class: "panel creator", on: { submit } },
    el("div", { class: "field" }, el("label", { for: name.id }, "Name"), name),
    boxes.length ? el("fieldset", {}, el("legend", {}, "It may"), boxes.map((box, at) => el("label", {}, box, el("code", {}, box.value), el("span", { class: "muted small" }, scopes[at][1])))) : null,
    el("div", {}, button)), said];
}

const SCOPES = { "jobs:read": "look at everything", "jobs:write": "post and change jobs, make and revoke keys", "data:write": "add and delete data sets and models", admin: "see and make projects" };

export function keysTab(signal) {
  const refused = el("div", { role: "alert" });
  const [keys, form, projects] = [el("div", { class: "panel" }), el("div"), el("div", { class: "stack", hidden: true })];
  const others = el("div", { class: "panel" });
  const tab = pane({ ask, draw, parts: [section("Keys of this project", refused, keys), form, projects] }, signal);

  async function ask(aborted) {
    const list = await allPages("/v1/api-keys", {}, aborted);
    const mine = list.find(({ current }) => current)?.scopes ?? Object.keys(SCOPES);
    return { list, mine, known: mine.includes("admin") ? await firstPage("/v1/projects", aborted) : null };
  }

  function draw({ list, mine, known }) {
    setChildren(keys, scrollTable("API keys", ["Name", "State", "May", "Created", "Id", "Change"], list.sort(order).map((key) => [
      key.name, state(key), el("span", { class: "scopes" }, key.scopes.map((scope) => el("code", {}, scope))), when(key), copyableCode(key.id, "the key's id", 12),
      key.revoked_at || !key.scopes.concat("jobs:write").every((scope) => mine.includes(scope)) ? "" : smallButton("Revoke", () => revoke(key), { "aria-label": `Revoke ${key.name}` }),
    ])));
    if (known) setChildren(others, scrollTable("Projects", ["Project", "Created", "Id"], known.map((one) => [one.name, when(one), copyableCode(one.id, "the project's id", 40)])));
    if (form.firstChild) return; // it stays: it may be showing a key
    const scopes = Object.entries(SCOPES).filter(([scope]) => mine.includes(scope));
    form.append(section("A new key", creator({ verb: "Create key", what: "key", scopes, make: (body) => post("/v1/api-keys", body), onMade: tab.show })));
    projects.hidden = !known;
    projects.append(section("Projects", others), section("A new project", creator({ verb: "Create project", what: "project", make: project, onMade: tab.show })));
  }

  async function revoke(key) {
    const own = key.current ? " You are logged in with this very key: you will be logged out." : "";
    if (!(await sure({ title: "Revoke this key?", text: `Whoever uses “${key.name}” is refused from now on. It cannot be undone.${own}`, yes: "Revoke the key" }))) return;
    try {
      await del(`/v1/api-keys/${key.id}`);
      setChildren(refused);
      announce(`${key.name} is revoked`);
      await tab.show();
      keys.firstChild.focus(); // the button that had the focus is gone
    } catch (error) {
      setChildren(refused, notice(`“${key.name}” is not revoked`, sentence(error.message)));
    }
  }

  return tab;
}

async function project(body) {
  const { name, api_key: key } = await post("/v1/projects", body);
  return { name, key };
}

const order = (a, b) => Boolean(a.revoked_at) - Boolean(b.revoked_at) || (a.created_at < b.created_at ? 1 : -1);
const when = ({ created_at: at }) => el("span", { class: "muted num", title: dateTime(at) }, ago(at));
const state = ({ revoked_at: revoked, current }) => (revoked ? badge("Revoked", "quiet", BARRED) : [badge("Valid", "good"), current ? el("span", { class: "muted small" }, " in use here") : null]);
