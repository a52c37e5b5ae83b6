// Nothing is asked for while nobody looks: polling, and streams of events, one EventSource each. The logs behind them
// are durable and numbered: whatever breaks, reading goes on after the last number.

/** Call `tick` again and again, `wait()` ms after the last one ended; only while the tab is seen. */
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

  const changed = () => (document.hidden ? clearTimeout(timer) : run());
  document.addEventListener("visibilitychange", changed);
  addEventListener("online", changed);
  timer = setTimeout(run, wait());
  return {
    now: run,
    stop() {
      stopped = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", changed);
      removeEventListener("online", changed);
    },
  };
}

export function untilVisible(signal) {
  if (!document.hidden) return undefined;
  return new Promise((resolve, reject) => {
    const look = () => document.hidden || (document.removeEventListener("visibilitychange", look), resolve());
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", () => reject(signal.reason));
  });
}

/** What happens to a job, but for the points of its curves. */
export const EVENT_TYPES = ["state", "phase", "log", "checkpoint", "artifact", "report", "error"];
const FIRST_MS = 1000;
const MOST_MS = 30000;

/** `on`: snapshot(data, first), status("live" | "reconnecting" | "offline"), check() -> whether to try again. */
class Stream {
  constructor(path, on, after = null) {
    this.path = path;
    this.on = on;
    this.last = after;
    this.wait = FIRST_MS;
    this.source = null;
    this.ended = false;
    this.watch = () => (document.hidden ? this.pause() : this.open());
    this.away = () => {
      this.pause();
      this.on.status("offline");
    };
    document.addEventListener("visibilitychange", this.watch);
    addEventListener("online", this.watch);
    addEventListener("offline", this.away);
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
    // "error" is also the name of one of a job's events: only the browser's own has no data.
    source.onerror = (event) => event instanceof MessageEvent || this.broken();
  }

  note(message) {
    if (message.lastEventId) this.last = message.lastEventId;
  }

  broken() {
    if (this.ended) return;
    this.on.status("reconnecting");
    if (this.source?.readyState !== EventSource.CLOSED) return; // the browser tries by itself
    this.pause();
    this.timer = setTimeout(async () => {
      if (!document.hidden && (await this.on.check())) this.open();
    }, this.wait);
    this.wait = Math.min(MOST_MS, 2 * this.wait);
  }

  pause() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  close() {
    this.ended = true;
    this.pause();
    document.removeEventListener("visibilitychange", this.watch);
    removeEventListener("online", this.watch);
    removeEventListener("offline", this.away);
  }
}

/** The events of one job, from number `after` on. `on` also: event(event), end(). */
export class JobStream extends Stream {
  constructor(path, on, after = 0) {
    super(path, on, after);
  }

  listen(source) {
    for (const type of ["metrics", ...EVENT_TYPES]) source.addEventListener(type, (message) => this.take(message));
    source.addEventListener("stream.end", () => {
      this.close();
      this.on.end();
    });
  }

  take(message) {
    if (!(message instanceof MessageEvent) || !message.data) return;
    const event = JSON.parse(message.data);
    if (event.id <= this.last) return; // seen before a reconnection
    this.last = event.id;
    this.on.event(event);
  }

  note() {} // the snapshot is no event of the log
}

/** The jobs of the project as they change. `on` also: job(job), reload() when too many have changed to be told. */
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
