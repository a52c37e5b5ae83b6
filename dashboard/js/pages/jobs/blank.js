// The table with nothing in it: still loading, nothing there, nothing found.

import { el } from "../../dom.js";
import { code } from "../../parts.js";
import { href } from "../../router.js";
import { COLUMNS } from "./row.js";

const first = (origin) => `export STILLHOUSE=${origin} KEY=…   # your API key

curl $STILLHOUSE/v1/datasets -H "Authorization: Bearer $KEY" \\
  --json '{"name": "digits", "source": "builtin:digits"}'

curl $STILLHOUSE/v1/jobs -H "Authorization: Bearer $KEY" \\
  --json '{"name": "first student", "dataset": "ds_…",
           "student": {"architecture": "cifar/resnet8"}, "training": {"epochs": 5}}'`;

export function skeleton(lines = 6) {
  const widths = ["70%", "85%", "75%", "90%", "60%", "90%", "60%", ""];
  return Array.from({ length: lines }, () =>
    el("tr", { "aria-hidden": "true" }, COLUMNS.map((_, at) => {
      const bone = el("span", { class: "bone" });
      bone.style.width = widths[at];
      return el("td", {}, widths[at] ? bone : null);
    })));
}

export function nothing(filtered) {
  if (filtered) {
    return el("div", { class: "empty" }, el("h2", {}, "No job fits these filters"),
      el("p", {}, el("a", { href: href("/jobs") }, "Show all jobs")));
  }
  return el(
    "div", { class: "empty" },
    el("img", { src: "/static/logo.svg", alt: "", width: 52, height: 52 }),
    el("h2", {}, "No jobs yet"),
    el("p", {}, "A job takes a teacher and gives back a small student. Run ", el("code", {}, "make demo"),
      ", or post the first one: it appears here by itself."),
    code(first(location.origin), "The first job with curl"),
  );
}
