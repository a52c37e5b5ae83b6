// A curve the size of a word.

import { fixed } from "./format.js";
import { svg } from "./dom.js";

const WIDTH = 88;
const HEIGHT = 26;

/** Validation top-1 over the epochs, with the teacher's as a dashed line; null without a curve. */
export function spark(curve, teacher) {
  const values = (curve ?? []).filter((value) => Number.isFinite(value));
  if (values.length < 2) return null;
  const level = Number.isFinite(teacher) ? [teacher] : [];
  const low = Math.min(...values, ...level);
  const high = Math.max(...values, ...level);
  const y = (value) => HEIGHT - 3 - ((value - low) / (high - low || 1)) * (HEIGHT - 6);
  const x = (at) => 2 + (at / (values.length - 1)) * (WIDTH - 6);
  const path = values.map((value, at) => `${at ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const label = `Validation top-1 from ${fixed(values[0])} to ${fixed(values.at(-1))}`;
  return svg(
    "svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label },
    level.length ? svg("line", { x1: 0, x2: WIDTH, y1: y(teacher), y2: y(teacher) }) : null,
    svg("path", { d: path }),
    svg("circle", { cx: x(values.length - 1), cy: y(values.at(-1)), r: 2.2 }),
  );
}
