// The start: every page and its address; the login, when the API requires one.

import { post, UNAUTHORIZED } from "./api.js";
import { fromTemplate, el, setChildren } from "./dom.js";
import { announce, drawBar } from "./layout.js";
import { Router } from "./router.js";

// Every page: the pattern of its address, its file, its title. `nav` puts it into the bar, `under` marks its entry there.
const ROUTES = [
  { pattern: /^\/jobs$/, nav: "Jobs", path: "/jobs", load: () => import("./pages/jobs.js") },
  { pattern: /^\/new$/, nav: "New job", path: "/new", load: () => import("./pages/new.js") },
  { pattern: /^\/jobs\/([^/]+)$/, title: "Job", under: "/jobs", load: () => import("./pages/job.js") },
  { pattern: /^\/compare$/, title: "Compare", under: "/jobs", load: () => import("./pages/compare.js") },
  { pattern: /^\/frontier$/, nav: "Frontier", path: "/frontier", load: () => import("./pages/frontier.js") },
  { pattern: /^\/students\/([^/]+)$/, title: "Student", under: "/jobs", load: () => import("./pages/student.js") },
  { pattern: /^\/catalog$/, nav: "Catalog", path: "/catalog", load: () => import("./pages/catalog.js") },
  { pattern: /^\/system$/, nav: "System", path: "/system", load: () => import("./pages/system.js") },
];

const NOT_FOUND = { title: "Not found", load: async () => ({ mount: (main) => main.append(fromTemplate("lost")) }) };

const main = document.getElementById("main");
const router = new Router(main, ROUTES, { notFound: NOT_FOUND, onPage, failed });

function onPage(route) {
  drawBar(ROUTES, route);
  document.title = `${route.nav ?? route.title} – Stillhouse`;
}

function failed(error) {
  reportError(error);
  setChildren(main, fromTemplate("broken"));
  main.querySelector("code").textContent = error.message;
  main.querySelector("button").addEventListener("click", () => location.reload());
}

let asking = false;
function logIn(used = false) {
  // By the way back another page may have come over the form.
  if (asking && main.querySelector("#key")) return;
  asking = true;
  router.leave();
  drawBar(ROUTES, null);
  login(used);
}

function entered() {
  if (location.pathname !== "/") return location.replace("/");
  asking = false;
  announce("Logged in");
  return router.go({ again: true });
}

function login(used) {
  document.title = "Log in – Stillhouse";
  setChildren(main, fromTemplate("login"));
  const [key, button, said] = ["#key", ".primary", "[role=alert]"].map((each) => main.querySelector(each));
  if (used) setChildren(said, fromTemplate("login-used"));
  key.focus();
  main.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      await post("/session", { api_key: key.value.trim() });
      entered();
    } catch (error) {
      setChildren(said, el("p", { class: "notice", "data-tone": "bad" }, error.status === 401 ? "This key is not known, or has been revoked." : error.message));
      button.disabled = false;
      key.select();
      key.focus();
    }
  });
}

document.addEventListener(UNAUTHORIZED, () => logIn());
document.getElementById("skip").addEventListener("click", () => main.focus());

if (location.pathname === "/login") logIn(location.hash === "#used");
else router.go();
