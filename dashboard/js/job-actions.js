// Cancel jobs, or delete one, after asking.

import { del, jobPath, post } from "./api.js";
import { confirmAction } from "./components.js";
import { announce } from "./layout.js";

const NAMED = 5;

export const canCancel = (job) => ["queued", "starting", "running", "pausing", "paused"].includes(job.state);
export const jobName = (job) => job.resolved?.name ?? job.name ?? job.id;

export async function cancelJob(job) {
  const name = jobName(job);
  const text = job.state === "queued"
    ? `“${name}” has not started. It cannot be started again after this.`
    : `“${name}” stops at the next step. What it has learned so far stays in its checkpoints.`;
  if (!(await confirmAction({ title: "Cancel this job?", text, yes: "Cancel the job" }))) return null;
  const changed = await post(jobPath(job.id, "/cancel"));
  announce(`${name}: ${changed.state}`);
  return changed;
}

export async function cancelJobs(jobs, onEach) {
  const more = jobs.length - NAMED;
  const names = jobs.slice(0, NAMED).map((job) => `“${jobName(job)}”`).join(", ") + (more > 0 ? ` and ${more} more` : "");
  const count = jobs.length === 1 ? "1 job" : `${jobs.length} jobs`;
  const text = `${names}. What runs stops at the next step and keeps its checkpoints; what waits cannot be started again.`;
  if (!(await confirmAction({ title: `Cancel ${count}?`, text, yes: `Cancel ${count}` }))) return null;
  const found = [];
  for (const job of jobs) {
    try {
      const changed = await post(jobPath(job.id, "/cancel"));
      found.push({ job, changed });
      onEach(changed);
    } catch (error) {
      found.push({ job, error });
      if (error.status === 401) break;
    }
  }
  return found;
}

export async function deleteJob(job) {
  const name = jobName(job);
  const text = `“${name}” goes with its events, curves, checkpoints and artifacts.`;
  if (!(await confirmAction({ title: "Delete this job?", text, yes: "Delete the job" }))) return false;
  await del(jobPath(job.id));
  announce(`${name} has been deleted`);
  return true;
}
