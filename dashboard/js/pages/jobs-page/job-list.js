// The jobs of the table, kept up to date by a stream, or by polling without one.

import { get } from "../../fetch.js";
import { setConnection } from "../../components.js";
import { isLive } from "../../job-state.js";
import { JobsStream, pollWhileVisible } from "../../streams.js";
import { matches } from "./filters.js";

const PAGE = 50;
const MAX_PAGE = 200;

export class JobList {
  constructor(filter) {
    this.filter = filter;
    this.jobs = new Map();
    this.cursor = null;
    this.loaded = false;
    this.streamed = new Set(); // ids of jobs that the stream has sent during a refresh
  }

  get sorted() {
    return [...this.jobs.values()].sort((a, b) => (a.created_at === b.created_at ? (a.id < b.id ? 1 : -1) : a.created_at < b.created_at ? 1 : -1));
  }

  get live() {
    return [...this.jobs.values()].filter(isLive);
  }

  async more(signal) {
    const page = await this.request({ limit: PAGE, cursor: this.cursor }, signal);
    this.cursor = page.next_cursor;
    this.loaded = true;
    this.update(page.data, true);
  }

  /** Load the shown jobs again. Others are removed, except those that the stream has sent meanwhile. */
  async refresh(signal) {
    if (!this.loaded) return this.more(signal);
    this.streamed = new Set();
    const page = await this.request({ limit: Math.min(MAX_PAGE, Math.max(PAGE, this.jobs.size)) }, signal);
    this.cursor = page.next_cursor;
    this.jobs = new Map([...this.jobs].filter(([id]) => this.streamed.has(id)));
    this.update(page.data, true);
    return undefined;
  }

  /** Load the queued jobs again: their positions have changed. */
  async refreshQueued(signal) {
    if (![...this.jobs.values()].some((job) => job.state === "queued")) return;
    this.update((await this.request({ state: ["queued"], limit: MAX_PAGE }, signal)).data);
  }

  request(params, signal) {
    return get("/v1/jobs", { ...this.filter, ...params }, signal);
  }

  /** Store the jobs that match the filter. `paged`: they are a page; other jobs may belong to a later page. */
  update(jobs, paged = false) {
    const oldest = this.cursor && !paged ? this.sorted.at(-1)?.created_at : null;
    for (const job of jobs) {
      // The stream may have sent a later version.
      if (job.last_event < this.jobs.get(job.id)?.last_event) continue;
      if (!paged) this.streamed.add(job.id);
      if (!paged && !matches(job, this.filter)) this.jobs.delete(job.id);
      else if (!oldest || this.jobs.has(job.id) || job.created_at >= oldest) this.jobs.set(job.id, job);
    }
  }
}

const LIVE_MS = 5000;
const IDLE_MS = 8000; // to show jobs that were posted elsewhere
const TICK_MS = 10000;

/** `on`: {job(job), refresh(), tick(): update the ages, hasLive()}. */
export function keepUpdated(on) {
  let stream = null;
  let streaming = false;
  let failures = 0;
  const poll = pollWhileVisible(
    async () => (streaming ? on.tick() : on.refresh()),
    () => (streaming ? TICK_MS : on.hasLive() ? LIVE_MS : IDLE_MS),
  );

  function start() {
    stream ??= new JobsStream("/v1/jobs", {
      snapshot(_, first) {
        // Neither the list nor the stream has what changed between the two requests.
        if (first) on.refresh();
      },
      job: on.job,
      reload: () => on.refresh(),
      status(name) {
        streaming = name === "live";
        if (streaming && failures) on.refresh();
        failures = streaming ? 0 : failures + 1;
        // From the second failure on polling replaces the stream and shows the state of the connection.
        if (failures < 2) setConnection(name);
        if (failures === 2 || name === "offline") poll.now();
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
