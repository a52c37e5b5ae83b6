// Which student to take: accuracy or agreement against latency, size or MACs.

import { allPages, get, isIgnorable } from "../api.js";
import { emptyState, skeleton, notice, errorNotice } from "../components.js";
import { fromTemplate, el, setChildren, setText, svg } from "../dom.js";
import { counted } from "../format.js";
import { setConnection } from "../layout.js";
import { currentAddress, href, replaceQuery } from "../router.js";
import { pollWhileVisible } from "../streams.js";
import { asked, controls, devicesOf, isStudent, keyOf, limits, shownOf, verdict } from "./frontier/controls.js";
import { card, list, tray } from "./frontier/point-table.js";
import { marker, scatter } from "./frontier/scatter.js";

const POLL_MS = 30000; // a student that is finished appears by itself
const MOST = 500;
const WRITE_MS = 250; // a slider moves faster than an address may change

export function mount(main, { query }) {
  let state = asked(query);
  let datasets = null;
  let answer = null;
  let request = new AbortController();
  let writing = 0;
  const bar = controls(ask);
  const inside = body(change);
  const said = el("div", { class: "frontier-said" });
  setChildren(main, el("h1", { tabindex: "-1" }, "Frontier"), el("p", { class: "frontier-lead" }, "What students reach, and what they cost. On the frontier is who no smaller student beats."), bar.node, said, inside.node);

  // Another question to the API: limits are of the axis they were set on.
  function ask(changes) {
    if (changes.device) return change(changes);
    const cleared = { max_x: changes.x || changes.dataset ? "" : undefined, min_y: changes.y || changes.dataset ? "" : undefined };
    const lost = Object.fromEntries(Object.entries(cleared).filter(([, value]) => value !== undefined));
    replaceQuery({ ...changes, ...lost, ...(changes.dataset ? { device: "", open: "", jobs: "" } : {}) });
    return show(currentAddress().query);
  }

  function change(changes) {
    state = { ...state, ...changes };
    draw();
    clearTimeout(writing);
    writing = setTimeout(write, WRITE_MS);
  }

  function write() {
    const { limits, device, open, jobs, sort } = state;
    const text = (value) => (value === null ? "" : String(value));
    replaceQuery({ max_x: text(limits.maxX), min_y: text(limits.minY), device: device ?? "", open: open ?? "", jobs: jobs.join(","), sort: sort === "x" ? "" : sort });
  }

  function show(next) {
    clearTimeout(writing);
    const before = state;
    state = asked(next);
    bar.mark(state);
    if (answer && state.dataset && ["dataset", "x", "y"].every((name) => before[name] === state[name])) return draw();
    if (!answer || state.dataset !== before.dataset) {
      answer = null;
      inside.node.hidden = true;
      setChildren(said, skeleton());
    }
    return load();
  }

  async function load() {
    request.abort();
    const mine = request = new AbortController();
    try {
      datasets ??= (await allPages("/v1/datasets", {}, mine.signal)).filter((each) => each.state === "ready");
      if (!state.dataset && !(await choose(mine.signal))) return;
      bar.datasets(datasets, state.dataset);
      const { dataset, x, y } = state;
      const found = await get("/v1/frontier", { dataset, x, y, limit: MOST }, mine.signal);
      if (mine !== request) return;
      answer = found;
      setConnection("idle");
      draw();
    } catch (error) {
      if (isIgnorable(error) || mine !== request) return;
      setConnection(error.status === 0 ? "offline" : "idle");
      if (error.status !== 0) { answer = null; inside.node.hidden = true; }
      setChildren(said, error.status === 404 ? noDataset() : errorNotice(error, load));
    }
  }

  // The data set of the newest student; without one, the newest data set. False if there is none.
  async function choose(signal) {
    const { data: [job] } = await get("/v1/jobs", { state: "succeeded", limit: 1 }, signal);
    state.dataset = job?.dataset ?? datasets[0]?.id ?? null;
    if (state.dataset) {
      replaceQuery({ dataset: state.dataset });
      return true;
    }
    datasets = null; // look again next time
    bar.node.hidden = true;
    setChildren(said, fromTemplate("frontier-none"));
    setConnection("idle");
    return false;
  }

  function draw() {
    if (!answer) return;
    bar.node.hidden = false;
    const devices = answer.x === "latency_ms" ? devicesOf(answer.data) : [];
    const device = devices.includes(state.device) ? state.device : (devices[0] ?? null);
    bar.devices(devices, device);
    const some = inside.update(answer, { ...state, device }, devices);
    setChildren(said, some ? null : noPoints(answer.dataset, answer.y));
  }

  const poll = pollWhileVisible(load, () => POLL_MS);
  show(query);

  return {
    update: show,
    leave() {
      request.abort();
      poll.stop();
      clearTimeout(writing);
      inside.destroy();
    },
  };
}

