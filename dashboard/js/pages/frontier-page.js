// The frontier: accuracy or agreement of students against their latency, size or MACs.

import { allPages, get, isIgnorable } from "../fetch.js";
import { emptyState, errorNotice, notice, showOutcome, skeleton } from "../components.js";
import { el, fromTemplate, setChildren, setText, svg } from "../dom.js";
import { pluralize } from "../format.js";
import { currentAddress, href, replaceQuery } from "../router.js";
import { pollWhileVisible } from "../streams.js";
import { controls, devicesOf, isStudent, keyOf, limits, nameDevice, parseQuery, pointsOf, verdict } from "./frontier-page/controls.js";
import { card, pointTable, selectionTray } from "./frontier-page/point-table.js";
import { marker, scatter } from "./frontier-page/scatter.js";

const POLL_MS = 30000;
const MAX_POINTS = 500;
const WRITE_MS = 250; // browsers limit how often the address may change, and a slider moves faster

export function mount(main, { query }) {
  let state = parseQuery(query);
  let datasets = null;
  let frontier = null;
  let request = new AbortController();
  let writing = 0;
  const bar = controls(requery);
  const content = body(change);
  const message = el("div", { class: "page-message" });
  setChildren(main, el("h1", { tabindex: "-1" }, "Frontier"), el("p", { class: "frontier-lead" }, "Students by quality and cost. A student is on the frontier if no other student is at least as good at lower cost."), bar.node, message, content.node);

  // Another axis or data set needs another request and clears its limits.
  function requery(changes) {
    if (changes.device) return change(changes);
    const cleared = { max_x: changes.x || changes.dataset ? "" : undefined, min_y: changes.y || changes.dataset ? "" : undefined };
    const unset = Object.fromEntries(Object.entries(cleared).filter(([, value]) => value !== undefined));
    replaceQuery({ ...changes, ...unset, ...(changes.dataset ? { device: "", open: "", jobs: "" } : {}) });
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
    state = parseQuery(next);
    bar.mark(state);
    if (frontier && state.dataset && ["dataset", "x", "y"].every((name) => before[name] === state[name])) return draw();
    if (!frontier || state.dataset !== before.dataset) {
      frontier = null;
      content.node.hidden = true;
      setChildren(message, skeleton());
    }
    return load();
  }

  async function load() {
    request.abort();
    const current = request = new AbortController();
    try {
      datasets ??= (await allPages("/v1/datasets", {}, current.signal)).filter((dataset) => dataset.state === "ready");
      if (!state.dataset && !(await chooseDataset(current.signal))) return;
      bar.datasets(datasets, state.dataset);
      const { dataset, x, y } = state;
      const response = await get("/v1/frontier", { dataset, x, y, limit: MAX_POINTS }, current.signal);
      if (current !== request) return;
      frontier = { ...response, data: response.data.map(nameDevice) };
      showOutcome();
      draw();
    } catch (error) {
      if (isIgnorable(error) || current !== request) return;
      showOutcome(error);
      if (error.status !== 0) { frontier = null; content.node.hidden = true; }
      setChildren(message, error.status === 404 ? noDataset() : errorNotice(error, load));
    }
  }

  // The data set of the newest student, or else the newest data set. False if there is none.
  async function chooseDataset(signal) {
    const { data: [job] } = await get("/v1/jobs", { state: "succeeded", limit: 1 }, signal);
    state.dataset = job?.dataset ?? datasets[0]?.id ?? null;
    if (state.dataset) {
      replaceQuery({ dataset: state.dataset });
      return true;
    }
    datasets = null; // request them again next time
    bar.node.hidden = true;
    setChildren(message, fromTemplate("frontier-none"));
    showOutcome();
    return false;
  }

  function draw() {
    if (!frontier) return;
    bar.node.hidden = false;
    const devices = frontier.x === "latency_ms" ? devicesOf(frontier.data) : [];
    const device = devices.includes(state.device) ? state.device : (devices[0] ?? null);
    bar.devices(devices, device);
    const hasPoints = content.update(frontier, { ...state, device }, devices);
    setChildren(message, hasPoints ? null : noPoints(frontier.dataset, frontier.y));
  }

  const poll = pollWhileVisible(load, () => POLL_MS);
  show(query);

  return {
    update: show,
    leave() {
      request.abort();
      poll.stop();
      clearTimeout(writing);
      content.destroy();
    },
  };
}

const TABLE_MS = 200;

