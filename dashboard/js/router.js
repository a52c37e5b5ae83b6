// The address says everything: `#/jobs?state=running`. One page is mounted at a time.

import { routes } from "./routes.js";

/** The address after `#`, as {path, query}. */
export function here() {
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?");
  return { path: path || "/jobs", query: new URLSearchParams(query) };
}

/** An address; empty values are left out. */
export function href(path, query = {}) {
  const kept = Object.entries(query).filter(([, value]) => value);
  return `#${path}${kept.length ? `?${new URLSearchParams(kept)}` : ""}`;
}

/** Change the query of the present page without a step in the history. */
export function replaceQuery(changes) {
  const { path, query } = here();
  history.replaceState(null, "", href(path, { ...Object.fromEntries(query), ...changes }));
}

export class Router {
  constructor(main, onPage) {
    this.main = main;
    this.onPage = onPage;
    this.page = null;
    this.path = null;
    this.turn = 0;
    addEventListener("hashchange", () => this.go());
  }

  /** Show what the address says; `again` mounts it anew. */
  async go({ again = false } = {}) {
    const { path, query } = here();
    if (!again && path === this.path && this.page?.update) return this.page.update(query);
    const first = this.path === null;
    const turn = ++this.turn;
    const found = routes.map((route) => ({ route, match: route.pattern.exec(path) })).find(({ match }) => match);
    const { route, match } = found ?? { route: routes[0], match: [] };
    const module = await route.load();
    if (turn !== this.turn) return undefined; // the reader has already gone elsewhere
    this.leave();
    this.path = path;
    this.main.replaceChildren();
    this.onPage(route);
    this.page = module.mount(this.main, { args: match.slice(1).map(decodeURIComponent), query });
    scrollTo(0, 0);
    if (!first) (this.main.querySelector("h1") ?? this.main).focus();
    return undefined;
  }

  /** Take the present page down. */
  leave() {
    this.page?.leave?.();
    this.page = null;
    this.path = null;
  }
}
