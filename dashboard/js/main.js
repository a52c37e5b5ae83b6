// Start: which page the address asks for, and the login when the API wants one.

import { UNAUTHORIZED } from "./api.js";
import { Router } from "./router.js";
import { announce, bar } from "./shell.js";

const main = document.getElementById("main");
const router = new Router(main, (route) => {
  bar(route);
  document.title = "Stillhouse";
});

let asking = false;
async function logIn(used = false) {
  if (asking) return;
  asking = true;
  router.leave();
  bar(null);
  const { mount } = await import("./pages/login.js");
  mount(main, { used, done: entered });
}

function entered() {
  if (location.pathname !== "/") return location.replace("/");
  asking = false;
  announce("Logged in");
  return router.go({ again: true });
}

document.addEventListener(UNAUTHORIZED, () => logIn());
document.getElementById("skip").addEventListener("click", () => main.focus());

if (location.pathname === "/login") logIn(location.hash === "#used");
else router.go();
