// Cancel a job, after asking.

import { jobPath, post } from "./api.js";
import { ask } from "./parts.js";
import { announce } from "./shell.js";

export const canCancel = (job) => ["queued", "starting", "running", "pausing", "paused"].includes(job.state);

/** The job as it is afterwards, or null if the reader thought better of it. */
export async function cancel(job) {
  const name = job.resolved?.name ?? job.name ?? job.id;
  const text = job.state === "queued"
    ? `“${name}” has not started. It cannot be started again after this.`
    : `“${name}” stops at the next step. What it has learned so far stays in its checkpoints.`;
  if (!(await ask({ title: "Cancel this job?", text, yes: "Cancel the job" }))) return null;
  const changed = await post(jobPath(job.id, "/cancel"));
  announce(`${name}: ${changed.state}`);
  return changed;
}
