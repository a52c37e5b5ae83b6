// The address is the state: reading it, writing it, and mounting the page that it names.

export function currentAddress() {
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?");
  return { path: path.replace(/\/$/, "") || "/jobs", query: new URLSearchParams(query) };
}

export function href(path, query = {}) {
  const kept = Object.entries(query).filter(([, value]) => value);
  return `#${path}${kept.length ? `?${String(new URLSearchParams(kept)).replaceAll("%2C", ",")}` : ""}`;
}

export function replaceQuery(changes) {
  const { path, query } = currentAddress();
  history.replaceState(null, "", href(path, { ...Object.fromEntries(query), ...changes }));
}

export class Router {
  constructor(main, routes, { notFound, onPage, failed }) {
    this.main = main;
    this.routes = routes;
    this.notFound = notFound;
    this.onPage = onPage;
    this.failed = failed;
    this.page = null;
    this.path = null;
    this.turn = 0;
    addEventListener("hashchange", () => this.go());
  }

  async go({ again = false } = {}) {
    const { path, query } = currentAddress();
    if (!again && path === this.path && this.page?.update) return this.page.update(query);
    const first = this.path === null;
    const turn = ++this.turn;
    const found = this.routes.map((route) => ({ route, match: route.pattern.exec(path) })).find(({ match }) => match);
    const { route, match } = found ?? { route: this.notFound, match: [] };
    const module = await route.load().catch((error) => ({ mount() { throw error; } })); // told when it is this page's turn
    if (turn !== this.turn) return undefined; // the reader has already gone elsewhere
    this.leave();
    this.path = path;
    this.main.replaceChildren();
    this.main.dataset.page = path.split("/")[1]; // so that a page's style is of this page alone
    this.onPage(route);
    try {
      this.page = module.mount(this.main, { args: match.slice(1).map(decodeURIComponent), query });
    } catch (error) {
      this.failed(error);
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
