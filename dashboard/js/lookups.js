// Models and data sets by id: a job carries ids, people want names. Each is asked for once; null is one that was deleted.

import { get } from "./api.js";

const known = new Map();

export function findAsset(kind, id) {
  const path = `/v1/${kind}/${encodeURIComponent(id)}`;
  if (!known.has(path)) {
    const asked = get(path).catch((error) => {
      if (error.status === 404) return null;
      known.delete(path); // it may be there next time
      throw error;
    });
    known.set(path, asked);
  }
  return known.get(path);
}

/** Where an id does as well. */
export const findAssetIfPossible = (kind, id) => findAsset(kind, id).catch(() => null);

export const rememberAsset = (kind, asset) => known.set(`/v1/${kind}/${asset.id}`, Promise.resolve(asset));

export async function teacherName(job) {
  if (!job.teachers?.length) return null;
  const models = await Promise.all(job.teachers.map(({ model }) => findAssetIfPossible("models", model)));
  const names = models.map((model, at) => (model ? shortName(model.architecture) : job.teachers[at].model));
  return names.length > 2 ? `${names[0]} + ${names.length - 1} more` : names.join(" + ");
}

/** "cifar/resnet20" -> "resnet20": the family is in the title. */
export const shortName = (architecture) => (architecture ?? "").split("/").at(-1);

export function studentName(job) {
  const { architecture, derive, convolution, width } = job.resolved.student;
  const kind = (convolution ?? "grouped").replaceAll("_", " ");
  return derive ? `${shortName(architecture)}, ${kind}${width === 1 ? "" : ` × ${width}`}` : shortName(architecture);
}

export function methodName(job) {
  if (job.kind === "evaluate") return "evaluation";
  if (job.kind === "warm") return "asking the teacher";
  const list = [job.resolved?.method ?? job.method ?? []].flat();
  return list.map((each) => (each.type ?? each).replaceAll("_", " ")).join(" + ") || "–";
}
