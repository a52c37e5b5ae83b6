// A minimal test library: `test` registers a test, `run` runs all of a file, the rest asserts.

const tests = [];

export const test = (name, body) => tests.push({ name, body });

/** [{name, error}] of all registered tests; `error` is null if the test passed. */
export async function run() {
  const results = [];
  for (const { name, body } of tests) {
    try {
      await body();
      results.push({ name, error: null });
    } catch (error) {
      results.push({ name, error: error.stack ?? String(error) });
    }
  }
  return results;
}

const show = (value) => JSON.stringify(value, (_, item) => (item === undefined ? "undefined" : item));

/** Fails unless both values are equal as JSON. */
export function equal(actual, expected) {
  if (show(actual) !== show(expected)) throw new Error(`${show(actual)} is not ${show(expected)}`);
}

export async function rejects(promise, check = () => true) {
  try {
    await promise;
  } catch (error) {
    if (check(error)) return;
    throw new Error(`unexpected error: ${error}`, { cause: error });
  }
  throw new Error("the promise was not rejected");
}

/** Wait until `condition()` holds. */
export async function until(condition, ms = 60000) {
  const end = performance.now() + ms;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`not within ${ms} ms: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** An empty element in the page, removed after `body(element)`. */
export async function inPage(body) {
  const element = document.createElement("div");
  document.body.append(element);
  try {
    return await body(element);
  } finally {
    element.remove();
  }
}

/** Replace a property of an object while `body` runs. */
export async function replacing(object, name, value, body) {
  const before = object[name];
  object[name] = value;
  try {
    return await body();
  } finally {
    object[name] = before;
  }
}
