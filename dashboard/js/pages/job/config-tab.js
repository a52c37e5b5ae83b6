// Tabs of one job: its settings and how they differ from another job's; its lineage.

import { get, isIgnorable } from "../../api.js";
import { codeBlock, errorNotice, scrollRegion, table, titledSection } from "../../components.js";
import { el, setChildren } from "../../dom.js";
import { bytes } from "../../format.js";
import { jobName } from "../../job-actions.js";
import { jobSearch } from "../../job-search.js";
import { stateChip } from "../../job-state.js";
import { catalogHref, findAsset } from "../../lookups.js";
import { currentAddress, href, replaceQuery } from "../../router.js";

export function configTab(store) {
  const diff = differences(store);
  const parts = el("div", { class: "stack" });
  const node = el("div", { class: "stack" }, diff.node, parts);
  let seen = "";
  return {
    node,
    update(job) {
      diff.update(job);
      const now = JSON.stringify([job.resolved, job.runtime]);
      if (now === seen) return;
      seen = now;
      setChildren(parts,
        el("div", { class: "pairs" }, json("As posted", postedSpec(job)), json("As resolved", job.resolved)),
        job.runtime ? json("Settled by the run", job.runtime) : null);
    },
  };
}

// A job has its posted fields at the top level; the resolved job has the same names.
const postedSpec = (job) => Object.fromEntries(Object.keys(job.resolved).filter((name) => name in job).map((name) => [name, job[name]]));

const json = (title, value) => el("section", { class: "band" }, el("h3", {}, title), codeBlock(JSON.stringify(value, null, 2), title));

function differences(store) {
  const search = jobSearch({ id: "diff-with", label: "Compare the settings with", placeholder: "Name or id of another job", excluded: () => [store.id], onAdd: ({ id }) => {
    replaceQuery({ diff: id });
    compare(id);
  } });
  const content = el("div");
  const node = titledSection("diff", "Differences from another job",
    el("div", { class: "field diff-search" }, el("label", { for: "diff-with" }, "Compare the settings with"), search.node), content);
  let against = null;

  async function compare(id) {
    against = id;
    setChildren(content, el("p", { class: "muted" }, "Loading…"));
    try {
      const { jobs, differences: list } = await get("/v1/compare", { jobs: `${store.id},${id}`, max_points: 2 }, store.signal);
      if (against === id) setChildren(content, differenceTable(jobs[1], list));
    } catch (error) {
      if (!isIgnorable(error)) setChildren(content, errorNotice(error, () => compare(id)));
    }
  }

  return {
    node,
    update(job) {
      const first = currentAddress().query.get("diff") ?? job.from?.job;
      if (against === null && first) compare(first);
    },
  };
}

function differenceTable(other, all) {
  // A missing setting and a null one are shown alike.
  const list = all.filter(({ values }) => valueText(values[0]) !== valueText(values[1]));
  const link = el("a", { href: href(`/jobs/${other.id}`) }, other.name);
  if (!list.length) return el("p", {}, "The same settings as ", link, ".");
  return [
    el("p", {}, `${list.length} ${list.length === 1 ? "setting is" : "settings are"} different from `, link, "."),
    scrollRegion("Differences", table({
      caption: "Settings that differ", className: "plain diffs", columns: ["Setting", "This job", other.name],
      rows: list.map(({ path, values }) => [el("code", {}, path), ...values.map((value) => el("code", {}, valueText(value)))]),
    })),
  ];
}

const valueText = (value) => (value === null || value === undefined ? "–" : typeof value === "string" ? value : JSON.stringify(value));

const MAX_ITEMS = 50;

