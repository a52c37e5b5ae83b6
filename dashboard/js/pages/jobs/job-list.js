// The jobs that are shown, and how they are kept fresh: by one stream of the project's jobs, or by asking again.

import { get } from "../../api.js";
import { isLive } from "../../job-state.js";
import { setConnection } from "../../layout.js";
import { JobsStream, pollWhileVisible } from "../../streams.js";
import { fits } from "./filters.js";

const PAGE = 50;
const MOST = 200;

export class JobList {
  constructor(filter) {
    this.filter = filter;
    this.jobs = new Map();
    this.cursor = null;
    this.read = false;
    this.told = new Set();
  }

  get sorted() {
    return [...this.jobs.values()].sort((a, b) => (a.created_at === b.created_at ? (a.id < b.id ? 1 : -1) : a.created_at < b.created_at ? 1 : -1));
  }

  get live() {
    return [...this.jobs.values()].filter(isLive);
  }

  async more(signal) {
    const page = await this.ask({ limit: PAGE, cursor: this.cursor }, signal);
    this.cursor = page.next_cursor;
    this.read = true;
    this.take(page.data, true);
  }

  /** As many as are shown, anew: what is not among them is gone, unless the stream has told of it meanwhile. */
  async refresh(signal) {
    if (!this.read) return this.more(signal);
    this.told = new Set();
    const page = await this.ask({ limit: Math.min(MOST, Math.max(PAGE, this.jobs.size)) }, signal);
    this.cursor = page.next_cursor;
    this.jobs = new Map([...this.jobs].filter(([id]) => this.told.has(id)));
    this.take(page.data, true);
    return undefined;
  }

  /** Ask again for those that wait: what waits before them has changed. */
  async waiting(signal) {
    if (![...this.jobs.values()].some((job) => job.state === "queued")) return;
    this.take((await this.ask({ state: ["queued"], limit: MOST }, signal)).data);
  }

  ask(params, signal) {
    return get("/v1/jobs", { ...this.filter, ...params }, signal);
  }

  /** Keep these jobs where they fit. What is older than the pages read so far belongs to a later page. */
  take(jobs, paged = false) {
    const oldest = this.cursor && !paged ? this.sorted.at(-1)?.created_at : null;
    for (const job of jobs) {
      // An answer may be older than what the stream has told since.
      if (job.last_event < this.jobs.get(job.id)?.last_event) continue;
      if (!paged) this.told.add(job.id);
      if (!paged && !fits(job, this.filter)) this.jobs.delete(job.id);
      else if (!oldest || this.jobs.has(job.id) || job.created_at >= oldest) this.jobs.set(job.id, job);
    }
  }
}

const LIVE_MS = 5000;
const IDLE_MS = 8000; // a job that was posted elsewhere appears by itself
const AGES_MS = 10000;

export function keepFresh(on) {
  let stream = null;
  let streaming = false;
  let breaks = 0;
  const poll = pollWhileVisible(
    async () => (streaming ? on.ages() : on.again()),
    () => (streaming ? AGES_MS : on.lively() ? LIVE_MS : IDLE_MS),
  );

  function start() {
    stream ??= new JobsStream("/v1/jobs", {
      snapshot(_, first) {
        // What changed between the list and the stream's beginning was told by neither.
        if (first) on.again();
      },
      job: on.job,
      reload: () => on.again(),
      status(name) {
        streaming = name === "live";
        if (streaming && breaks) on.again(); // what was said of the break goes, too
        breaks = streaming ? 0 : breaks + 1;
        // Once may be an accident. From then on looking takes its place, and says itself how fresh the page is.
        if (breaks < 2) setConnection(name);
        if (breaks === 2 || name === "offline") poll.now();
      },
      check: async () => true,
    });
  }

  return {
    start,
    now: poll.now,
    get streaming() {
      return streaming;
    },
    stop() {
      stream?.close();
      poll.stop();
    },
  };
}
