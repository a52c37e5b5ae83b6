// All that the page knows of its job: what has happened is asked for, what lives is streamed.

import { get, jobPath, isIgnorable } from "../../api.js";
import { AXES, Curves } from "../../charts/series.js";
import { isLive, TERMINAL } from "../../job-state.js";
import { setConnection } from "../../layout.js";
import { EVENT_TYPES, JobStream, untilVisible } from "../../streams.js";

const LOOK_MS = 400;
const AGAIN_MS = 5000;
const PAGE = 200;
const POINTS = 1000;
const TRIES = 3;

export class Feed {
  constructor(id, axis, on) {
    this.id = id;
    this.axis = axis;
    this.on = on;
    this.job = null;
    this.report = null;
    this.stream = null;
    this.curves = new Curves();
    this.runs = [];
    this.trouble = null;
    this.heard = 0; // number of the last event
    this.all = 0; // points that there are, whether they are kept or not
    this.gone = new AbortController();
  }

  get signal() {
    return this.gone.signal;
  }

  get over() {
    return TERMINAL.includes(this.job?.state);
  }

  marks(axis) {
    return this.runs.filter((run) => run.resumed_from_step)
      .map((run) => ({ x: this.curves.after(run.resumed_from_step, axis), label: `Run ${run.number}` })).filter(({ x }) => x !== null);
  }

  ask(part, params) {
    return get(jobPath(this.id, part), params, this.signal);
  }

  async begin() {
    try {
      await untilVisible(this.signal);
      if (!(await this.look()) || this.signal.aborted) return;
      // The stream goes on after the last event of now: what comes while curves are read is told again, and none is lost.
      const last = this.over ? Infinity : (this.job.last_event ?? 0);
      this.trouble = null;
      const known = last > 0 && (await this.recall(this.over && !(this.job.run > 1) ? [this.axis] : Object.keys(AXES)));
      this.on.news();
      await this.read(known ? last : 0);
      if (this.over) setConnection("idle");
      else this.follow(known ? last : 0);
    } catch (error) {
      if (isIgnorable(error)) return;
      setConnection(error.status === 0 ? "offline" : "idle");
      this.trouble = error;
      this.on.news();
      this.again = setTimeout(() => this.begin(), AGAIN_MS);
    }
  }

  /** The server's curves over these axes. The job may go on meanwhile: what does not fit together is asked for again;
   * false if it never did. */
  async recall(axes) {
    const values = ({ data }) => JSON.stringify(Object.values(data).map(({ value }) => value));
    for (let tries = 0; tries < TRIES; tries += 1) {
      const answers = await Promise.all(axes.map((x) => this.ask("/metrics", { x, max_points: POINTS })));
      if (answers.some((answer) => values(answer) !== values(answers[0]))) continue;
      axes.forEach((axis, at) => this.curves.load(axis, answers[at].data));
      this.all = Object.values(answers[0].num_points).reduce((sum, each) => sum + each, 0);
      return true;
    }
    return false;
  }

  async read(last) {
    for (let more = true; more && this.heard < last;) {
      await untilVisible(this.signal);
      const { data, next_cursor: next } = await this.ask("/events", { type: EVENT_TYPES, after: this.heard, limit: PAGE });
      for (const event of data) if (event.id <= last) this.note(event);
      more = next;
    }
  }

  follow(after) {
    if (this.signal.aborted) return;
    this.stream = new JobStream(jobPath(this.id, "/events"), {
      snapshot: (job) => this.take(job),
      event: (event) => this.hear(event),
      status: (name) => setConnection(name === "live" && !isLive(this.job) ? "idle" : name),
      check: () => this.look(),
      end: () => {
        setConnection("idle");
        this.look();
      },
    }, after);
  }

  hear(event) {
    if (event.type === "metrics") {
      const { progress, eta_s, step, values } = event.data;
      // Told again is not one more.
      this.all += Object.keys(values).filter((key) => !(this.curves.get(key)?.step.at(-1) >= step)).length;
      this.curves.add(event.data);
      // A replay tells of earlier steps than the snapshot does.
      if (progress && !this.over && progress.step >= (this.job.progress?.step ?? 0)) this.job = { ...this.job, progress, eta_s: eta_s ?? this.job.eta_s };
    } else this.note(event);
    if (["state", "phase", "report", "error"].includes(event.type) && !this.over) this.lookSoon();
    this.on.news();
  }

  note(event) {
    if (event.id <= this.heard) return;
    this.heard = event.id;
    this.on.event(event);
  }

  take(job) {
    if (job.last_event < this.job?.last_event) return; // an answer that was overtaken
    this.job = job;
    this.on.job(job);
    if (job.state === "succeeded" && job.kind !== "warm" && !this.report) this.readReport();
    if (job.run > 1 && job.run !== this.runs.at(-1)?.number) this.readRuns().catch(() => {}); // the curves do without
  }

  async readRuns() {
    this.runs = (await this.ask("/runs")).data;
    this.on.news();
  }

  async readReport() {
    try {
      this.report = await this.ask("/report");
      this.on.report(this.report);
    } catch (error) {
      if (!isIgnorable(error)) setTimeout(() => this.signal.aborted || this.report || this.readReport(), AGAIN_MS);
    }
  }

  async look() {
    try {
      this.take(await this.ask());
      return true;
    } catch (error) {
      if (isIgnorable(error)) return false;
      if (!this.job) {
        this.on.failed(error);
        if (error.status === 0) this.again = setTimeout(() => this.begin(), AGAIN_MS);
      }
      return error.status !== 404 && this.job !== null;
    }
  }

  lookSoon() {
    clearTimeout(this.looking);
    this.looking = setTimeout(() => this.look(), LOOK_MS);
  }

  async turn(axis) {
    this.axis = axis;
    return this.curves.has(axis) || this.recall([axis]); // a job that lives has them all
  }

  close() {
    this.gone.abort();
    this.stream?.close();
    clearTimeout(this.looking);
    clearTimeout(this.again);
  }
}
