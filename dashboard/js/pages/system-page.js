// The system: workers, the queue, storage, readiness, and API keys; for admins also projects.

import { allPages, del, firstPage, get, jobPath, patch, post } from "../fetch.js";
import { announce, attempt, badge, codeBlock, confirmAction, copyableCode, errorNotice, factList, meter, notice, scrollRegion, scrollTable, section, sentence, smallButton, tableFrame, tableRow } from "../components.js";
import { el, keyedRows, setChildren, setText } from "../dom.js";
import { ago, bytes, pluralize, dateTime, duration, decimal, integer, timeOfDay } from "../format.js";
import { BARRED, LIVE, stateChip, TERMINAL } from "../job-state.js";
import { href } from "../router.js";
import { tabbedPage } from "../tabs.js";

const TABS = {
  workers: ["Workers", workersTab], queue: ["Queue", queueTab], use: ["Storage and usage", usageTab],
  ready: ["Readiness", readinessTab], keys: ["API keys", keysTab],
};

export const mount = (main, { query }) => tabbedPage(main, "System", TABS, query);

const tableOf = (caption, columns, body) => el("div", { class: "panel" }, scrollRegion(caption, tableFrame(caption, columns, body, "cards")));
const WORKER_COLUMNS = ["Worker", "State", "Queue", "Job", "Last seen", "Started"];

function workersTab(signal) {
  const [summary, lines] = [el("p", { class: "muted" }), el("tbody")];
  const table = tableOf("Workers", WORKER_COLUMNS, lines);
  const show = keyedRows(lines, ({ name }) => name, workerRow);
  return panel({
    live: true, nodes: [summary, table],
    // The time makes the data differ, so that the ages are drawn again.
    load: async () => ({ workers: await allPages("/v1/workers", {}, signal), time: Date.now() }),
    draw({ workers }) {
      const alive = workers.filter((worker) => worker.alive);
      setText(summary, alive.length
        ? `Alive: ${alive.length}, busy: ${alive.filter(({ busy }) => busy).length}. Workers of the queue “train” train students; those of “prepare” process uploads.`
        : "No worker is alive, so jobs wait. Start workers with stillhouse up.");
      show(workers.sort((a, b) => b.alive - a.alive || (a.queue + a.name < b.queue + b.name ? 1 : -1)));
      table.hidden = !workers.length;
    },
  });
}

function workerRow(worker) {
  const [state, work, age] = [el("span"), el("span"), el("span", { class: "num" })];
  const node = tableRow(WORKER_COLUMNS, [worker.name, state, worker.queue, work, age, el("span", { class: "muted num", title: dateTime(worker.started_at) }, ago(worker.started_at))]);
  let seen = "";
  return {
    update({ seen_at: seenAt, alive, busy, jobs }) {
      setText(age, ago(seenAt));
      age.title = dateTime(seenAt);
      const now = JSON.stringify([alive, busy, jobs]);
      if (now !== seen) {
        setChildren(state, alive ? badge("Alive", "good") : badge("Gone", "bad"));
        setChildren(work, jobs.length ? jobs.map((job, index) => [index ? ", " : "", jobLink(job)]) : busy ? "other work" : "–");
      }
      seen = now;
      return node;
    },
  };
}

function jobLink(id) {
  const node = el("a", { href: href(`/jobs/${id}`) }, id);
  get(jobPath(id)).then((job) => setText(node, job.resolved.name), () => {});
  return node;
}

const MAX_PRIORITY = 100;
const STATES = [...LIVE, "paused", ...TERMINAL];
const JOB_COLUMNS = ["Job", "Position", "Priority", "Waits because", "Posted", "Change"];

