import { EVENT_TYPES, JobsStream, JobStream, pollWhileVisible, untilVisible } from "/static/js/streams.js";
import { equal, rejects, replacing, test, until } from "./testing.js";

/** An EventSource without a network. */
class FakeSource extends EventTarget {
  static CLOSED = 2;

  static opened = [];

  constructor(address) {
    super();
    this.address = address;
    this.readyState = 1;
    FakeSource.opened.push(this);
    this.addEventListener("error", (event) => this.onerror?.(event));
  }

  send(type, data, lastEventId = "") {
    this.dispatchEvent(new MessageEvent(type, { data: JSON.stringify(data), lastEventId }));
  }

  fail(readyState = FakeSource.CLOSED) {
    this.readyState = readyState;
    this.dispatchEvent(new Event("error"));
  }

  close() {
    this.readyState = FakeSource.CLOSED;
  }
}

const withSource = (body) => replacing(globalThis, "EventSource", FakeSource, () => {
  FakeSource.opened = [];
  return body();
});

/** Listeners that record their calls. */
function recorder(log) {
  const record = (name) => (...args) => { log.push([name, ...args]); };
  return { snapshot: record("snapshot"), status: record("status"), event: record("event"), end: record("end"), job: record("job"), reload: record("reload"), check: async () => true };
}

function setHidden(hidden) {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}

test("a job's stream sends the snapshot and every event once", () => withSource(() => {
  const log = [];
  const stream = new JobStream("/events", recorder(log), 7);
  const [source] = FakeSource.opened;
  equal(source.address, "/events?after=7");
  source.send("snapshot", { state: "running" });
  source.send("state", { id: 8, type: "state" });
  source.send("metrics", { id: 8, type: "metrics" });
  source.send("metrics", { id: 9, type: "metrics" });
  source.send("stream.end", null);
  equal(log, [["status", "live"], ["snapshot", { state: "running" }, false], ["event", { id: 8, type: "state" }], ["event", { id: 9, type: "metrics" }], ["end"]]);
  equal([source.readyState, stream.ended], [FakeSource.CLOSED, true]);
}));

test("an event of type error is no failure of the connection", () => withSource(() => {
  const log = [];
  const stream = new JobStream("/events", recorder(log));
  FakeSource.opened[0].send("error", { id: 1, type: "error" });
  equal(log, [["event", { id: 1, type: "error" }]]);
  equal(EVENT_TYPES.includes("error"), true);
  stream.close();
}));

test("a closed connection is opened again after the last event", () => withSource(async () => {
  const log = [];
  const stream = new JobStream("/events", recorder(log));
  stream.wait = 1;
  FakeSource.opened[0].send("log", { id: 4, type: "log" });
  FakeSource.opened[0].fail();
  await until(() => FakeSource.opened.length === 2);
  equal([log.at(-1), FakeSource.opened[1].address], [["status", "reconnecting"], "/events?after=4"]);
  stream.close();
}));

test("a connection that the browser restores is not opened twice", () => withSource(() => {
  const stream = new JobStream("/events", recorder([]));
  FakeSource.opened[0].fail(0);
  equal([FakeSource.opened.length, stream.source === FakeSource.opened[0]], [1, true]);
  stream.close();
}));

test("a hidden tab has no connection", () => withSource(() => {
  const stream = new JobStream("/events", recorder([]), 3);
  try {
    setHidden(true);
    equal(FakeSource.opened[0].readyState, FakeSource.CLOSED);
  } finally {
    setHidden(false);
  }
  equal(FakeSource.opened.map(({ address }) => address), ["/events?after=3", "/events?after=3"]);
  stream.close();
}));

test("an offline browser is reported", () => withSource(() => {
  const log = [];
  const stream = new JobStream("/events", recorder(log));
  dispatchEvent(new Event("offline"));
  equal(log, [["status", "offline"]]);
  stream.close();
  dispatchEvent(new Event("online"));
  equal(FakeSource.opened.length, 1);
}));

test("the jobs' stream resumes after its last number", () => withSource(async () => {
  const log = [];
  const stream = new JobsStream("/v1/jobs", recorder(log));
  stream.wait = 1;
  const [source] = FakeSource.opened;
  equal(source.address, "/v1/jobs");
  source.send("snapshot", null, "10");
  source.send("job", { id: "job_1" }, "11");
  source.send("reload", null, "12");
  equal(log.slice(1), [["snapshot", null, true], ["job", { id: "job_1" }], ["reload"]]);
  source.fail();
  await until(() => FakeSource.opened.length === 2);
  equal(FakeSource.opened[1].address, "/v1/jobs?after=12");
  stream.close();
}));

test("polling stops while the tab is hidden", async () => {
  let ticks = 0;
  const poll = pollWhileVisible(() => { ticks += 1; }, () => 2);
  try {
    await until(() => ticks > 1);
    setHidden(true);
    const before = ticks;
    await poll.now();
    equal(ticks, before);
    setHidden(false);
    await until(() => ticks > before);
  } finally {
    setHidden(false);
    poll.stop();
  }
  const stopped = ticks;
  await poll.now();
  equal(ticks, stopped);
});

test("a tick that takes long does not run twice", async () => {
  let running = 0;
  let most = 0;
  let release;
  const poll = pollWhileVisible(async () => {
    running += 1;
    most = Math.max(most, running);
    await new Promise((resolve) => { release = resolve; });
    running -= 1;
  }, () => 1);
  await until(() => running === 1);
  await poll.now();
  release();
  poll.stop();
  equal(most, 1);
});

test("a wait for visibility ends with the page", async () => {
  await untilVisible(new AbortController().signal);
  try {
    setHidden(true);
    const abort = new AbortController();
    const waiting = untilVisible(abort.signal);
    abort.abort(new Error("left"));
    await rejects(waiting, ({ message }) => message === "left");
    const visible = untilVisible(new AbortController().signal);
    setHidden(false);
    await visible;
  } finally {
    setHidden(false);
  }
});
