// The jobs that pages show: a list kept up to date by a stream or by polling, and one job with its events and curves.

import { AXES, Curves } from "./charts/series.js";
import { setConnection, showOutcome } from "./components.js";
import { get, isIgnorable, jobPath } from "./fetch.js";
import { isLive, TERMINAL } from "./job-state.js";
import { EVENT_TYPES, JobsStream, JobStream, pollWhileVisible, untilVisible } from "./streams.js";

const JOBS_PAGE = 50;
const MAX_PAGE = 200;

/** The jobs of a table. `matches(job, filter)`: whether it shows a job. */
export class JobList {
  constructor(filter, matches) {
    this.filter = filter;
    this.matches = matches;
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
    const page = await this.request({ limit: JOBS_PAGE, cursor: this.cursor }, signal);
    this.cursor = page.next_cursor;
    this.loaded = true;
    this.update(page.data, true);
  }

  /** Load the shown jobs again. Others are removed, except those that the stream has sent meanwhile. */
  async refresh(signal) {
    if (!this.loaded) return this.more(signal);
    this.streamed = new Set();
    const page = await this.request({ limit: Math.min(MAX_PAGE, Math.max(JOBS_PAGE, this.jobs.size)) }, signal);
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
      if (!paged && !this.matches(job, this.filter)) this.jobs.delete(job.id);
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

const REFRESH_MS = 400;
const RETRY_MS = 5000;
const PAGE = 200;
const MAX_POINTS = 1000;
const MAX_TRIES = 3;

// Past events and curves are requested, later ones arrive by a stream.
/** `on`: {job(job), report(report), event(event), change(): new points or runs, error(error)}. */
export class JobStore {
  constructor(id, axis, on) {
    this.id = id;
    this.axis = axis;
    this.on = on;
    this.job = null;
    this.report = null;
    this.stream = null;
    this.curves = new Curves();
    this.runs = [];
    this.error = null; // why the curves cannot be read, or null
    this.lastEvent = 0;
    this.numPoints = 0; // before thinning
    this.abort = new AbortController();
  }

  get signal() {
    return this.abort.signal;
  }

  get ended() {
    return TERMINAL.includes(this.job?.state);
  }

  /** Where resumed runs begin on an axis: [{x, label}]. */
  marks(axis) {
    return this.runs.filter((run) => run.resumed_from_step)
      .map((run) => ({ x: this.curves.firstAfter(run.resumed_from_step, axis), label: `Run ${run.number}` })).filter(({ x }) => x !== null);
  }

  request(part, params) {
    return get(jobPath(this.id, part), params, this.signal);
  }

  async load() {
    try {
      await untilVisible(this.signal);
      if (!(await this.refresh()) || this.signal.aborted) return;
      // The stream starts after this last event: points that arrive meanwhile come twice, but none is lost.
      const last = this.ended ? Infinity : (this.job.last_event ?? 0);
      this.error = null;
      const loaded = last > 0 && (await this.loadCurves(this.ended && !(this.job.run > 1) ? [this.axis] : Object.keys(AXES)));
      this.on.change();
      await this.readEvents(loaded ? last : 0);
      if (this.ended) setConnection("idle");
      else this.follow(loaded ? last : 0);
    } catch (error) {
      if (isIgnorable(error)) return;
      showOutcome(error);
      this.error = error;
      this.on.change();
      this.retryTimer = setTimeout(() => this.load(), RETRY_MS);
    }
  }

  /** Load the curves over these axes. If points were added between the requests, try again; false if they never agree. */
  async loadCurves(axes) {
    const values = ({ data }) => JSON.stringify(Object.values(data).map(({ value }) => value));
    for (let tries = 0; tries < MAX_TRIES; tries += 1) {
      const responses = await Promise.all(axes.map((x) => this.request("/metrics", { x, max_points: MAX_POINTS })));
      if (responses.some((response) => values(response) !== values(responses[0]))) continue;
      axes.forEach((axis, index) => this.curves.load(axis, responses[index].data));
      this.numPoints = Object.values(responses[0].num_points).reduce((sum, num) => sum + num, 0);
      return true;
    }
    return false;
  }

  async readEvents(last) {
    for (let more = true; more && this.lastEvent < last;) {
      await untilVisible(this.signal);
      const { data, next_cursor: next } = await this.request("/events", { type: EVENT_TYPES, after: this.lastEvent, limit: PAGE });
      for (const event of data) if (event.id <= last) this.note(event);
      more = next;
    }
  }

  follow(after) {
    if (this.signal.aborted) return;
    this.stream = new JobStream(jobPath(this.id, "/events"), {
      snapshot: (job) => this.setJob(job),
      event: (event) => this.receive(event),
      status: (name) => setConnection(name === "live" && !isLive(this.job) ? "idle" : name),
      check: () => this.refresh(),
      end: () => {
        setConnection("idle");
        this.refresh();
      },
    }, after);
  }

  receive(event) {
    if (event.type === "metrics") {
      const { progress, eta_s, step, values } = event.data;
      // A repeated point is not counted again.
      this.numPoints += Object.keys(values).filter((key) => !(this.curves.get(key)?.step.at(-1) >= step)).length;
      this.curves.add(event.data);
      // A replayed event has an earlier step than the snapshot.
      if (progress && !this.ended && progress.step >= (this.job.progress?.step ?? 0)) this.job = { ...this.job, progress, eta_s: eta_s ?? this.job.eta_s };
    } else this.note(event);
    if (["state", "phase", "report", "error"].includes(event.type) && !this.ended) this.refreshSoon();
    this.on.change();
  }

  note(event) {
    if (event.id <= this.lastEvent) return;
    this.lastEvent = event.id;
    this.on.event(event);
  }

  setJob(job) {
    if (job.last_event < this.job?.last_event) return; // out of date
    this.job = job;
    this.on.job(job);
    if (job.state === "succeeded" && job.kind !== "warm" && !this.report) this.readReport();
    if (job.run > 1 && job.run !== this.runs.at(-1)?.number) this.readRuns().catch(() => {}); // curves work without marks
  }

  async readRuns() {
    this.runs = (await this.request("/runs")).data;
    this.on.change();
  }

  async readReport() {
    try {
      this.report = await this.request("/report");
      this.on.report(this.report);
    } catch (error) {
      if (!isIgnorable(error)) setTimeout(() => this.signal.aborted || this.report || this.readReport(), RETRY_MS);
    }
  }

  /** Load the job; false if that fails. */
  async refresh() {
    try {
      this.setJob(await this.request());
      return true;
    } catch (error) {
      if (isIgnorable(error)) return false;
      if (!this.job) {
        this.on.error(error);
        if (error.status === 0) this.retryTimer = setTimeout(() => this.load(), RETRY_MS);
      }
      return error.status !== 404 && this.job !== null;
    }
  }

  refreshSoon() {
    clearTimeout(this.refreshTimer);
    // A hidden tab gets the job with the next snapshot.
    this.refreshTimer = setTimeout(() => document.hidden || this.refresh(), REFRESH_MS);
  }

  /** Use another axis; missing columns are loaded. */
  async setAxis(axis) {
    this.axis = axis;
    return this.curves.has(axis) || this.loadCurves([axis]);
  }

  close() {
    this.abort.abort();
    this.stream?.close();
    clearTimeout(this.refreshTimer);
    clearTimeout(this.retryTimer);
  }
}
