// The points as a table, the card of the open point, and the tray of jobs selected for comparison.

import { copyAs, csv, namedSection, scrollRegion, smallButton } from "../../components.js";
import { el, keyedRows, setChildren, setText } from "../../dom.js";
import { bytes, ms, percent, si } from "../../format.js";
import { compareHref, MAX_JOBS } from "../compare-page/compared-jobs.js";
import { isStudent, keyOf, methodWords, qualifies } from "./controls.js";

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

export function pointTable({ onSort, onSelect, onOpen }) {
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

export function card({ onSelect, onClose }) {
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

export function selectionTray(onClear) {
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
