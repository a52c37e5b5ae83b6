// Names of models and data sets by id. Jobs carry ids; the pages show names.

import { get } from "./fetch.js";
import { readable } from "./format.js";
import { href } from "./router.js";

const requests = new Map();

/** The model or data set, or null if it was deleted. It is requested once per tab. */
export function findAsset(kind, id) {
  const path = `/v1/${kind}/${encodeURIComponent(id)}`;
  if (!requests.has(path)) {
    const request = get(path).catch((error) => {
      if (error.status === 404) return null;
      requests.delete(path); // the next call tries again
      throw error;
    });
    requests.set(path, request);
  }
  return requests.get(path);
}

/** Like `findAsset`, but null also if the request fails. */
export const findAssetIfPossible = (kind, id) => findAsset(kind, id).catch(() => null);

export const catalogHref = (tab, { id, name }) => href("/catalog", { tab, q: name, open: id });

export const rememberAsset = (kind, asset) => requests.set(`/v1/${kind}/${asset.id}`, Promise.resolve(asset));

export async function teacherName(job) {
  if (!job.teachers?.length) return null;
  const models = await Promise.all(job.teachers.map(({ model }) => findAssetIfPossible("models", model)));
  const names = models.map((model, index) => (model ? shortName(model.architecture) : job.teachers[index].model));
  return names.length > 2 ? `${names[0]} + ${names.length - 1} more` : names.join(" + ");
}

/** "cifar/resnet20" -> "resnet20". */
export const shortName = (architecture) => (architecture ?? "").split("/").at(-1);

export function studentName(job) {
  const { architecture, derive, convolution, width } = job.resolved.student;
  const kind = readable(convolution ?? "grouped");
  return derive ? `${shortName(architecture)}, ${kind}${width === 1 ? "" : ` × ${width}`}` : shortName(architecture);
}

export function methodName(job) {
  if (job.kind === "evaluate") return "evaluation";
  if (job.kind === "warm") return "teacher cache";
  const terms = [job.resolved?.method ?? job.method ?? []].flat();
  return terms.map((term) => readable(term.type ?? term)).join(" + ") || "–";
}
