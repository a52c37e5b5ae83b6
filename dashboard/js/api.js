// The public API, and nothing else. The browser sends the login's cookie by itself.

/** What went wrong, in words for people. `status` 0 means that no answer came. */
export class ApiError extends Error {
  constructor(status, code, message, problem = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.problem = problem;
  }
}

export const UNAUTHORIZED = "stillhouse:unauthorized";

async function call(method, path, { params, body, signal } = {}) {
  const query = params ? `?${search(params)}` : "";
  const init = { method, signal, headers: { Accept: "application/json" } };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(path + query, init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "offline", "The server cannot be reached.");
  }
  if (answer.status === 204) return null;
  const json = await answer.json().catch(() => null);
  if (answer.ok && json !== null) return json;
  if (answer.status === 401 && path.startsWith("/v1/")) document.dispatchEvent(new Event(UNAUTHORIZED));
  const problem = json ?? {};
  throw new ApiError(answer.status, problem.code ?? "unexpected", problem.detail ?? `The server answered ${answer.status}.`, problem);
}

function search(params) {
  const out = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    for (const each of [value].flat()) {
      if (each !== null && each !== undefined && each !== "") out.append(name, each);
    }
  }
  return out;
}

export const get = (path, params, signal) => call("GET", path, { params, signal });
export const post = (path, body) => call("POST", path, { body });
export const del = (path) => call("DELETE", path);
export const jobPath = (id, part = "") => `/v1/jobs/${encodeURIComponent(id)}${part}`;

/** Every entry of a list, up to `most`. */
export async function all(path, signal, most = 200) {
  return (await get(path, { limit: most }, signal)).data;
}
