// A new job: a form from the API's own schemas, checked while it is filled in.

import { get, jobPath, isIgnorable, post } from "../api.js";
import { notice, errorNotice, smallButton } from "../components.js";
import { el, setChildren } from "../dom.js";
import { announce, setConnection } from "../layout.js";
import { href } from "../router.js";
import { Draft, FieldIssues, fixButton, withoutDefaults, isEqual, assignFixes } from "../schema.js";
import { untilVisible } from "../streams.js";
import { drops, ofKind, ready, sections } from "./new/sections.js";
import { checker, rail } from "./new/summary-panel.js";
import { once } from "./new/upload.js";

// What outlives a visit to another page: the draft, the one before it, uploads that run, the schemas.
const tab = { draft: null, source: null, clean: {}, aside: null, open: new Set(), drops: null, root: null, methods: null, key: null, notify: null };
const AGAIN_MS = 5000;
const NOTHING = "|||"; // an address that asks for nothing
const JOB = { $ref: "#/components/schemas/JobSpec" };
const body = () => withoutDefaults(JOB, ofKind(tab.draft.value), tab.root) ?? {};
const busy = () => Object.values(tab.drops ?? {}).some((each) => each.busy());
const dirty = () => tab.draft && !isEqual(body(), tab.clean);

export function mount(main, { query }) {
  const gone = new AbortController();
  const heading = el("h1", { tabindex: "-1" }, "New job");
  const from = el("div", { class: "new-said" });
  const over = el("div", { class: "new-said" });
  const columns = el("div", { class: "new" }, el("p", { class: "muted" }, "Loading…"));
  setChildren(main, heading, from, over, columns);
  let ctx = null;
  let form = null;
  let side = null;
  let last = null;
  let again = 0;

  const check = checker(body, tell);

  async function begin(asked) {
    try {
      await untilVisible(gone.signal);
      await load();
      await take(asked);
    } catch (error) {
      if (isIgnorable(error)) return;
      setChildren(columns, errorNotice(error, () => begin(asked)));
      if (error.status === 0) again = setTimeout(() => begin(asked), AGAIN_MS);
    }
  }

  async function load() {
    if (ctx) return;
    const [root, methods, assets] = await Promise.all([tab.root ?? get("/openapi.json", {}, gone.signal), tab.methods ?? get("/v1/methods", { limit: 200 }, gone.signal), ready(gone.signal)]);
    Object.assign(tab, { root, methods });
    tab.notify = arrived;
    tab.chosen = () => ctx.assets.datasets.find(({ id }) => id === tab.draft.get("/dataset"));
    ctx = { root, methods: methods.data, assets, open: tab.open, id: "f", rebuild: build, teachersChanged: () => form.teachersChanged() };
    side = rail(ctx, { start, again: check.now, reveal: (pointer) => ctx.faults.reveal(pointer), fix, label: (pointer) => ctx.faults.find(pointer)?.label });
  }

  /** The draft that the address asks for; one that was begun is kept. */
  async function take(asked) {
    const wanted = ["from", "teacher", "dataset", "student"].map((key) => asked.get(key) ?? "");
    const source = wanted.join("|");
    if (!tab.draft || (source !== NOTHING && source !== tab.source)) {
      const [id, teacher, dataset, student] = wanted;
      const old = id ? await get(jobPath(id), {}, gone.signal) : null;
      const job = old && withoutDefaults(JOB, old, tab.root, true);
      if (job?.name) job.name = `${job.name.slice(0, 190)} (copy)`; // two of one name are hard to tell apart
      begun({ ...job, ...(teacher && { teachers: [{ model: teacher }] }), ...(dataset && { dataset }), ...(student && { student: { architecture: student } }) }, source);
      if (old) tab.title = `A copy of “${old.resolved.name}”.`;
    }
    build();
  }

  function begun(value, source) {
    if (dirty()) tab.aside = { draft: tab.draft, source: tab.source, clean: tab.clean, title: tab.title };
    Object.assign(tab, { draft: new Draft(value), source, title: "" });
    if (!busy()) tab.drops = null; // what they said was of the draft before
    tab.clean = body();
  }

  function build(focus) {
    ctx.draft = tab.draft;
    ctx.drops = tab.drops ??= drops(tab.root, (...what) => tab.notify(...what), () => tab.chosen());
    ctx.faults = new FieldIssues(fix);
    tab.draft.onChange = () => { side.update({ status: "checking" }); check.later(); };
    form = sections(ctx);
    setChildren(columns, el("form", { class: "parts", autocomplete: "off", on: { submit: (event) => event.preventDefault() } }, form.nodes), side.node);
    say();
    check.now();
    if (focus) ctx.faults.reveal(focus);
  }

  function say() {
    const back = tab.aside && smallButton("Take up the draft from before", takeUp);
    const anew = (dirty() || tab.source !== NOTHING) && smallButton("Start over", startOver);
    setChildren(from, el("p", { class: "muted" }, tab.title || "Only a data set and a student are required; everything else has a default."), anew, back);
  }

  function takeUp() {
    const { draft, source, clean, title } = tab.aside;
    tab.aside = null;
    Object.assign(tab, { draft, source, clean, title });
    build();
    heading.focus();
  }

  function startOver() {
    begun({}, NOTHING);
    history.replaceState(null, "", href("/new"));
    build();
    announce("An empty form");
    heading.focus();
  }

  function tell(state) {
    last = state;
    setConnection(state.error?.status === 0 ? "offline" : "idle");
    const { list, rest } = assignFixes(state.status === "invalid" ? state.error.problem : {});
    const left = ctx.faults.show(list);
    setChildren(over, left.length + rest.length ? notice("", [left.map(({ detail }) => el("p", {}, detail)), rest.map((patch) => fixButton(patch, fix))]) : []);
    side.update({ ...state, problems: list.length || state.status !== "invalid" ? list : [{ pointer: "", detail: state.error.message }] });
    form.update(state.answer?.methods, state.body);
    if (state.status === "invalid") fits(state.body);
    say();
  }

  async function fits({ student, teachers = [] }) {
    const teacher = teachers.map(({ model }) => ctx.assets.models.find(({ id }) => id === model)?.architecture).filter(Boolean);
    if (!student?.architecture && !teacher.length) return;
    try {
      const { data } = await get("/v1/methods", { student: student?.architecture, teacher, limit: 200 }, gone.signal);
      if (data[0].compatible !== null && last.status === "invalid") form.update(data, last.body);
    } catch { /* an unknown name, which the check has told of already */ }
  }

  function fix(patch) {
    const mended = new Draft(body());
    mended.set(patch.path, patch.op === "remove" ? undefined : patch.value);
    tab.draft.value = mended.value;
    build(patch.path);
    announce("Changed");
  }

  function arrived(what, asset) {
    if (!tab.draft) return; // its job has started without it
    if (what === "dataset") tab.draft.set("/dataset", asset.id);
    else tab.draft.set("/teachers", [...(tab.draft.get("/teachers") ?? []), { model: asset.id }]);
    if (gone.signal.aborted) return;
    ctx.assets[what === "dataset" ? "datasets" : "models"].unshift(asset);
    build(what === "dataset" ? "/dataset" : `/teachers/${tab.draft.get("/teachers").length - 1}/model`);
  }

  async function start() {
    const asked = body();
    if (!tab.key || !isEqual(tab.key.body, asked)) tab.key = { body: asked, headers: once() };
    side.busy(true);
    try {
      const { id } = await post("/v1/jobs", asked, { headers: tab.key.headers });
      check.stop();
      Object.assign(tab, { draft: null, source: null, key: null });
      location.hash = href(`/jobs/${id}`);
    } catch (error) {
      side.busy(false);
      if (error.status === 422) check.now();
      else if (error.status !== 401) side.failed(error);
    }
  }

  // A file that misses its place must not replace the page.
  const keep = (event) => event.preventDefault();
  const leaving = (event) => (dirty() || busy()) && event.preventDefault();
  document.addEventListener("dragover", keep);
  document.addEventListener("drop", keep);
  addEventListener("beforeunload", leaving);
  begin(query);

  return {
    update: (next) => ctx && begin(next),
    leave() {
      gone.abort();
      clearTimeout(again);
      check.stop();
      if (tab.draft) tab.draft.onChange = () => {};
      document.removeEventListener("dragover", keep);
      document.removeEventListener("drop", keep);
      removeEventListener("beforeunload", leaving);
    },
  };
}
