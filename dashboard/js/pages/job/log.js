// The end of what happened: events and lines of the log, kept within bounds.

import { jobPath } from "../../api.js";
import { el, put } from "../../dom.js";
import { bytes, clock, moment } from "../../format.js";
import { phaseWords, word } from "../../state.js";

const MOST = 500;

function said({ type, data }) {
  if (type === "log") return data.message;
  if (type === "state") return word(data.state) + (data.reason ? ` (${data.reason})` : "");
  if (type === "phase") return phaseWords(data.phase);
  if (type === "checkpoint") return `step ${data.step}, ${bytes(data.size_bytes)}`;
  if (type === "artifact") return `${data.name}, ${bytes(data.size_bytes)}`;
  if (type === "error") return `${data.code}: ${data.message}`;
  return type === "report" ? "the report is there" : JSON.stringify(data);
}

const levelOf = ({ type, data }) => (type === "error" ? "error" : (data.level ?? "info"));

/** Collects from the start of the page; `node()` is made when the tab is opened. */
export function logTab(id) {
  const events = [];
  const list = el("ol");
  const view = el("div", { class: "log", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Events, the newest last" }, list);
  const level = el("select", { class: "input", "aria-label": "Show", on: { change: draw } },
    [["all", "Everything"], ["log", "Log lines only"], ["warning", "Warnings and errors"]].map(([value, text]) => el("option", { value }, text)));
  const node = el("div", {}, el("div", { class: "tools" }, level,
    el("a", { href: jobPath(id, "/logs"), download: `${id}.log.txt` }, "Download the log")), view);

  const wanted = (event) => level.value === "all" || (level.value === "log" ? event.type === "log" : ["warning", "error"].includes(levelOf(event)));
  const line = (event) => el("li", { "data-level": levelOf(event) },
    el("time", { datetime: event.time, title: moment(event.time) }, clock(event.time)),
    el("span", { class: "kind" }, event.type === "log" ? event.data.level : event.type), el("span", { class: "said" }, said(event)));

  function draw() {
    put(list, events.filter(wanted).map(line));
    if (!list.firstChild) put(list, el("li", {}, el("span", { class: "said muted" }, "Nothing yet.")));
    view.scrollTop = view.scrollHeight;
  }

  let waiting = [];
  return {
    node,
    add(event) {
      events.push(event);
      if (events.length > MOST) events.shift();
      waiting.push(event);
    },
    /** Put what is new under the end; follow it only if the reader is there. */
    flush() {
      if (!waiting.length || !node.isConnected) return;
      if (events.length === waiting.length || waiting.length >= MOST || !list.querySelector("time")) draw();
      else {
        const following = view.scrollTop + view.clientHeight >= view.scrollHeight - 30;
        list.append(...waiting.filter(wanted).map(line));
        while (list.childElementCount > MOST) list.firstChild.remove();
        if (following) view.scrollTop = view.scrollHeight;
      }
      waiting = [];
    },
    draw() {
      waiting = [];
      draw();
    },
  };
}
