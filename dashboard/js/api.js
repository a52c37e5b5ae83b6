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

/** Nobody waits for the answer any more, or the login comes: not worth a word. */
export const isIgnorable = (error) => error.name === "AbortError" || error.status === 401;

export const UNAUTHORIZED = "stillhouse:unauthorized";

export async function call(method, path, { params, body, signal, headers } = {}) {
  const query = params ? `?${search(params)}` : "";
  const init = { method, signal, headers: { Accept: "application/json", ...headers } };
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
  if (answer.status === 204) return { data: null };
  const data = await answer.json().catch(() => null);
  if (answer.ok && data !== null) return { data, etag: answer.headers.get("ETag") };
  if (answer.status === 401 && path.startsWith("/v1/")) document.dispatchEvent(new Event(UNAUTHORIZED));
  const problem = data ?? {};
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

export const get = async (path, params, signal) => (await call("GET", path, { params, signal })).data;
export const post = async (path, body, more) => (await call("POST", path, { ...more, body })).data;
export const del = (path) => call("DELETE", path);
/** Change it; with an `etag`, only if it is still as it was seen (412 otherwise). */
export const patch = async (path, body, etag) => (await call("PATCH", path, { body, headers: etag && { "If-Match": etag } })).data;
export const jobPath = (id, part = "") => `/v1/jobs/${encodeURIComponent(id)}${part}`;

export async function firstPage(path, signal, most = 200) {
  return (await get(path, { limit: most }, signal)).data;
}

export async function allPages(path, params, signal, onPage = () => {}) {
  const found = [];
  let cursor = null;
  do {
    const page = await get(path, { ...params, limit: 200, cursor }, signal);
    found.push(...page.data);
    cursor = page.next_cursor;
    onPage(found);
  } while (cursor);
  return found;
}
