// The combobox of architectures.

import { get } from "../../api.js";
import { el, setText } from "../../dom.js";
import { si } from "../../format.js";
import { labeledField } from "../../schema-form.js";
import { combobox } from "../../tabs.js";

const MOST_SHOWN = 60;
// The names of all architectures come page by page as they are needed, and are kept for the tab.
const PAGE = 200;
const known = [];
let cursor = "";
let asking = null;

function more() {
  asking ??= get("/v1/architectures", { limit: PAGE, cursor })
    .then(({ data, next_cursor }) => { known.push(...data); cursor = next_cursor; })
    .finally(() => { asking = null; });
  return asking;
}

function find(query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const found = known.filter(({ name }) => words.every((word) => name.toLowerCase().includes(word)));
  // What begins with the query, with or without its family, comes first.
  const rank = ({ name }) => (words[0] && name.toLowerCase().split("/").some((part) => part.startsWith(words[0])) ? 0 : 1);
  return found.sort((a, b) => rank(a) - rank(b));
}

const entry = (name) => known.find((each) => each.name === name);
const sizes = ({ num_params: params, macs }) => `${si(params)} parameters · ${si(macs)} MACs`;

export function architecture(ctx, pointer) {
  const note = el("span");
  const { input, found, show, isOpen } = combobox({
    id: `${ctx.id}${pointer.replace(/[^\w]/g, "-")}-list`, label: "Architecture", props: { placeholder: "cifar/resnet20" },
    look, left: commit, pick: (item, text) => commit(item?.name ?? text),
    option: (one) => [el("span", {}, one.name), el("span", { class: "muted num" }, sizes(one))],
  });
  input.value = ctx.draft.get(pointer) ?? "";
  const node = labeledField(ctx, pointer, "Architecture", input, [note]);
  node.classList.add("combo");
  input.after(found);

  async function look() {
    draw();
    try {
      while (isOpen() && cursor !== null) {
        await more();
        draw();
      }
    } catch (error) {
      if (error.status !== 401) setText(note, `The list cannot be loaded: ${error.message}`);
    }
  }

  function draw() {
    const query = input.value.trim();
    const fits = find(entry(query) ? "" : query); // what is chosen already does not narrow the list
    const rest = fits.length > MOST_SHOWN ? `${fits.length - MOST_SHOWN} more: type on` : cursor !== null ? "Loading…" : fits.length ? "" : "No architecture of this name";
    show(fits.slice(0, MOST_SHOWN), rest);
  }

  // Half a name is not worth a complaint: it counts once the reader has left it.
  function commit(name) {
    input.value = name;
    describe();
    if ((name || undefined) !== ctx.draft.get(pointer)) ctx.draft.set(pointer, name || undefined);
  }

  function describe() {
    const one = entry(input.value);
    // One line in either case: what lies below must not move under the hand that leaves the field.
    setText(note, one ? sizes(one) : "Type a part of its name.");
  }

  describe();
  return node;
}
