// A job's events by one stream, open only while the tab is seen. The log is durable and numbered:
// whatever breaks, reading goes on after the last number.

const TYPES = ["state", "phase", "metrics", "log", "checkpoint", "artifact", "report", "error"];
const FIRST_MS = 1000;
const MOST_MS = 30000;

/** `on`: snapshot(job), event(event), end(), status("live" | "reconnecting"), check() -> whether to go on. */
export class JobStream {
  constructor(path, on) {
    this.path = path;
    this.on = on;
    this.last = 0;
    this.wait = FIRST_MS;
    this.source = null;
    this.ended = false;
    this.watch = () => (document.hidden ? this.pause() : this.open());
    document.addEventListener("visibilitychange", this.watch);
    this.open();
  }

  open() {
    if (this.ended || this.source || document.hidden) return;
    const source = new EventSource(`${this.path}?after=${this.last}`);
    this.source = source;
    source.addEventListener("snapshot", (message) => {
      this.wait = FIRST_MS;
      this.on.status("live");
      this.on.snapshot(JSON.parse(message.data));
    });
    for (const type of TYPES) source.addEventListener(type, (message) => this.take(message));
    source.addEventListener("stream.end", () => {
      this.close();
      this.on.end();
    });
    // "error" is also the name of one of our events: only the browser's own has no data.
    source.onerror = (event) => event instanceof MessageEvent || this.broken();
  }

  take(message) {
    if (!(message instanceof MessageEvent) || !message.data) return;
    const event = JSON.parse(message.data);
    if (event.id <= this.last) return; // seen before a reconnection
    this.last = event.id;
    this.on.event(event);
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
  }
}