function body(onChange) {
  const chart = scatter(open);
  const bounds = limits((next) => onChange({ limits: next }));
  const openCard = card({ onSelect: select, onClose: close });
  const selection = selectionTray(() => onChange({ jobs: [] }));
  const table = pointTable({ onSort: (sort) => onChange({ sort }), onSelect: select, onOpen: open });
  const measuredOn = el("p", { class: "muted small" });
  const figure = el("figure", { class: "panel frontier-chart", "aria-labelledby": "frontier-name" },
    el("figcaption", {}, el("h2", { class: "hidden", id: "frontier-name" }, "Chart"), legend(), measuredOn), chart.node);
  const node = el("div", { class: "stack", hidden: true }, bounds.node, el("div", { class: "frontier-main" }, figure, openCard.node), selection.node, table.node);
  let state = null;
  let points = [];
  let drawn = "";
  let tableTimer = 0;

  function open(key, byKeyboard) {
    onChange({ open: key });
    if (byKeyboard) openCard.focus();
  }

  function close() {
    const key = state.open;
    onChange({ open: null });
    chart.focus(key);
  }

  function select(job) {
    onChange({ jobs: state.jobs.includes(job) ? state.jobs.filter((other) => other !== job) : [...state.jobs, job] });
  }

  function update(frontier, next, devices) {
    const sliding = drawn !== "" && JSON.stringify(next.limits) !== JSON.stringify(state.limits);
    state = next;
    const now = JSON.stringify([frontier, next.device]);
    if (now !== drawn) points = pointsOf(frontier, next.device);
    drawn = now;
    node.hidden = !points.length;
    if (!points.length) return false;
    const view = { ...state, x: frontier.x, y: frontier.y, points };
    const names = new Map(frontier.data.filter(isStudent).map((point) => [point.job, point.name]));
    bounds.update(view);
    bounds.showVerdict(verdict(points, state.limits, view.x, view.y));
    chart.update(view);
    openCard.update(points.find((point) => keyOf(point) === state.open) ?? null, state.jobs);
    selection.update(state.jobs, (job) => names.get(job) ?? job);
    // While a slider moves, the table of hundreds of rows is updated less often.
    clearTimeout(tableTimer);
    tableTimer = setTimeout(() => table.update({ ...view, note: networkCounts(frontier, points) }), sliding ? TABLE_MS : 0);
    setText(measuredOn, deviceWords(frontier, next.device, devices, points));
    return true;
  }

  return {
    node,
    update,
    destroy() {
      clearTimeout(tableTimer);
      chart.destroy();
    },
  };
}

function networkCounts(frontier, points) {
  const teachers = points.filter((point) => !isStudent(point)).length;
  const students = points.length - teachers;
  const words = `${pluralize(students, "student")}, ${pluralize(teachers, "teacher")}`;
  return frontier.total > frontier.data.length ? `${words}; of ${frontier.total} networks, the oldest dominated ones are not shown` : words;
}

function deviceWords(frontier, device, devices, points) {
  const notes = ["x", "y"].map((axis) => frontier.axes[axis].note).filter(Boolean).map((note) => `Note: ${note}.`).join(" ");
  if (frontier.x !== "latency_ms") return notes;
  const others = frontier.data.length - points.length;
  const rest = devices.length > 1 ? ` ${others} more ${others === 1 ? "was" : "were"} measured on other devices and ${others === 1 ? "is" : "are"} not shown, because latencies of two devices cannot be compared.` : "";
  return `Latency measured on ${device}, one image at a time.${rest} ${notes}`;
}

function legend() {
  const kinds = [
    [{ role: "student", on_frontier: true }, "Student on the frontier"],
    [{ role: "student", on_frontier: false }, "Dominated student"],
    [{ role: "teacher" }, "Teacher"],
  ];
  return el("ul", { class: "legend", "aria-hidden": "true" }, kinds.map(([point, name]) => el("li", {}, svg("svg", { class: "key", viewBox: "0 0 24 24" }, marker(point, 12, 12)), name)));
}

const newJobLink = (dataset, words) => el("a", { href: href("/new", { dataset }) }, words);

const noPoints = (dataset, y) => (y === "agreement"
  ? emptyState("No student with a teacher yet", el("p", {}, "Agreement needs a teacher. Choose top-1, or ", newJobLink(dataset, "post a job with a teacher"), "."))
  : emptyState("No finished jobs on this data set", el("p", {}, "A student appears when its job has succeeded. ", newJobLink(dataset, "Post a job"), " or choose another data set.")));

const noDataset = () => notice("There is no such data set", "It was deleted or belongs to another project. Choose another one above.", { role: "alert" });
