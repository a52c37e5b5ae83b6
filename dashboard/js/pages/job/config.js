// The configuration: every default made explicit, and what the last run chose.

import { el, put } from "../../dom.js";
import { code } from "../../parts.js";

export function configTab() {
  const node = el("div", { class: "stack" });
  let seen = "";
  return {
    node,
    update(job) {
      const now = JSON.stringify([job.resolved, job.chosen]);
      if (now === seen) return;
      seen = now;
      put(node,
        part("As resolved", job.resolved),
        job.chosen ? part("Chosen by the run", job.chosen) : null);
    },
  };
}

const part = (title, value) => el("section", { class: "band" }, el("h3", {}, title), code(JSON.stringify(value, null, 2), title));
