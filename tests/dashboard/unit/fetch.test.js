import { allPages, ApiError, call, isIgnorable, jobPath, patch, UNAUTHORIZED } from "/static/js/fetch.js";
import { csv } from "/static/js/components.js";
import { findAsset, findAssetIfPossible, methodName, shortName, studentName } from "/static/js/lookups.js";
import { matches, parseQuery } from "/static/js/pages/jobs-page/table-controls.js";
import { equal, rejects, replacing, test } from "./testing.js";

const json = (body, status = 200, headers = {}) => new Response(JSON.stringify(body), { status, headers });

/** Replace fetch by a function of (address, init), and record the requests. */
async function withFetch(respond, body) {
  const requests = [];
  await replacing(globalThis, "fetch", async (address, init) => {
    requests.push({ address, ...init });
    return respond(address, init);
  }, () => body(requests));
}

test("parameters are encoded, repeated, or left out", () => withFetch(() => json({}), async (requests) => {
  await call("GET", "/v1/jobs", { params: { state: ["queued", "paused"], q: "a b", cursor: null, label: "", limit: 0 } });
  equal(requests[0].address, "/v1/jobs?state=queued&state=paused&q=a+b&limit=0");
  equal(jobPath("job/1", "/runs"), "/v1/jobs/job%2F1/runs");
}));

test("a body is sent as JSON, an etag as a condition", () => withFetch(() => json({ id: 1 }), async (requests) => {
  equal(await patch("/v1/models/1", { name: "x" }, "\"e\""), { id: 1 });
  equal([requests[0].body, requests[0].headers["Content-Type"], requests[0].headers["If-Match"]], ["{\"name\":\"x\"}", "application/json", "\"e\""]);
}));

test("a problem document becomes an error", () => withFetch(() => json({ code: "in_use", detail: "is in use" }, 409), async () => {
  await rejects(call("GET", "/v1/x"), (error) => error instanceof ApiError && error.status === 409 && error.code === "in_use" && error.message === "is in use");
}));

test("an unreachable server is status 0, an aborted request stays as it is", async () => {
  await withFetch(() => { throw new TypeError("network"); }, async () => {
    await rejects(call("GET", "/v1/x"), ({ status, code }) => status === 0 && code === "offline");
  });
  await withFetch(() => { throw new DOMException("aborted", "AbortError"); }, async () => {
    await rejects(call("GET", "/v1/x"), (error) => isIgnorable(error));
  });
});

test("a rejected login is announced", () => withFetch(() => json({}, 401), async () => {
  let events = 0;
  const listener = () => { events += 1; };
  document.addEventListener(UNAUTHORIZED, listener);
  await rejects(call("GET", "/v1/jobs"), isIgnorable);
  await rejects(call("POST", "/session"), isIgnorable);
  document.removeEventListener(UNAUTHORIZED, listener);
  equal(events, 1);
}));

test("pages of a list are read until the last one", () => withFetch((address) => json(address.includes("cursor=2") ? { data: [3], next_cursor: null } : { data: [1, 2], next_cursor: "2" }), async (requests) => {
  const progress = [];
  equal(await allPages("/v1/x", {}, undefined, (items) => progress.push(items.length)), [1, 2, 3]);
  const pages = requests.filter(({ address }) => address.startsWith("/v1/x"));
  equal([progress, pages.length], [[2, 3], 2]);
}));

test("a model is requested once, and again after a failure", async () => {
  await withFetch(() => json({}, 500), async () => {
    equal(await findAssetIfPossible("models", "mdl_1"), null);
  });
  await withFetch(() => json({ id: "mdl_1" }), async (requests) => {
    equal([await findAsset("models", "mdl_1"), await findAsset("models", "mdl_1")], [{ id: "mdl_1" }, { id: "mdl_1" }]);
    equal(requests.length, 1);
  });
  await withFetch(() => json({}, 404), async () => {
    equal(await findAsset("models", "mdl_2"), null);
  });
});

test("jobs are described by their networks and methods", () => {
  equal(shortName("cifar/resnet20"), "resnet20");
  equal(studentName({ resolved: { student: { derive: "teacher", convolution: "depthwise_separable", width: 0.5 } } }), ", depthwise separable × 0.5");
  equal([{ kind: "warm" }, { kind: "evaluate" }, { kind: "distill", method: "kd" }, { kind: "distill", resolved: { method: [{ type: "kd" }, { type: "attention" }] } }].map(methodName), ["teacher cache", "evaluation", "kd", "kd + attention"]);
});

test("the filter of an address decides which jobs match", () => {
  const filter = parseQuery(new URLSearchParams("state=queued&q=First&method=kd&label=team:a:b"));
  equal(filter.state, ["queued", "paused"]);
  const job = { id: "job_1", state: "paused", labels: { team: "a:b" }, dataset: "ds_1", resolved: { name: "my first job", method: [{ type: "kd" }], student: { architecture: "cifar/resnet8" } } };
  equal(matches(job, filter), true);
  equal([{ state: "running" }, { labels: {} }, { resolved: { ...job.resolved, method: [{ type: "dkd" }] } }, { resolved: { ...job.resolved, name: "second" } }].map((change) => matches({ ...job, ...change }, filter)), [false, false, false, false]);
});

test("CSV quotes its fields and never starts a formula", () => {
  const texts = ["+1+1", "-1+1", "@SUM(A1)", " =1+1", "＝1+1", "\t1", "-Infinity", "-5", "1e-3"];
  equal(csv(["name"], texts.map((text) => [text])).split("\r\n").slice(1), ["'+1+1", "'-1+1", "'@SUM(A1)", "' =1+1", "'＝1+1", "\t1", "'-Infinity", "-5", "1e-3"]);
  equal(csv(["a", "b"], [["x,y", 1], ["=1+1", null], ["say \"hi\"", -2]]), "a,b\r\n\"x,y\",1\r\n'=1+1,\r\n\"say \"\"hi\"\"\",-2");
});
