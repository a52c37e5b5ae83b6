// The charts of a job, with one x axis for all of them.

import { figure } from "../../chart.js";
import { CHARTS } from "../../chartlist.js";
import { AXES } from "../../curves.js";
import { el, setText } from "../../dom.js";
import { replaceQuery } from "../../router.js";

export function charts(chosen) {
  let axis = chosen in AXES ? chosen : "epoch";
  let curves = null;
  const figures = CHARTS.map(figure);
  const none = el("p", { class: "muted" }, "The curves begin with the first step.");
  const buttons = Object.entries(AXES).map(([name, label]) => el("button", { type: "button", "data-axis": name, on: { click: () => choose(name) } }, label));
  const note = el("span", { class: "muted small num" });
  const node = el("section", { class: "band", "aria-labelledby": "curves" },
    el("div", { class: "section-head" }, el("h2", { id: "curves" }, "Curves"), note,
      el("div", { class: "segments", role: "group", "aria-label": "X axis" }, buttons)),
    none, el("div", { class: "charts" }, figures.map((each) => each.node)));

  function choose(name) {
    axis = name;
    mark();
    replaceQuery({ x: name });
    if (curves) update(curves);
  }

  function mark() {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.axis === axis));
  }

  function update(next) {
    curves = next;
    none.hidden = curves.points > 0;
    if (!curves.points) return;
    for (const each of figures) each.update(curves, axis);
    setText(note, `${curves.points.toLocaleString("en-GB")} points`);
  }

  mark();
  return { node, update, destroy: () => figures.forEach((each) => each.destroy()) };
}
