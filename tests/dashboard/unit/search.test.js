import { combobox } from "/static/js/combobox.js";
import { searchField } from "/static/js/components.js";
import { equal, inPage, test, until } from "./testing.js";

const type = (input, text) => { input.value = text; input.dispatchEvent(new Event("input")); };

test("a change of the address does not replace the text that is typed", () => inPage(async (page) => {
  const searches = [];
  const field = searchField(() => searches.push(field.text()), {});
  page.append(field.node);
  field.show("from the address");
  equal(field.text(), "from the address");
  type(field.input, "typed");
  field.show("late");
  equal(field.input.value, "typed");
  await until(() => searches.length > 0);
  equal(searches, ["typed"]);
  field.show("next");
  equal(field.input.value, "next");
}));

test("an option keeps its element while the list changes", () => inPage((page) => {
  const picked = [];
  const box = combobox({ id: "box", label: "Box", props: {}, search() {}, option: ({ name }) => name, pick: (item) => picked.push(item.name) });
  page.append(box.input, box.popup);
  type(box.input, "a");
  box.show([{ name: "a" }, { name: "b" }]);
  const option = page.querySelector("[data-name=b]");
  box.show([{ name: "b" }, { name: "c" }]);
  equal([...page.querySelectorAll("li")].map(({ id, textContent }) => [id, textContent]), [["box-0", "b"], ["box-1", "c"]]);
  option.click();
  equal([picked, box.isOpen()], [["b"], false]);
}));
