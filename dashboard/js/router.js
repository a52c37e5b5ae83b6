// Read and write addresses, and mount the page of the current one. The state of a page is in the query.

export function currentAddress() {
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?");
  return { path: path.replace(/\/$/, "") || "/jobs", query: new URLSearchParams(query) };
}

export function href(path, query = {}) {
  const set = Object.entries(query).filter(([, value]) => value);
  return `#${path}${set.length ? `?${String(new URLSearchParams(set)).replaceAll("%2C", ",")}` : ""}`;
}

export function replaceQuery(changes) {
  const { path, query } = currentAddress();
  history.replaceState(null, "", href(path, { ...Object.fromEntries(query), ...changes }));
}

/** `onPage(route)` runs before a page is mounted, `onError(error)` if it cannot be. */
export class Router {
  constructor(main, routes, { notFound, onPage, onError }) {
    this.main = main;
    this.routes = routes;
    this.notFound = notFound;
    this.onPage = onPage;
    this.onError = onError;
    this.page = null;
    this.path = null;
    this.navigation = 0;
    addEventListener("hashchange", () => this.go());
  }

  async go({ remount = false } = {}) {
    const { path, query } = currentAddress();
    if (!remount && path === this.path && this.page?.update) return this.page.update(query);
    const first = this.path === null;
    const navigation = ++this.navigation;
    const matched = this.routes.map((route) => ({ route, match: route.pattern.exec(path) })).find(({ match }) => match);
    const { route, match } = matched ?? { route: this.notFound, match: [] };
    const module = await route.load().catch((error) => ({ mount() { throw error; } })); // reported below, if this page is still wanted
    if (navigation !== this.navigation) return undefined; // the user has opened another page meanwhile
    this.leave();
    this.path = path;
    this.main.replaceChildren();
    this.main.dataset.page = path.split("/")[1]; // the style sheets select by it
    this.onPage(route);
    try {
      this.page = module.mount(this.main, { args: match.slice(1).map(decodeURIComponent), query });
    } catch (error) {
      this.onError(error);
    }
    scrollTo(0, 0);
    if (!first) (this.main.querySelector("h1") ?? this.main).focus();
    return undefined;
  }

  leave() {
    this.page?.leave?.();
    this.page = null;
    this.path = null;
  }
}
