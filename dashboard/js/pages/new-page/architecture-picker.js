// A combobox of all architectures.

import { get } from "../../fetch.js";
import { combobox } from "../../combobox.js";
import { el, setText } from "../../dom.js";
import { si } from "../../format.js";
import { labeledField } from "../../schema-form.js";

const MAX_OPTIONS = 60;
// The pages of the list, read as they are needed and cached until the tab is closed.
const PAGE = 200;
const architectures = [];
let cursor = "";
let request = null;

function loadPage() {
  request ??= get("/v1/architectures", { limit: PAGE, cursor })
    .then(({ data, next_cursor }) => { architectures.push(...data); cursor = next_cursor; })
    .finally(() => { request = null; });
  return request;
}

function search(query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = architectures.filter(({ name }) => words.every((word) => name.toLowerCase().includes(word)));
  // A name whose family or own part begins with the query comes first.
  const rank = ({ name }) => (words[0] && name.toLowerCase().split("/").some((part) => part.startsWith(words[0])) ? 0 : 1);
  return matches.sort((a, b) => rank(a) - rank(b));
}

const find = (name) => architectures.find((entry) => entry.name === name);
const sizes = ({ num_params: params, macs }) => `${si(params)} parameters · ${si(macs)} MACs`;

export function architectureField(ctx, pointer) {
  const note = el("span");
  const { input, popup, show, isOpen } = combobox({
    id: `${ctx.id}${pointer.replace(/[^\w]/g, "-")}-list`, label: "Architecture", props: { placeholder: "cifar/resnet20" },
    search: load, blur: commit, pick: (item, text) => commit(item?.name ?? text),
    option: (entry) => [el("span", {}, entry.name), el("span", { class: "muted num" }, sizes(entry))],
  });
  input.value = ctx.draft.get(pointer) ?? "";
  const node = labeledField(ctx, pointer, "Architecture", input, [note]);
  node.classList.add("combo");
  input.after(popup);

  async function load() {
    draw();
    try {
      while (isOpen() && cursor !== null) {
        await loadPage();
        draw();
      }
    } catch (error) {
      if (error.status !== 401) setText(note, `The list cannot be loaded: ${error.message}`);
    }
  }

  function draw() {
    const query = input.value.trim();
    const matches = search(find(query) ? "" : query); // a complete name offers all others too
    const rest = matches.length > MAX_OPTIONS ? `${matches.length - MAX_OPTIONS} more: type to narrow the list` : cursor !== null ? "Loading…" : matches.length ? "" : "No architecture of this name";
    show(matches.slice(0, MAX_OPTIONS), rest);
  }

  // The draft takes the name when the field loses the focus, so that no half-typed name is validated.
  function commit(name) {
    input.value = name;
    describe();
    if ((name || undefined) !== ctx.draft.get(pointer)) ctx.draft.set(pointer, name || undefined);
  }

  function describe() {
    const entry = find(input.value);
    // Always one line, so that a button below does not move while it is clicked.
    setText(note, entry ? sizes(entry) : "Type a part of the name.");
  }

  describe();
  return node;
}
