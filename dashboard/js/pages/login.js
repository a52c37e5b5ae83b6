// The login: a one-time address has already worked by itself; here a key can be pasted.

import { post } from "../api.js";
import { el, put } from "../dom.js";
import { brand } from "../shell.js";

const USED = [
  el("strong", {}, "This address does not work any more."),
  "A login address works once, within an hour. ",
  el("code", {}, "stillhouse up"),
  " prints a new one whenever it starts; or paste an API key below.",
];

export function mount(main, { used, done }) {
  document.title = "Log in – Stillhouse";
  const said = el("div", { role: "alert" });
  const key = el("input", {
    id: "key", class: "input mono", type: "password", name: "api_key", required: true,
    autocomplete: "current-password", spellcheck: "false", placeholder: "stk_…", "aria-describedby": "key-hint",
  });
  const button = el("button", { class: "button primary", type: "submit" }, "Log in");
  const form = el(
    "form",
    { class: "panel", on: { submit: send } },
    el("h1", { tabindex: "-1" }, "Log in"),
    el("div", { class: "field" }, el("label", { for: "key" }, "API key"), key,
      el("p", { class: "muted small", id: "key-hint" }, "The key stays on the server: this browser gets a cookie for one login.")),
    button,
    el("p", { class: "muted small" }, "Or open the address that ", el("code", {}, "stillhouse up"), " printed: it logs you in by itself."),
  );
  put(main, el("div", { class: "login" }, brand("/login"), said, form));
  if (used) put(said, el("div", { class: "notice", "data-tone": "wait" }, USED));
  key.focus();

  async function send(event) {
    event.preventDefault();
    button.disabled = true;
    try {
      await post("/session", { api_key: key.value.trim() });
      done();
    } catch (error) {
      const text = error.status === 401 ? "This key is not known, or has been revoked." : error.message;
      put(said, el("p", { class: "notice", "data-tone": "bad" }, text));
      button.disabled = false;
      key.select();
      key.focus();
    }
  }
}