export function lineageTab(store) {
  const node = el("div", {}, el("p", { class: "muted" }, "Loading…"));
  let seen = "";
  async function update(job) {
    if (job.state === seen) return;
    seen = job.state;
    try {
      const [above, below] = await Promise.all([origins(job, store.signal), offspring(job, store.signal)]);
      setChildren(node, el("div", { class: "lineage" },
        part("Inputs", above, "None."),
        el("p", { class: "self" }, el("b", {}, jobName(job)), " ", stateChip(job.state)),
        part("Results", below, "None yet. Save its student as a model to use it as a teacher, or continue from a checkpoint.")));
    } catch (error) {
      seen = "";
      if (!isIgnorable(error)) setChildren(node, errorNotice(error, () => update(job)));
    }
  }
  return { node, update };
}

async function origins(job, signal) {
  const used = [...(job.teachers ?? []).map(({ model }) => ["Teacher", model]), ["Initial weights", start(job)], ["Evaluated model", job.model]].filter(([, id]) => id);
  const dataset = await findAsset("datasets", job.dataset);
  const models = await Promise.all(used.map(([role, id]) => model(role, id, signal)));
  const from = job.from ? [await jobLine(`Continues from checkpoint ${job.from.checkpoint ?? "best"} of`, job.from.job, signal)] : [];
  return [dataset ? item("Data set", el("a", { href: catalogHref("datasets", dataset) }, dataset.name), `${dataset.num_classes} classes`) : item("Data set", job.dataset, "deleted"), ...models, ...from];
}

const start = ({ student }) => (student?.init?.startsWith("mdl_") ? student.init : null);

async function model(role, id, signal) {
  const asset = await findAsset("models", id);
  if (!asset) return item(role, id, "deleted");
  return item(role, el("a", { href: catalogHref("models", asset) }, asset.name), asset.architecture, await source(asset, signal));
}

// The job whose student the model is.
async function source({ source: text }, signal) {
  const [kind, id] = (text ?? "").split(/:(.*)/);
  if (kind === "job") return [await jobLine("Student of", id, signal)];
  return text ? [item("From", text)] : [];
}

async function jobLine(role, id, signal) {
  const job = await get(`/v1/jobs/${encodeURIComponent(id)}`, {}, signal).catch((error) => {
    if (error.status !== 404) throw error;
    return null;
  });
  return job ? item(role, link(job), stateChip(job.state)) : item(role, id, "deleted");
}

async function offspring(job, signal) {
  const [models, continued] = await Promise.all([
    get("/v1/models", { source: `job:${job.id}`, limit: MAX_ITEMS }, signal),
    get("/v1/jobs", { from: job.id, limit: MAX_ITEMS }, signal),
  ]);
  const modelItems = await Promise.all(models.data.map(async (asset) => {
    const users = await get("/v1/jobs", { model: asset.id, limit: MAX_ITEMS }, signal);
    return item("Model", el("a", { href: catalogHref("models", asset) }, asset.name), asset.size_bytes ? bytes(asset.size_bytes) : asset.state,
      [...users.data.map((user) => item(roleOf(asset.id, user), link(user), stateChip(user.state))), more(users)]);
  }));
  return [...modelItems, more(models), ...continued.data.map((other) => item("Continued by", link(other), stateChip(other.state))), more(continued)].filter(Boolean);
}

const roleOf = (id, job) => (job.teachers?.some(({ model: teacher }) => teacher === id) ? "Teacher of" : job.model === id ? "Evaluated by" : "Initial weights of");
const more = ({ next_cursor: cursor }) => (cursor ? el("li", { class: "muted" }, `and more than these ${MAX_ITEMS}`) : null);
const link = (job) => el("a", { href: href(`/jobs/${job.id}`) }, jobName(job));

function item(role, content, note = null, below = []) {
  const children = below.filter(Boolean);
  return el("li", {}, el("span", { class: "muted" }, `${role} `), content, note ? el("span", { class: "muted small" }, " ", note) : null, children.length ? el("ul", {}, children) : null);
}

const part = (title, items, emptyText) => el("section", { class: "band", "aria-label": title }, el("h3", {}, title), items.length ? el("ul", { class: "tree" }, items) : el("p", { class: "muted" }, emptyText));
