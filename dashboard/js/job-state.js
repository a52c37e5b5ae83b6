// A job's state as an icon, a word and a color; the color alone never carries the meaning.

import { el, svg } from "./dom.js";

export const LIVE = ["queued", "starting", "running", "pausing", "cancelling"];
export const TERMINAL = ["succeeded", "failed", "cancelled"];
export const isLive = (job) => LIVE.includes(job.state);

export const TICK = ["M2.8 8.6l3.4 3.4 7-7.6"];
export const CROSS = ["M3.6 3.6l8.8 8.8", "M12.4 3.6l-8.8 8.8"];
export const BARRED = ["M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8z", "M3.8 12.2l8.4-8.4"];
export const CLOCK = ["M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8z", "M8 4.8V8l2.2 1.6"];
const STATES = {
  queued: ["Queued", "quiet", CLOCK],
  starting: ["Starting", "wait", ["M8 1.8a6.2 6.2 0 0 1 6.2 6.2", "M8 5a3 3 0 0 1 3 3"]],
  running: ["Running", "live", ["M4.5 2.8v10.4L13 8z"]],
  pausing: ["Pausing", "wait", ["M5.5 3v10", "M10.5 3v10"]],
  paused: ["Paused", "quiet", ["M5.5 3v10", "M10.5 3v10"]],
  cancelling: ["Cancelling", "wait", ["M3 13 13 3"]],
  cancelled: ["Cancelled", "quiet", BARRED],
  succeeded: ["Succeeded", "good", TICK],
  failed: ["Failed", "bad", CROSS],
};

export const stateWord = (state) => STATES[state]?.[0] ?? state;

export function icon(paths) {
  const lines = paths.map((d) => svg("path", { d, fill: "none", stroke: "currentColor", "stroke-width": 1.8, "stroke-linecap": "round", "stroke-linejoin": "round" }));
  return svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, lines);
}

export function stateChip(state) {
  const [name, tone, paths] = STATES[state] ?? [state, "quiet", CLOCK];
  return el("span", { class: "chip", "data-tone": tone, "data-state": state }, icon(paths), name);
}

const PHASES = {
  fetching: "fetching the data",
  verifying_teacher: "checking the teacher",
  caching_teacher: "filling the teacher cache",
  training: "training",
  evaluating: "evaluating",
  exporting: "exporting",
  uploading: "uploading",
};
export const phaseWords = (phase) => PHASES[phase] ?? phase ?? "";
