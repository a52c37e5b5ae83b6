// The frontier: accuracy or agreement of students against their latency, size or MACs.

import { copyAs, csv, emptyState, errorNotice, namedSection, notice, scrollRegion, showOutcome, skeleton, smallButton } from "../components.js";
import { el, fromTemplate, keyedRows, setChildren, setText, svg } from "../dom.js";
import { allPages, get, isIgnorable } from "../fetch.js";
import { bytes, ms, percent, pluralize, si } from "../format.js";
import { currentAddress, href, replaceQuery } from "../router.js";
import { pollWhileVisible } from "../streams.js";
import { compareHref, MAX_JOBS } from "./compare-page/compared-jobs.js";
import { controls, devicesOf, isStudent, keyOf, limits, methodWords, nameDevice, parseQuery, pointsOf, qualifies, verdict } from "./frontier-page/controls.js";
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

const frontierWord = (point) => (isStudent(point) ? (point.on_frontier ? "yes" : "no") : "–");
const qualifyWord = (point, limits) => (isStudent(point) ? (qualifies(point, limits) ? "yes" : "no") : "–");
// [id, title, the value to sort by, the text; null for the name]
const COLUMNS = [
  ["name", "Name", (point) => point.name.toLowerCase(), null],
  ["on_frontier", "On frontier", frontierWord, frontierWord],
  ["qualifies", "Qualifies", qualifyWord, qualifyWord],
  ["top1", "Top-1", (point) => point.top1, (point) => percent(point.top1, 1)],
  ["agreement", "Agreement", (point) => point.agreement, (point) => percent(point.agreement, 1)],
  ["latency_ms", "Latency, p50", (point) => point.latency_ms, (point) => ms(point.latency_ms)],
  ["size_bytes", "Size", (point) => point.size_bytes, (point) => bytes(point.size_bytes)],
  ["macs", "MACs", (point) => point.macs, (point) => si(point.macs)],
  ["num_params", "Parameters", (point) => point.num_params, (point) => si(point.num_params)],
  ["method", "Method", methodWords, methodWords],
  ["device", "Device", (point) => point.device, (point) => point.device],
];
const NUMBERS = new Set(["top1", "agreement", "latency_ms", "size_bytes", "macs", "num_params"]);
const CSV_COLUMNS = ["name", "role", "job", "model", "architecture", "method", "on_frontier", "qualifies", "top1", "agreement", "latency_ms", "size_bytes", "macs", "num_params", "device", "created_at"];

function pointTable({ onSort, onSelect, onOpen }) {
  const headers = new Map(COLUMNS.map(([id, name]) => [id, header(id, name)]));
  const body = el("tbody");
  const show = keyedRows(body, keyOf, row);
  const count = el("p", { class: "muted small" });
  const table = el("table", { class: "versus points-table" }, el("caption", { class: "hidden" }, "Networks on this data set"),
    el("thead", {}, el("tr", {}, headerRow())), body);
  const node = namedSection("networks", "Networks", [count, el("div", { class: "copies" }, copyAs("CSV", csvText))],
    scrollRegion("Networks, as a table", table, "panel"));
  let view = null;
  let column = "";
  let descending = false;
  let singleDevice = true; // then the note has its name, and the column is hidden

  function header(id, name) {
    const arrow = el("span", { "aria-hidden": "true" });
    const button = el("button", { type: "button", class: "sort", on: { click: () => onSort(id === column && !descending ? `-${id}` : id) } }, name, arrow);
    return { node: el("th", { scope: "col", "data-column": id }, button), arrow };
  }

  function headerRow() {
    const [first, ...others] = [...headers.values()].map(({ node: cell }) => cell);
    return [first, el("th", { scope: "col" }, "Compare"), others];
  }

  function sortPoints() {
    const valueOf = COLUMNS.find(([id]) => id === column)[2];
    const sign = descending ? -1 : 1;
    return [...view.points].sort((a, b) => {
      const [first, second] = [valueOf(a, view.limits), valueOf(b, view.limits)];
      if (first === second) return a.x - b.x;
      if (first === null || second === null) return first === null ? 1 : -1; // missing values come last
      return (first < second ? -1 : 1) * sign;
    });
  }

  function row({ job, name, ...point }) {
    const key = keyOf({ job, ...point });
    const student = isStudent(point);
    const box = el("input", { type: "checkbox", "aria-label": `Compare ${name}`, on: { change: () => onSelect(job) } });
    const cells = COLUMNS.slice(1).map(([id]) => el("td", { class: NUMBERS.has(id) ? "num" : null }));
    const node = el("tr", {},
      el("th", { scope: "row" }, el("button", { class: "name-button", type: "button", on: { click: () => onOpen(key, true) } }, name), student ? null : el("span", { class: "muted small" }, " teacher")),
      el("td", {}, student ? box : null), cells);
    return {
      update(next) {
        node.className = key === view.open ? "at-card" : "";
        box.checked = view.jobs.includes(job);
        box.disabled = !box.checked && view.jobs.length >= MAX_JOBS;
        cells.forEach((cell, index) => {
          const [id, , , show] = COLUMNS[index + 1];
          setText(cell, show(next, view.limits) ?? "");
          cell.hidden = id === "device" && singleDevice;
        });
        return node;
      },
    };
  }

  function update(next) {
    view = next;
    const requested = next.sort.replace(/^-/, "");
    column = COLUMNS.some(([id]) => id === requested) ? requested : next.x;
    descending = next.sort.startsWith("-");
    singleDevice = new Set(view.points.map(({ device }) => device)).size < 2;
    headers.get("device").node.hidden = singleDevice;
    for (const [id, { node: cell, arrow }] of headers) {
      if (id === column) cell.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
      setText(arrow, id === column ? (descending ? "▼" : "▲") : "");
    }
    show(sortPoints());
    setText(count, `${next.note}${singleDevice ? `; latency on ${view.points[0].device}` : ""}`);
  }

  function csvText() {
    const fields = (point) => ({ ...point, method: point.methods.join(" + "), on_frontier: frontierWord(point), qualifies: qualifyWord(point, view.limits) });
    return csv(CSV_COLUMNS, sortPoints().map(fields).map((point) => CSV_COLUMNS.map((name) => point[name])));
  }

  return { node, update };
}

