// Requests to the public API. The browser sends the login's cookie with every request.

/** A failed request. `status` is 0 without a response; `problem` is the problem document. */
export class ApiError extends Error {
  constructor(status, code, message, problem = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.problem = problem;
  }
}

/** Whether an error needs no notice: the request was aborted, or the login form appears. */
export const isIgnorable = (error) => error.name === "AbortError" || error.status === 401;

export const UNAUTHORIZED = "stillhouse:unauthorized";

export async function call(method, path, { params, body, signal, headers } = {}) {
  const query = params ? `?${search(params)}` : "";
  const init = { method, signal, headers: { Accept: "application/json", ...headers } };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers["Content-Type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(path + query, init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "offline", "The server cannot be reached.");
  }
  if (response.status === 204) return { data: null };
  const data = await response.json().catch(() => null);
  if (response.ok && data !== null) return { data, etag: response.headers.get("ETag") };
  if (response.status === 401 && path.startsWith("/v1/")) document.dispatchEvent(new Event(UNAUTHORIZED));
  const problem = data ?? {};
  throw new ApiError(response.status, problem.code ?? "unexpected", problem.detail ?? `The server returned status ${response.status}.`, problem);
}

function search(params) {
  const query = new URLSearchParams();
  for (const [name, values] of Object.entries(params)) {
    for (const value of [values].flat()) {
      if (value !== null && value !== undefined && value !== "") query.append(name, value);
    }
  }
  return query;
}

export const get = async (path, params, signal) => (await call("GET", path, { params, signal })).data;
export const post = async (path, body, options) => (await call("POST", path, { ...options, body })).data;
export const del = (path) => call("DELETE", path);
/** Update a resource; with an `etag` only if it has not changed (otherwise 412). */
export const patch = async (path, body, etag) => (await call("PATCH", path, { body, headers: etag && { "If-Match": etag } })).data;
export const jobPath = (id, part = "") => `/v1/jobs/${encodeURIComponent(id)}${part}`;

export async function firstPage(path, signal, limit = 200) {
  return (await get(path, { limit }, signal)).data;
}

/** The items of all pages. `onPage(items)` gets those read so far. */
export async function allPages(path, params, signal, onPage = () => {}) {
  const items = [];
  let cursor = null;
  do {
    const page = await get(path, { ...params, limit: 200, cursor }, signal);
    items.push(...page.data);
    cursor = page.next_cursor;
    onPage(items);
  } while (cursor);
  return items;
}
