// Cancel jobs, or delete one, after a confirmation; download a student.

import { del, jobPath, post } from "./fetch.js";
import { announce, confirmAction } from "./components.js";
import { el } from "./dom.js";
import { pluralize } from "./format.js";

const MAX_NAMES = 5;

export const canCancel = (job) => ["queued", "starting", "running", "pausing", "paused"].includes(job.state);
export const jobName = (job) => job.resolved?.name ?? job.name ?? job.id;

export const studentDownload = ({ id }) => el("a", { class: "button primary", href: jobPath(id, "/student"), download: "student.safetensors" }, "Download student");

/** The job after the request, or null if the user declined. */
export async function cancelJob(job) {
  const name = jobName(job);
  const text = job.state === "queued"
    ? `“${name}” has not started. A cancelled job cannot be started again.`
    : `“${name}” stops at the next step. Its checkpoints stay.`;
  if (!(await confirmAction({ title: "Cancel this job?", text, yes: "Cancel the job" }))) return null;
  const changed = await post(jobPath(job.id, "/cancel"));
  announce(`${name}: ${changed.state}`);
  return changed;
}

/** [{job, changed | error}], or null if the user declined. */
export async function cancelJobs(jobs, onChange) {
  const more = jobs.length - MAX_NAMES;
  const names = jobs.slice(0, MAX_NAMES).map((job) => `“${jobName(job)}”`).join(", ") + (more > 0 ? ` and ${more} more` : "");
  const count = pluralize(jobs.length, "job");
  const text = `${names}. Running jobs stop at the next step, and their checkpoints stay. Queued jobs cannot be started again.`;
  if (!(await confirmAction({ title: `Cancel ${count}?`, text, yes: `Cancel ${count}` }))) return null;
  const results = [];
  for (const job of jobs) {
    try {
      const changed = await post(jobPath(job.id, "/cancel"));
      results.push({ job, changed });
      onChange(changed);
    } catch (error) {
      results.push({ job, error });
      if (error.status === 401) break;
    }
  }
  return results;
}

/** Whether the job was deleted; false if the user declined. */
export async function deleteJob(job) {
  const name = jobName(job);
  const text = `“${name}” is deleted with its events, curves, checkpoints and artifacts.`;
  if (!(await confirmAction({ title: "Delete this job?", text, yes: "Delete the job" }))) return false;
  await del(jobPath(job.id));
  announce(`${name} has been deleted`);
  return true;
}