function queueTab(signal) {
  const [message, lines, placeholder] = [el("div", { role: "alert" }), el("tbody"), el("p", { class: "panel empty" }, "No job is queued.")];
  const rest = el("p", { class: "muted small" });
  const counts = el("ul", { class: "counts", "aria-label": "Jobs by state" });
  const table = tableOf("Jobs in the queue, the next one first", JOB_COLUMNS, lines);
  const show = keyedRows(lines, ({ id }) => id, jobRow);
  const tab = panel({ live: true, load, draw, nodes: [counts, message, table, rest, placeholder] });

  async function load() {
    const [{ data: waiting }, { jobs }] = await Promise.all([get("/v1/jobs", { state: "queued", sort: "queue", limit: 200 }, signal), get("/v1/usage", {}, signal)]);
    return { waiting, jobs, minute: Math.floor(Date.now() / 60_000) };
  }

  function draw({ waiting, jobs }) {
    show(waiting);
    table.hidden = !waiting.length;
    placeholder.hidden = waiting.length > 0;
    const more = (jobs.queued ?? 0) - waiting.length;
    setText(rest, more > 0 ? `and ${integer(more)} more behind these` : "");
    const tallies = STATES.map((state) => [state, jobs[state] ?? 0]).filter(([state, count]) => count || ["queued", "running"].includes(state));
    const text = JSON.stringify(tallies);
    if (counts.dataset.shown !== text) setChildren(counts, tallies.map(([state, count]) => el("li", {}, el("a", { href: href("/jobs", { state }) }, stateChip(state), el("b", {}, integer(count))))));
    counts.dataset.shown = text;
  }

  function jobRow(job) {
    let current = job;
    const { name } = job.resolved;
    const [position, priority, reason, age] = [el("span"), el("b", { class: "num" }), el("span"), el("span", { class: "muted num", title: dateTime(job.created_at) })];
    const stepButton = (verb, by) => smallButton(verb, () => move(by), { "aria-label": `${verb} the priority of ${name}` });
    const [raise, lower] = [stepButton("Raise", 1), stepButton("Lower", -1)];
    const node = tableRow(JOB_COLUMNS, [el("a", { class: "clamp", href: href(`/jobs/${job.id}`), title: name }, name), position, priority, reason, age, el("span", { class: "pair-buttons" }, raise, lower)]);

    async function move(by) {
      try {
        current = await patch(jobPath(job.id), { priority: current.priority + by });
        setChildren(message);
        announce(`${name}: priority ${current.priority}`);
        await tab.show();
      } catch (error) {
        setChildren(message, notice(`The priority of “${name}” was not changed`, sentence(error.message)));
      }
    }

    return {
      update(next) {
        current = next;
        setText(position, String(next.queue_position + 1));
        setText(priority, decimal(next.priority, 0));
        setText(reason, next.waiting_reason ?? "–");
        setText(age, ago(next.created_at));
        raise.disabled = next.priority >= MAX_PRIORITY;
        lower.disabled = next.priority <= -MAX_PRIORITY;
        return node;
      },
    };
  }

  return tab;
}

/** A tab that draws data when they change; `live`: it loads them every 5 seconds. */
function panel({ load, draw, nodes, live = false }) {
  const message = el("div");
  const node = el("div", { class: "stack" }, el("p", { class: "muted" }, "Loading…"));
  let seen = "";

  const refresh = () => attempt(async () => {
    const data = await load();
    setChildren(message);
    const now = JSON.stringify(data);
    if (now === seen) return;
    if (!seen) setChildren(node, nodes);
    seen = now;
    draw(data);
  }, (error) => {
    setChildren(message, errorNotice(error, refresh));
    if (!seen) setChildren(node);
  });

  return { node: el("div", {}, message, node), show: refresh, tick: () => (live || message.firstChild ? refresh() : undefined) };
}

const KINDS = { datasets: "Data sets", models: "Models", artifacts: "Artifacts", checkpoints: "Checkpoints", teacher_caches: "Teacher caches" };
const PARTS = {
  database: ["Database", "Stores all jobs. Without it no request succeeds."],
  object_store: ["Object store", "Stores data sets, weights and artifacts."],
  train_workers: ["Training workers", "Without one, jobs wait."],
  prepare_workers: ["Preparing workers", "Without one, uploads wait."],
  worker_disk_space: ["Workers' disk space", "Without it, jobs and uploads wait."],
};