function card({ onSelect, onClose }) {
  const node = el("section", { class: "panel point-card", "aria-labelledby": "card-name", hidden: true, on: { keydown: (event) => event.key === "Escape" && onClose() } });
  let seen = "";
  return {
    node,
    focus: () => node.querySelector("h2").focus(),
    update(point, jobs) {
      node.hidden = !point;
      const selected = Boolean(point && jobs.includes(point.job));
      const full = jobs.length >= MAX_JOBS && !selected;
      const now = JSON.stringify([point, selected, full]);
      if (now === seen) return;
      seen = now;
      const focused = node.querySelector("[data-select]") === document.activeElement;
      setChildren(node, point ? cardContent(point, selected, full, onSelect, onClose) : null);
      if (focused) node.querySelector("[data-select]")?.focus();
    },
  };
}

function cardContent(point, selected, full, onSelect, onClose) {
  const student = isStudent(point);
  const kind = student ? (point.on_frontier ? "Student on the frontier" : "Dominated student") : "Teacher";
  const facts = [
    ["Top-1, test", percent(point.top1, 1)],
    ["Agreement", percent(point.agreement, 1)],
    ["Latency, p50", `${ms(point.latency_ms)} on ${point.device}`],
    ["Size", bytes(point.size_bytes)],
    ["MACs", si(point.macs)],
    ["Parameters", si(point.num_params)],
    ["Architecture", point.architecture],
    point.methods.length ? ["Method", methodWords(point)] : null,
  ].filter(Boolean);
  const select = smallButton(selected ? "Selected to compare" : full ? "Ten are selected" : "Add to compare", () => onSelect(point.job), { "data-select": true, "aria-pressed": String(selected), disabled: full });
  return [
    el("div", { class: "section-head" }, el("div", {}, el("h2", { id: "card-name", tabindex: "-1" }, point.name), el("p", { class: "muted small" }, kind)),
      smallButton("Close", onClose, { "aria-label": "Close the card" })),
    el("dl", {}, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    el("div", { class: "actions" },
      el("a", { class: "button small", href: `#/jobs/${encodeURIComponent(point.job)}` }, student ? "Open job" : "Open a job of this teacher"), student ? select : null),
  ];
}

function selectionTray(onClear) {
  const node = el("section", { class: "panel selection-tray", "aria-label": "Selected to compare", hidden: true });
  return {
    node,
    update(jobs, nameOf) {
      node.hidden = !jobs.length;
      setChildren(node,
        el("strong", {}, `${jobs.length} selected`), el("span", {}, jobs.map(nameOf).join(", ")),
        jobs.length > 1 ? el("a", { class: "button primary small", href: compareHref(jobs, "epoch") }, `Compare ${jobs.length} jobs`) : el("span", { class: "muted small" }, "Select one more to compare."),
        smallButton("Clear selection", onClear));
    },
  };
}