const LIST_MS = 200;

function body(onChange) {
  const chart = scatter(open);
  const bounds = limits((next) => onChange({ limits: next }));
  const shown = card({ onChoose: choose, onClose: close });
  const chosen = tray(() => onChange({ jobs: [] }));
  const table = list({ onSort: (sort) => onChange({ sort }), onChoose: choose, onOpen: open });
  const where = el("p", { class: "muted small" });
  const figure = el("figure", { class: "panel frontier-chart", "aria-labelledby": "frontier-name" },
    el("figcaption", {}, el("h2", { class: "hidden", id: "frontier-name" }, "Chart"), legend(), where), chart.node);
  const node = el("div", { class: "stack", hidden: true }, bounds.node, el("div", { class: "frontier-main" }, figure, shown.node), chosen.node, table.node);
  let state = null;
  let points = [];
  let made = "";
  let listing = 0;

  function open(key, byKeyboard) {
    onChange({ open: key });
    if (byKeyboard) shown.focus();
  }

  function close() {
    const key = state.open;
    onChange({ open: null });
    chart.focus(key);
  }

  function choose(job) {
    onChange({ jobs: state.jobs.includes(job) ? state.jobs.filter((each) => each !== job) : [...state.jobs, job] });
  }

  function update(answer, next, devices) {
    const sliding = made !== "" && JSON.stringify(next.limits) !== JSON.stringify(state.limits);
    state = next;
    const now = JSON.stringify([answer, next.device]);
    if (now !== made) points = shownOf(answer, next.device);
    made = now;
    node.hidden = !points.length;
    if (!points.length) return false;
    const view = { ...state, x: answer.x, y: answer.y, points };
    const names = new Map(answer.data.filter(isStudent).map((point) => [point.job, point.name]));
    bounds.update(view);
    bounds.say(verdict(points, state.limits, view.x, view.y));
    chart.update(view);
    shown.update(points.find((point) => keyOf(point) === state.open) ?? null, state.jobs);
    chosen.update(state.jobs, (job) => names.get(job) ?? job);
    // A slider moves faster than hundreds of rows can follow.
    clearTimeout(listing);
    listing = setTimeout(() => table.update({ ...view, note: networkCounts(answer, points) }), sliding ? LIST_MS : 0);
    setText(where, whereWords(answer, next.device, devices, points));
    return true;
  }

  return {
    node,
    update,
    destroy() {
      clearTimeout(listing);
      chart.destroy();
    },
  };
}

function networkCounts(answer, points) {
  const teachers = points.filter((point) => !isStudent(point)).length;
  const students = points.length - teachers;
  const words = `${counted(students, "student")}, ${counted(teachers, "teacher")}`;
  return answer.total > answer.data.length ? `${words}; of ${answer.total} in all, the oldest dominated ones are left out` : words;
}

function whereWords(answer, device, devices, points) {
  if (answer.x !== "latency_ms") return "";
  const others = answer.data.length - points.length;
  const rest = devices.length > 1 ? ` ${others} more ${others === 1 ? "was" : "were"} measured elsewhere: not comparable, so not shown.` : "";
  return `Latency measured on ${device}, one image at a time.${rest}`;
}

function legend() {
  const kinds = [
    [{ role: "student", on_frontier: true }, "Student on the frontier"],
    [{ role: "student", on_frontier: false }, "Dominated student"],
    [{ role: "teacher" }, "Teacher"],
  ];
  return el("ul", { class: "legend", "aria-hidden": "true" }, kinds.map(([point, name]) => el("li", {}, svg("svg", { class: "key", viewBox: "0 0 24 24" }, marker(point, 12, 12)), name)));
}

const post = (dataset, words) => el("a", { href: href("/new", { dataset }) }, words);

const noPoints = (dataset, y) => (y === "agreement"
  ? emptyState("No student with a teacher here yet", el("p", {}, "Agreement needs a teacher. Look at top-1, or ", post(dataset, "post a job with a teacher"), "."))
  : emptyState("No finished jobs on this data set", el("p", {}, "A student appears here when its job has succeeded. ", post(dataset, "Post a job"), " or choose another data set.")));

const noDataset = () => notice("There is no such data set", "It was deleted, or belongs to another project. Choose another one above.", { role: "alert" });
