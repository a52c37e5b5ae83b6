// The chart as a table; the point that was opened; what is chosen to compare.

import { copyAs, csv, scrollRegion, smallButton } from "../../components.js";
import { el, setChildren, setText } from "../../dom.js";
import { bytes, ms, percent, si } from "../../format.js";
import { compareHref, MOST } from "../compare/compared-jobs.js";
import { isStudent, keyOf, methodWords, qualifies } from "./controls.js";

const frontierWord = (point) => (isStudent(point) ? (point.on_frontier ? "yes" : "no") : "–");
const qualifyWord = (point, limits) => (isStudent(point) ? (qualifies(point, limits) ? "yes" : "no") : "–");
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
const FILE = ["name", "role", "job", "model", "architecture", "method", "on_frontier", "qualifies", "top1", "agreement", "latency_ms", "size_bytes", "macs", "num_params", "device", "created_at"];

export function list({ onSort, onChoose, onOpen }) {
  const heads = new Map(COLUMNS.map(([id, name]) => [id, head(id, name)]));
  const body = el("tbody");
  const count = el("p", { class: "muted small" });
  const grid = el("table", { class: "versus points-table" }, el("caption", { class: "hidden" }, "Networks on this data set"),
    el("thead", {}, el("tr", {}, headRow())), body);
  const node = el("section", { class: "band", "aria-labelledby": "networks" },
    el("div", { class: "section-head" }, el("h2", { id: "networks" }, "As a table"), count, el("div", { class: "copies" }, copyAs("CSV", text))),
    scrollRegion("Networks, a table", grid, "panel"));
  let view = null;
  let column = "";
  let falling = false;
  let oneDevice = true; // then the note names it

  function head(id, name) {
    const arrow = el("span", { "aria-hidden": "true" });
    const button = el("button", { type: "button", class: "sort", on: { click: () => onSort(id === column && !falling ? `-${id}` : id) } }, name, arrow);
    return { node: el("th", { scope: "col", "data-column": id }, button), arrow };
  }

  function headRow() {
    const [first, ...others] = [...heads.values()].map((each) => each.node);
    return [first, el("th", { scope: "col" }, "Compare"), others];
  }

  function sorted() {
    const by = COLUMNS.find(([id]) => id === column)[2];
    const way = falling ? -1 : 1;
    return [...view.points].sort((a, b) => {
      const [one, other] = [by(a, view.limits), by(b, view.limits)];
      if (one === other) return a.x - b.x;
      if (one === null || other === null) return one === null ? 1 : -1; // what was not measured comes last
      return (one < other ? -1 : 1) * way;
    });
  }

  function row(point) {
    const key = keyOf(point);
    const student = isStudent(point);
    const chosen = view.jobs.includes(point.job);
    const box = el("input", { type: "checkbox", "aria-label": `Compare ${point.name}`, "data-job": point.job, checked: chosen, disabled: !chosen && view.jobs.length >= MOST, on: { change: () => onChoose(point.job) } });
    return el("tr", { class: key === view.open ? "at-card" : null },
      el("th", { scope: "row" }, el("button", { class: "name-button", type: "button", on: { click: () => onOpen(key, true) } }, point.name), student ? null : el("span", { class: "muted small" }, " teacher")),
      el("td", {}, student ? box : null),
      COLUMNS.slice(1).map(([id, , , show]) => el("td", { class: NUMBERS.has(id) ? "num" : null, hidden: id === "device" && oneDevice }, show(point, view.limits))));
  }

  function update(next) {
    view = next;
    const wanted = next.sort.replace(/^-/, "");
    column = COLUMNS.some(([id]) => id === wanted) ? wanted : next.x;
    falling = next.sort.startsWith("-");
    oneDevice = new Set(view.points.map(({ device }) => device)).size < 2;
    heads.get("device").node.hidden = oneDevice;
    for (const [id, { node: cell, arrow }] of heads) {
      if (id === column) cell.setAttribute("aria-sort", falling ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
      setText(arrow, id === column ? (falling ? "▼" : "▲") : "");
    }
    const at = body.contains(document.activeElement) ? [...body.querySelectorAll("button, input")].indexOf(document.activeElement) : -1;
    setChildren(body, sorted().map(row));
    if (at >= 0) body.querySelectorAll("button, input")[at]?.focus();
    setText(count, `${next.note}${oneDevice ? `; latency on ${view.points[0].device}` : ""}`);
  }

  function text() {
    const told = (point) => ({ ...point, method: point.methods.join(" + "), on_frontier: frontierWord(point), qualifies: qualifyWord(point, view.limits) });
    return csv(FILE, sorted().map(told).map((point) => FILE.map((name) => point[name])));
  }

  return { node, update };
}

export function card({ onChoose, onClose }) {
  const node = el("section", { class: "panel point-card", "aria-labelledby": "card-name", hidden: true, on: { keydown: (event) => event.key === "Escape" && onClose() } });
  let seen = "";
  return {
    node,
    focus: () => node.querySelector("h2").focus(),
    update(point, jobs) {
      node.hidden = !point;
      const chosen = Boolean(point && jobs.includes(point.job));
      const full = jobs.length >= MOST && !chosen;
      const now = JSON.stringify([point, chosen, full]);
      if (now === seen) return;
      seen = now;
      const choosing = node.querySelector("[data-choose]") === document.activeElement;
      setChildren(node, point ? inside(point, chosen, full, onChoose, onClose) : null);
      if (choosing) node.querySelector("[data-choose]")?.focus();
    },
  };
}

function inside(point, chosen, full, onChoose, onClose) {
  const student = isStudent(point);
  const what = student ? (point.on_frontier ? "Student on the frontier" : "Dominated student") : "Teacher";
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
  const choose = smallButton(chosen ? "Chosen to compare" : full ? "Ten are chosen" : "Add to compare", () => onChoose(point.job), { "data-choose": true, "aria-pressed": String(chosen), disabled: full });
  return [
    el("div", { class: "section-head" }, el("div", {}, el("h2", { id: "card-name", tabindex: "-1" }, point.name), el("p", { class: "muted small" }, what)),
      smallButton("Close", onClose, { "aria-label": "Close the card" })),
    el("dl", {}, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    el("div", { class: "actions" },
      el("a", { class: "button small", href: `#/jobs/${encodeURIComponent(point.job)}` }, student ? "Open job" : "Open a job it taught"), student ? choose : null),
  ];
}

export function tray(onNone) {
  const node = el("section", { class: "panel chosen-tray", "aria-label": "Chosen to compare", hidden: true });
  return {
    node,
    update(jobs, nameOf) {
      node.hidden = !jobs.length;
      setChildren(node,
        el("strong", {}, `${jobs.length} chosen`), el("span", {}, jobs.map(nameOf).join(", ")),
        jobs.length > 1 ? el("a", { class: "button primary small", href: compareHref(jobs, "epoch") }, `Compare ${jobs.length} jobs`) : el("span", { class: "muted small" }, "One more, and they can be compared."),
        smallButton("Choose none", onNone));
    },
  };
}
