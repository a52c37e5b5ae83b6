// The start: the routes to all pages, the navigation bar, the login.

import { del, post, UNAUTHORIZED } from "./fetch.js";
import { announce, connection, smallButton } from "./components.js";
import { el, fromTemplate, setChildren } from "./dom.js";
import { href, Router } from "./router.js";

// `nav` puts a page into the bar; `under` marks the entry of another page there.
const ROUTES = [
  { pattern: /^\/jobs$/, nav: "Jobs", path: "/jobs", load: () => import("./pages/jobs-page.js") },
  { pattern: /^\/new$/, nav: "New job", path: "/new", load: () => import("./pages/new-page.js") },
  { pattern: /^\/jobs\/([^/]+)$/, title: "Job", under: "/jobs", load: () => import("./pages/job-page.js") },
  { pattern: /^\/compare$/, title: "Compare", under: "/jobs", load: () => import("./pages/compare-page.js") },
  { pattern: /^\/frontier$/, nav: "Frontier", path: "/frontier", load: () => import("./pages/frontier-page.js") },
  { pattern: /^\/students\/([^/]+)$/, title: "Student", under: "/jobs", load: () => import("./pages/student-page.js") },
  { pattern: /^\/catalog$/, nav: "Catalog", path: "/catalog", load: () => import("./pages/catalog-page.js") },
  { pattern: /^\/system$/, nav: "System", path: "/system", load: () => import("./pages/system-page.js") },
];

const NOT_FOUND = { title: "Not found", load: async () => ({ mount: (main) => main.append(fromTemplate("not-found")) }) };

const main = document.getElementById("main");
const router = new Router(main, ROUTES, { notFound: NOT_FOUND, onPage, onError });

function onPage(route) {
  drawBar(route);
  document.title = `${route.nav ?? route.title} – Stillhouse`;
}

function onError(error) {
  reportError(error);
  setChildren(main, fromTemplate("broken"));
  main.querySelector("code").textContent = error.message;
  main.querySelector("button").addEventListener("click", () => location.reload());
}

// Show the bar with the entry of `current` marked; hide it if `current` is null.
function drawBar(current) {
  const node = document.getElementById("bar");
  node.hidden = current === null;
  if (current === null) return;
  const links = ROUTES.filter((route) => route.nav).map((route) => {
    const marked = route === current || current.under === route.path;
    return el("li", {}, el("a", { href: href(route.path), "aria-current": marked ? "page" : null }, route.nav));
  });
  setChildren(
    node,
    fromTemplate("brand"),
    el("nav", { "aria-label": "Pages" }, el("ul", {}, links)),
    connection,
    smallButton("Log out", logOut),
  );
}

async function logOut() {
  try {
    await del("/session");
  } finally {
    location.assign("/login");
  }
}

let loginShown = false;
function requireLogin(used = false) {
  // The browser's back button may have replaced the form by a page.
  if (loginShown && main.querySelector("#key")) return;
  loginShown = true;
  router.leave();
  drawBar(null);
  showLogin(used);
}

function onLogin() {
  if (location.pathname !== "/") return location.replace("/");
  loginShown = false;
  announce("Logged in");
  return router.go({ remount: true });
}

function showLogin(used) {
  document.title = "Log in – Stillhouse";
  setChildren(main, fromTemplate("login"));
  const [key, submit, message] = ["#key", ".primary", "[role=alert]"].map((selector) => main.querySelector(selector));
  if (used) setChildren(message, fromTemplate("login-used"));
  key.focus();
  main.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    try {
      await post("/session", { api_key: key.value.trim() });
      onLogin();
    } catch (error) {
      setChildren(message, el("p", { class: "notice", "data-tone": "bad" }, error.status === 401 ? "This key is not known, or it was revoked." : error.message));
      submit.disabled = false;
      key.select();
      key.focus();
    }
  });
}

document.addEventListener(UNAUTHORIZED, () => requireLogin());
document.getElementById("skip").addEventListener("click", () => main.focus());

if (location.pathname === "/login") requireLogin(location.hash === "#used");
else router.go();
