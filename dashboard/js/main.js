// Start, and the login when the API wants one.

import { post, UNAUTHORIZED } from "./api.js";
import { copyOf, el, put } from "./dom.js";
import { Router } from "./router.js";
import { announce, bar } from "./shell.js";

const main = document.getElementById("main");
const router = new Router(main, (route) => {
  bar(route);
  document.title = `${route.nav ?? route.title} – Stillhouse`;
}, (error) => {
  reportError(error);
  put(main, copyOf("broken"));
  main.querySelector("code").textContent = error.message;
  main.querySelector("button").addEventListener("click", () => location.reload());
});

let asking = false;
function logIn(used = false) {
  // By the way back another page may have come over the form.
  if (asking && main.querySelector("#key")) return;
  asking = true;
  router.leave();
  bar(null);
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
  put(main, copyOf("login"));
  const [key, button, said] = ["#key", ".primary", "[role=alert]"].map((each) => main.querySelector(each));
  if (used) put(said, copyOf("login-used"));
  key.focus();
  main.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      await post("/session", { api_key: key.value.trim() });
      entered();
    } catch (error) {
      put(said, el("p", { class: "notice", "data-tone": "bad" }, error.status === 401 ? "This key is not known, or has been revoked." : error.message));
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
