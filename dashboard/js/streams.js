// Polling and event streams, only while the browser tab is visible. Events are numbered and stored, so a stream resumes
// after the last one.

/** Call `tick` repeatedly, `wait()` ms after the previous call ended. `now()` calls it at once. */
export function pollWhileVisible(tick, wait) {
  let timer = 0;
  let stopped = false;
  let busy = false;

  async function run() {
    clearTimeout(timer);
    if (stopped || busy || document.hidden) return;
    busy = true;
    try {
      await tick();
    } finally {
      busy = false;
      if (!stopped && !document.hidden) timer = setTimeout(run, wait());
    }
  }

  const onChange = () => (document.hidden ? clearTimeout(timer) : run());
  document.addEventListener("visibilitychange", onChange);
  addEventListener("online", onChange);
  timer = setTimeout(run, wait());
  return {
    now: run,
    stop() {
      stopped = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", onChange);
      removeEventListener("online", onChange);
    },
  };
}

/** Resolves when the tab is visible; rejects when `signal` aborts. */
export function untilVisible(signal) {
  if (!document.hidden) return undefined;
  return new Promise((resolve, reject) => {
    const check = () => document.hidden || (document.removeEventListener("visibilitychange", check), resolve());
    document.addEventListener("visibilitychange", check);
    signal.addEventListener("abort", () => reject(signal.reason));
  });
}

/** Types of a job's events, without those that carry points of curves. */
export const EVENT_TYPES = ["state", "phase", "log", "checkpoint", "artifact", "report", "error"];
const FIRST_MS = 1000;
const MAX_MS = 30000;

/** `on`: {snapshot(data, first), status("live" | "reconnecting" | "offline"), check() -> whether to connect again}. */
class Stream {
  constructor(path, on, after = null) {
    this.path = path;
    this.on = on;
    this.last = after;
    this.wait = FIRST_MS;
    this.source = null;
    this.ended = false;
    this.onVisibility = () => (document.hidden ? this.pause() : this.open());
    this.onOffline = () => {
      this.pause();
      this.on.status("offline");
    };
    document.addEventListener("visibilitychange", this.onVisibility);
    addEventListener("online", this.onVisibility);
    addEventListener("offline", this.onOffline);
    this.open();
  }

  open() {
    if (this.ended || this.source || document.hidden) return;
    clearTimeout(this.timer);
    const source = new EventSource(this.last === null ? this.path : `${this.path}?after=${this.last}`);
    this.source = source;
    source.addEventListener("snapshot", (message) => {
      this.wait = FIRST_MS;
      this.on.status("live");
      this.on.snapshot(JSON.parse(message.data), this.last === null);
      this.note(message);
    });
    this.listen(source);
    // A job's events of type "error" are MessageEvents; the browser's own error event is not.
    source.onerror = (event) => event instanceof MessageEvent || this.reconnect();
  }

  note(message) {
    if (message.lastEventId) this.last = message.lastEventId;
  }

  reconnect() {
    if (this.ended) return;
    this.on.status("reconnecting");
    if (this.source?.readyState !== EventSource.CLOSED) return; // the browser reconnects by itself
    this.pause();
    this.timer = setTimeout(async () => {
      if (!document.hidden && (await this.on.check())) this.open();
    }, this.wait);
    this.wait = Math.min(MAX_MS, 2 * this.wait);
  }

  pause() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  close() {
    this.ended = true;
    this.pause();
    document.removeEventListener("visibilitychange", this.onVisibility);
    removeEventListener("online", this.onVisibility);
    removeEventListener("offline", this.onOffline);
  }
}

/** The events of a job after number `after`. Also `on.event(event)`, and `on.end()` when the job has ended. */
export class JobStream extends Stream {
  constructor(path, on, after = 0) {
    super(path, on, after);
  }

  listen(source) {
    for (const type of ["metrics", ...EVENT_TYPES]) source.addEventListener(type, (message) => this.receive(message));
    source.addEventListener("stream.end", () => {
      this.close();
      this.on.end();
    });
  }

  receive(message) {
    if (!(message instanceof MessageEvent) || !message.data) return;
    const event = JSON.parse(message.data);
    if (event.id <= this.last) return; // received before the reconnection
    this.last = event.id;
    this.on.event(event);
  }

  note() {} // the snapshot has no event number
}

/** The project's jobs as they change. Also `on.job(job)`, and `on.reload()` after too many changes. */
export class JobsStream extends Stream {
  listen(source) {
    source.addEventListener("job", (message) => {
      this.on.job(JSON.parse(message.data));
      this.note(message);
    });
    source.addEventListener("reload", (message) => {
      this.on.reload();
      this.note(message);
    });
  }
}
