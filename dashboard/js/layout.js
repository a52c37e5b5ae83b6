// The bar at the top, the words for screen readers, the state of the connection.

import { del } from "./api.js";
import { fromTemplate, el, setChildren, setText } from "./dom.js";
import { href } from "./router.js";

const WORDS = { live: "Live", idle: "Up to date", reconnecting: "Reconnecting: this may be old", offline: "Offline: this may be old" };
const state = el("span", { class: "link-state", "data-state": "idle" }, WORDS.idle);

export function setConnection(name) {
  if (state.dataset.state === name) return;
  state.dataset.state = name;
  state.title = WORDS[name];
  setText(state, WORDS[name]);
}

export function announce(text) {
  setText(document.getElementById("live"), text);
}

export function drawBar(routes, route) {
  const node = document.getElementById("bar");
  node.hidden = route === null;
  if (route === null) return;
  const links = routes.filter((each) => each.nav).map((each) => {
    const at = each === route || route.under === each.path;
    return el("li", {}, el("a", { href: href(each.path), "aria-current": at ? "page" : null }, each.nav));
  });
  setChildren(
    node,
    fromTemplate("brand"),
    el("nav", { "aria-label": "Pages" }, el("ul", {}, links)),
    state,
    el("button", { type: "button", class: "button small", on: { click: logOut } }, "Log out"),
  );
}

async function logOut() {
  try {
    await del("/session");
  } finally {
    location.assign("/login");
  }
}
