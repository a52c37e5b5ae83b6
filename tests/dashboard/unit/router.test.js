import { currentAddress, href, replaceQuery, Router } from "/static/js/router.js";
import { equal, inPage, test, until } from "./testing.js";

const goTo = (hash) => { history.replaceState(null, "", hash); };

/** A router with two pages that record what happens to them. */
function createRouter(main) {
  const log = [];
  const page = (name) => ({
    load: async () => ({
      mount(node, { args, query }) {
        log.push(`mount ${name} ${args.join()}?${query}`);
        node.append(document.createElement("h1"));
        return { update: (next) => log.push(`update ${name}?${next}`), leave: () => log.push(`leave ${name}`) };
      },
    }),
  });
  const routes = [{ pattern: /^\/jobs$/, ...page("jobs") }, { pattern: /^\/jobs\/([^/]+)$/, ...page("job") }, { pattern: /^\/broken$/, load: () => Promise.reject(new Error("no script")) }];
  const router = new Router(main, routes, { notFound: page("missing"), onPage: () => {}, onError: (error) => log.push(`error ${error.message}`) });
  return { router, log };
}

test("an address is a path and a query", () => {
  goTo("#/jobs/?state=running&q=a%20b");
  const { path, query } = currentAddress();
  equal([path, query.get("state"), query.get("q")], ["/jobs", "running", "a b"]);
  goTo("#");
  equal(currentAddress().path, "/jobs");
});

test("links leave out empty parameters and show commas", () => {
  equal(href("/jobs"), "#/jobs");
  equal(href("/compare", { jobs: "job_1,job_2", x: "", y: null }), "#/compare?jobs=job_1,job_2");
});

test("a replaced query keeps the other parameters", () => {
  goTo("#/jobs?state=failed&q=old");
  replaceQuery({ q: "new", label: "a:b" });
  equal(location.hash, "#/jobs?state=failed&q=new&label=a%3Ab");
  replaceQuery({ q: "", state: "" });
  equal(location.hash, "#/jobs?label=a%3Ab");
});

test("a changed path mounts a page, a changed query updates it", () => inPage(async (main) => {
  const { router, log } = createRouter(main);
  goTo("#/jobs?q=a");
  await router.go();
  goTo("#/jobs?q=b");
  await router.go();
  goTo("#/jobs/job%201");
  await router.go();
  equal(log, ["mount jobs ?q=a", "update jobs?q=b", "leave jobs", "mount job job 1?"]);
  equal(main.dataset.page, "jobs");
  router.leave();
}));

test("a mounted page can be mounted again", () => inPage(async (main) => {
  const { router, log } = createRouter(main);
  goTo("#/jobs");
  await router.go();
  await router.go({ remount: true });
  equal(log, ["mount jobs ?", "leave jobs", "mount jobs ?"]);
  router.leave();
}));

test("an unknown path mounts the page for it", () => inPage(async (main) => {
  const { router, log } = createRouter(main);
  goTo("#/nowhere");
  await router.go();
  equal(log, ["mount missing ?"]);
  router.leave();
}));

test("a page that cannot be loaded is reported", () => inPage(async (main) => {
  const { router, log } = createRouter(main);
  goTo("#/broken");
  await router.go();
  equal(log, ["error no script"]);
}));

test("a page that is left while it loads is not mounted", () => inPage(async (main) => {
  const { router, log } = createRouter(main);
  goTo("#/jobs");
  const first = router.go();
  goTo("#/jobs/job_1");
  await Promise.all([first, router.go()]);
  equal(log, ["mount job job_1?"]);
  router.leave();
}));

test("the router follows the hash", () => inPage(async (main) => {
  const { log } = createRouter(main);
  goTo("#/nowhere");
  location.hash = "#/jobs";
  await until(() => log.length === 1);
  equal(log, ["mount jobs ?"]);
}));
