// The jobs that are shown, and how they are kept fresh with little traffic.
// Every 5 s only what lives is asked for; every fourth time, or when nothing lives, the first page.

import { get, jobPath } from "../../api.js";
import { LIVE, isLive } from "../../state.js";

const PAGE = 50;
const MOST = 200;
const FULL_EVERY = 4;
const LOOKUPS = 5;

export class JobList {
  constructor(filter) {
    this.filter = filter;
    this.jobs = new Map();
    this.cursor = null;
    this.ticks = 0;
  }

  /** Newest first. */
  get sorted() {
    return [...this.jobs.values()].sort((a, b) => (a.created_at === b.created_at ? (a.id < b.id ? 1 : -1) : a.created_at < b.created_at ? 1 : -1));
  }

  get live() {
    return [...this.jobs.values()].filter(isLive);
  }

  async more(signal) {
    const page = await this.ask({ limit: PAGE, cursor: this.cursor }, signal);
    this.cursor = page.next_cursor;
    this.take(page.data, true);
  }

  async refresh(signal) {
    const states = this.filter.state?.filter((state) => LIVE.includes(state)) ?? LIVE;
    const full = this.ticks++ % FULL_EVERY === FULL_EVERY - 1;
    if (full || !this.live.length || !states.length) {
      this.take((await this.ask({ limit: PAGE }, signal)).data);
      return;
    }
    const before = this.live;
    const { data } = await this.ask({ state: states, limit: MOST }, signal);
    const ids = new Set(data.map((job) => job.id));
    const ended = before.filter((job) => !ids.has(job.id)).slice(0, LOOKUPS);
    const found = await Promise.all(ended.map((job) => this.one(job.id, signal)));
    this.take([...data, ...found.filter(Boolean)]);
  }

  async one(id, signal) {
    try {
      return await get(jobPath(id), {}, signal);
    } catch (error) {
      if (error.status !== 404) throw error;
      this.jobs.delete(id); // deleted by someone else
      return null;
    }
  }

  ask(params, signal) {
    return get("/v1/jobs", { ...this.filter, ...params }, signal);
  }

  /** Keep these jobs. What is older than the pages read so far belongs to a later page. */
  take(jobs, paged = false) {
    const oldest = this.cursor && !paged ? this.sorted.at(-1)?.created_at : null;
    for (const job of jobs) {
      if (!oldest || this.jobs.has(job.id) || job.created_at >= oldest) this.jobs.set(job.id, job);
    }
  }
}