function usageTab(signal) {
  const node = el("div", { class: "stack" });
  return panel({
    nodes: node, load: () => get("/v1/usage", {}, signal),
    draw({ device_s: seconds, storage_bytes: { total, ...kinds }, jobs }) {
      const max = Math.max(...Object.values(kinds));
      setChildren(node,
        el("div", { class: "panel figures" },
          figure("Device time", duration(seconds), `of ${pluralize(Object.values(jobs).reduce((sum, num) => sum + num, 0), "job")}`),
          figure("Stored", bytes(total), "data sets, models and results of jobs")),
        el("div", { class: "panel" }, scrollTable("Stored by kind", ["Stored by kind", "Size", "Share", "Relative"], Object.entries(kinds).map(([kind, size]) => [
          KINDS[kind] ?? kind, bytes(size), total ? `${decimal((100 * size) / total)} %` : "–", meter(size, max),
        ]), "kinds")));
    },
  });
}

const figure = (name, value, note) => el("div", {}, el("h2", {}, name), el("p", { class: "value" }, value), el("p", { class: "muted small" }, note));

function readinessTab(signal) {
  const [verdict, checkedAt, content] = [el("span", { role: "status" }), el("span", { class: "muted small" }), el("div", { class: "stack" })];
  const again = smallButton("Check again", () => tab.show());
  const tab = panel({
    nodes: [el("div", { class: "section-head" }, el("span", { class: "order" }, verdict, checkedAt), again), content],
    load: () => loadReadiness(signal),
    draw({ time, status, checks, info }) {
      setChildren(verdict, status === "ready" ? badge("Ready", "good") : badge("Not ready", "bad"));
      setText(checkedAt, `Checked ${timeOfDay(time)}`);
      setChildren(content, el("div", { class: "panel" }, scrollTable("Checks", ["Part", "State", "Purpose"], Object.entries(checks).map(([part, state]) => {
        const [name, meaning] = PARTS[part] ?? [part, ""];
        return [name, checkBadge(state), el("span", { class: "muted small" }, meaning)];
      }))), factList([["Service", info.title], ["API version", info.version], ["API description", el("a", { href: "/openapi.json" }, "/openapi.json")]]));
    },
  });
  return tab;
}

async function loadReadiness(signal) {
  // If the service is not ready, the response has status 503 and the same body.
  const ready = get("/readyz", {}, signal).catch((error) => {
    if (error.problem?.checks) return error.problem;
    throw error;
  });
  const [{ status, checks }, { info: { title, version } }] = await Promise.all([ready, get("/openapi.json", {}, signal)]);
  return { time: new Date().toISOString(), status, checks, info: { title, version } };
}

function checkBadge(state) {
  if (typeof state === "number") return state ? badge(`${state} alive`, "good") : badge("None", "wait");
  return state === "ok" ? badge("Available", "good") : [badge("Unavailable", "bad"), state === "unavailable" ? "" : ` ${state}`];
}

/** A form that shows the created key once. `scopes`: [[scope, meaning]]; `create(body)` -> {name, key}. */
function createForm({ verb, id, scopes = [], create, onCreate }) {
  const name = el("input", { class: "input", id: `new-${id}`, maxlength: "200", required: true, autocomplete: "off" });
  const boxes = scopes.map(([scope], index) => el("input", { type: "checkbox", value: scope, checked: index === 0 }));
  const button = el("button", { class: "button primary" }, verb);
  const message = el("div", { role: "status" });

  async function submit(event) {
    event.preventDefault();
    const selected = boxes.filter((box) => box.checked).map(({ value }) => value);
    button.disabled = true;
    try {
      if (boxes.length && !selected.length) throw new Error("Choose at least one scope.");
      const created = await create({ name: name.value.trim(), ...(boxes.length && { scopes: selected }) });
      name.value = "";
      boxes.forEach((box, index) => { box.checked = index === 0; }); // the next key starts without these scopes
      setChildren(message, keyNotice(created));
      message.querySelector("pre").focus();
      await onCreate();
    } catch (error) {
      setChildren(message, notice("This did not work", sentence(error.problem?.errors?.map(({ detail }) => detail).join("; ") ?? error.message)));
    }
    button.disabled = false;
  }

  const keyNotice = ({ name: owner, key }) => el("div", { class: "notice once", "data-tone": "wait" }, el("strong", {}, `The key of “${owner}”: copy it now`), "It is not shown again.",
    codeBlock(key, `The key of ${owner}`, "Copy the key"),
    smallButton("I have copied it", () => { setChildren(message); name.focus(); }));

  return [el("form", { class: "panel create-form", on: { submit } },
    el("div", { class: "field" }, el("label", { for: name.id }, "Name"), name),
    boxes.length ? el("fieldset", {}, el("legend", {}, "Scopes"), boxes.map((box, index) => el("label", {}, box, el("code", {}, box.value), el("span", { class: "muted small" }, scopes[index][1])))) : null,
    el("div", {}, button)), message];
}

