// What the job was made of: settings, and how they differ from another job's; its kin.

import { get, isIgnorable } from "../../api.js";
import { codeBlock, errorNotice, scrollRegion, table, titledSection } from "../../components.js";
import { el, setChildren } from "../../dom.js";
import { bytes } from "../../format.js";
import { jobName } from "../../job-actions.js";
import { jobSearch } from "../../job-search.js";
import { stateChip } from "../../job-state.js";
import { findAsset } from "../../lookups.js";
import { currentAddress, href, replaceQuery } from "../../router.js";

export function configTab(feed) {
  const diff = differences(feed);
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
        el("div", { class: "pairs" }, json("As posted", posted(job)), json("As resolved", job.resolved)),
        job.runtime ? json("Chosen by the run", job.runtime) : null);
    },
  };
}

// The API gives the job's own words beside what has become of it: the resolved job has the same names.
const posted = (job) => Object.fromEntries(Object.keys(job.resolved).filter((name) => name in job).map((name) => [name, job[name]]));

const json = (title, value) => el("section", { class: "band" }, el("h3", {}, title), codeBlock(JSON.stringify(value, null, 2), title));

function differences(feed) {
  const search = jobSearch({ id: "diff-with", label: "Compare the settings with", placeholder: "Name or id of another job", excluded: () => [feed.id], onAdd: ({ id }) => {
    replaceQuery({ diff: id });
    compare(id);
  } });
  const place = el("div");
  const node = titledSection("diff", "Different from another job",
    el("div", { class: "field diff-search" }, el("label", { for: "diff-with" }, "Compare the settings with"), search.node), place);
  let against = null;

  async function compare(id) {
    against = id;
    setChildren(place, el("p", { class: "muted" }, "Loading…"));
    try {
      const { jobs, differences: list } = await get("/v1/compare", { jobs: `${feed.id},${id}`, max_points: 2 }, feed.signal);
      if (against === id) setChildren(place, shown(jobs[1], list));
    } catch (error) {
      if (!isIgnorable(error)) setChildren(place, errorNotice(error, () => compare(id)));
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

function shown(other, all) {
  // A setting that is absent here and null there makes no difference to a reader.
  const list = all.filter(({ values }) => said(values[0]) !== said(values[1]));
  const link = el("a", { href: href(`/jobs/${other.id}`) }, other.name);
  if (!list.length) return el("p", {}, "The same settings as ", link, ".");
  return [
    el("p", {}, `${list.length} ${list.length === 1 ? "setting is" : "settings are"} different from `, link, "."),
    scrollRegion("Differences", table({
      caption: "Settings that differ", className: "plain diffs", columns: ["Setting", "This job", other.name],
      rows: list.map(({ path, values }) => [el("code", {}, path), ...values.map((value) => el("code", {}, said(value)))]),
    })),
  ];
}

const said = (value) => (value === null || value === undefined ? "–" : typeof value === "string" ? value : JSON.stringify(value));

const MOST = 50;

export function lineageTab(feed) {
  const node = el("div", {}, el("p", { class: "muted" }, "Loading…"));
  let seen = "";
  async function update(job) {
    if (job.state === seen) return;
    seen = job.state;
    try {
      const [above, below] = await Promise.all([origins(job, feed.signal), offspring(job, feed.signal)]);
      setChildren(node, el("div", { class: "lineage" },
        part("Made from", above, "Nothing but its settings."),
        el("p", { class: "self" }, el("b", {}, jobName(job)), " ", stateChip(job.state)),
        part("What has come of it", below, "Nothing yet: make a model of its student to teach with it, or go on from a checkpoint.")));
    } catch (error) {
      seen = "";
      if (!isIgnorable(error)) setChildren(node, errorNotice(error, () => update(job)));
    }
  }
  return { node, update };
}

async function origins(job, signal) {
  const used = [...(job.teachers ?? []).map(({ model }) => ["Teacher", model]), ["Begins as", start(job)], ["Measures", job.model]].filter(([, id]) => id);
  const dataset = await findAsset("datasets", job.dataset);
  const models = await Promise.all(used.map(([role, id]) => model(role, id, signal)));
  const from = job.from ? [await jobLine(`Goes on from checkpoint ${job.from.checkpoint ?? "best"} of`, job.from.job, signal)] : [];
  return [dataset ? item("Data set", el("a", { href: entry("datasets", dataset) }, dataset.name), `${dataset.num_classes} classes`) : item("Data set", job.dataset, "deleted"), ...models, ...from];
}

const start = ({ student }) => (student?.init?.startsWith("mdl_") ? student.init : null);

async function model(role, id, signal) {
  const found = await findAsset("models", id);
  if (!found) return item(role, id, "deleted");
  return item(role, el("a", { href: entry("models", found) }, found.name), found.architecture, await source(found, signal));
}

// The job that a model was made of, one level up.
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
    get("/v1/models", { source: `job:${job.id}`, limit: MOST }, signal),
    get("/v1/jobs", { from: job.id, limit: MOST }, signal),
  ]);
  const made = await Promise.all(models.data.map(async (each) => {
    const taught = await get("/v1/jobs", { model: each.id, limit: MOST }, signal);
    return item("Model", el("a", { href: entry("models", each) }, each.name), each.size_bytes ? bytes(each.size_bytes) : each.state,
      [...taught.data.map((one) => item(role(one, each.id), link(one), stateChip(one.state))), more(taught)]);
  }));
  return [...made, more(models), ...continued.data.map((one) => item("Goes on", link(one), stateChip(one.state))), more(continued)].filter(Boolean);
}

const role = (job, id) => (job.teachers?.some(({ model: teacher }) => teacher === id) ? "Teaches" : job.model === id ? "Measured by" : "Begins");
const more = ({ next_cursor: cursor }) => (cursor ? el("li", { class: "muted" }, `and more than these ${MOST}`) : null);
const link = (job) => el("a", { href: href(`/jobs/${job.id}`) }, jobName(job));
const entry = (tab, { id, name }) => href("/catalog", { tab, q: name, open: id });

function item(role_, what, about = null, below = []) {
  const kept = below.filter(Boolean);
  return el("li", {}, el("span", { class: "muted" }, `${role_} `), what, about ? el("span", { class: "muted small" }, " ", about) : null, kept.length ? el("ul", {}, kept) : null);
}

const part = (title, items, none) => el("section", { class: "band", "aria-label": title }, el("h3", {}, title), items.length ? el("ul", { class: "tree" }, items) : el("p", { class: "muted" }, none));
