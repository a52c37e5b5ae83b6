// The navigation bar, the announcements for screen readers, the state of the connection.

import { del } from "./api.js";
import { el, fromTemplate, setChildren, setText } from "./dom.js";
import { href } from "./router.js";

const CONNECTIONS = { live: "Live", idle: "Up to date", reconnecting: "Reconnecting: this may be old", offline: "Offline: this may be old" };
const state = el("span", { class: "link-state", "data-state": "idle" }, CONNECTIONS.idle);

export function setConnection(name) {
  if (state.dataset.state === name) return;
  state.dataset.state = name;
  state.title = CONNECTIONS[name];
  setText(state, CONNECTIONS[name]);
}

export function announce(text) {
  setText(document.getElementById("live"), text);
}

/** Show the bar with the entry of `current` marked; hide it if `current` is null. */
export function drawBar(routes, current) {
  const node = document.getElementById("bar");
  node.hidden = current === null;
  if (current === null) return;
  const links = routes.filter((route) => route.nav).map((route) => {
    const marked = route === current || current.under === route.path;
    return el("li", {}, el("a", { href: href(route.path), "aria-current": marked ? "page" : null }, route.nav));
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
