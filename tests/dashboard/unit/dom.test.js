import { debounce, el, fromTemplate, isTyping, keyedRows, setChildren, setText, svg } from "/static/js/dom.js";
import { equal, inPage, test, until } from "./testing.js";

test("text is never markup", () => {
  const node = el("p", { title: '"><b>' }, "<b>bold</b>", ["nested", [1]], null, undefined, false);
  equal([node.children.length, node.textContent, node.title], [0, "<b>bold</b>nested1", '"><b>']);
});

test("attributes are set, left out, or empty", () => {
  const node = el("input", { class: "input", disabled: true, hidden: false, max: null, value: "1" });
  equal(node.getAttributeNames().sort(), ["class", "disabled", "value"]);
  equal(node.getAttribute("disabled"), "");
});

test("handlers are called", () => {
  const clicks = [];
  el("button", { on: { click: () => clicks.push("click") } }).click();
  equal(clicks, ["click"]);
});

test("addresses lead to this site only", () => {
  const href = (value) => el("a", { href: value }).getAttribute("href");
  equal(["#/jobs", "/v1/jobs", "javascript:alert(1)", "//evil.example", "/\\evil.example", "https://evil.example"].map(href), ["#/jobs", "/v1/jobs", "#", "#", "#", "#"]);
});

test("svg elements have their namespace", () => {
  equal(svg("path", { d: "M0 0" }).namespaceURI, "http://www.w3.org/2000/svg");
});

test("children and text are replaced", () => {
  const node = el("p", {}, "old");
  setChildren(node, el("b", {}, "new"), null);
  equal(node.innerHTML, "<b>new</b>");
  const { firstChild } = node;
  setText(node.firstChild, "new");
  equal(node.firstChild === firstChild, true);
  setText(node, "text");
  equal(node.textContent, "text");
});

test("a template is copied", () => {
  const copy = fromTemplate("brand");
  equal(copy.querySelector("a").getAttribute("href"), "#/jobs");
  equal(fromTemplate("brand") === copy, false);
});

test("keys in fields and with modifiers are typing", () => inPage((page) => {
  const input = el("input");
  const button = el("button");
  page.append(input, button);
  const event = (target, options = {}) => {
    let typing = null;
    const listener = (key) => { typing = isTyping(key); };
    target.addEventListener("keydown", listener, { once: true });
    target.dispatchEvent(new KeyboardEvent("keydown", { key: "j", ...options }));
    return typing;
  };
  equal([event(input), event(button), event(button, { ctrlKey: true })], [true, false, true]);
}));

test("rows keep their elements and the focus", () => inPage((page) => {
  const created = [];
  const show = keyedRows(page, ({ id }) => id, ({ id }) => {
    created.push(id);
    const node = el("button", {}, id);
    return { update: ({ text }) => { setText(node, text); return node; } };
  });
  show([{ id: "a", text: "A" }, { id: "b", text: "B" }]);
  page.children[1].focus();
  show([{ id: "b", text: "B2" }, { id: "c", text: "C" }, { id: "a", text: "A" }]);
  equal([...page.children].map((node) => node.textContent), ["B2", "C", "A"]);
  equal([created, document.activeElement.textContent], [["a", "b", "c"], "B2"]);
  show([{ id: "a", text: "A" }]);
  show([{ id: "b", text: "B" }]);
  equal(created, ["a", "b", "c", "b"]);
}));

test("calls in quick succession run once", async () => {
  const calls = [];
  const call = debounce(() => calls.push("call"), 5);
  call();
  call();
  await until(() => calls.length > 0);
  equal(calls, ["call"]);
  equal(call.pending(), false);
  call();
  equal(call.pending(), true);
  call.cancel();
  equal(call.pending(), false);
  const after = debounce(() => calls.push("after"), 10);
  after();
  await until(() => calls.length > 1);
  equal(calls, ["call", "after"]);
});