const SCOPES = { "jobs:read": "read everything", "jobs:write": "create and change jobs, create and revoke keys", "data:write": "add and delete data sets and models", admin: "list and create projects" };

function keysTab(signal) {
  const message = el("div", { role: "alert" });
  const [keys, form, admin] = [el("div", { class: "panel" }), el("div"), el("div", { class: "stack", hidden: true })];
  const projectTable = el("div", { class: "panel" });
  const tab = panel({ load, draw, nodes: [section("Keys of this project", message, keys), form, admin] });

  async function load() {
    const list = await allPages("/v1/api-keys", {}, signal);
    const scopes = list.find(({ current }) => current)?.scopes ?? Object.keys(SCOPES);
    return { list, scopes, projects: scopes.includes("admin") ? await firstPage("/v1/projects", signal) : null };
  }

  function draw({ list, scopes, projects }) {
    setChildren(keys, scrollTable("API keys", ["Name", "State", "Scopes", "Created", "Id", "Change"], list.sort(byState).map((key) => [
      key.name, keyBadge(key), el("span", { class: "scopes" }, key.scopes.map((scope) => el("code", {}, scope))), createdAt(key), copyableCode(key.id, "the key's id", 12),
      key.revoked_at || !key.scopes.concat("jobs:write").every((scope) => scopes.includes(scope)) ? "" : smallButton("Revoke", () => revoke(key), { "aria-label": `Revoke ${key.name}` }),
    ])));
    if (projects) setChildren(projectTable, scrollTable("Projects", ["Project", "Created", "Id"], projects.map((project) => [project.name, createdAt(project), copyableCode(project.id, "the project's id", 40)])));
    if (form.firstChild) return; // the form may show a new key, so it stays
    const grantable = Object.entries(SCOPES).filter(([scope]) => scopes.includes(scope));
    form.append(section("A new key", createForm({ verb: "Create key", id: "key", scopes: grantable, create: (body) => post("/v1/api-keys", body), onCreate: tab.show })));
    admin.hidden = !projects;
    admin.append(section("Projects", projectTable), section("A new project", createForm({ verb: "Create project", id: "project", create: createProject, onCreate: tab.show })));
  }

  async function revoke(key) {
    const warning = key.current ? " You are logged in with this key and will be logged out." : "";
    if (!(await confirmAction({ title: "Revoke this key?", text: `“${key.name}” stops working at once. This cannot be undone.${warning}`, yes: "Revoke the key" }))) return;
    try {
      await del(`/v1/api-keys/${key.id}`);
      setChildren(message);
      announce(`${key.name} is revoked`);
      await tab.show();
      keys.firstChild.focus(); // the focused button was removed
    } catch (error) {
      setChildren(message, notice(`“${key.name}” was not revoked`, sentence(error.message)));
    }
  }

  return tab;
}

async function createProject(body) {
  const { name, api_key: key } = await post("/v1/projects", body);
  return { name, key };
}

const byState = (a, b) => Boolean(a.revoked_at) - Boolean(b.revoked_at) || (a.created_at < b.created_at ? 1 : -1);
const createdAt = ({ created_at: time }) => el("span", { class: "muted num", title: dateTime(time) }, ago(time));
const keyBadge = ({ revoked_at: revoked, current }) => (revoked ? badge("Revoked", "quiet", BARRED) : [badge("Valid", "good"), current ? el("span", { class: "muted small" }, " this login") : null]);
