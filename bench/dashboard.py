"""First paint, script size, updates, requests while hidden, and memory of the dashboard.

python -m bench.dashboard [--jobs 10000] [--minutes 20]
"""

import argparse
import gzip
import statistics
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from bench.browser import chromium, copy_job, create_digits, login_context, post_job, running_stack
from stillhouse.local import Stack

FILES = Path(__file__).parents[1] / "dashboard"
REPEATS = 7
# The first row is painted two frames after its link entered the document.
RECORD_PAINT = """
new MutationObserver((_, observer) => {
  if (!document.querySelector("tbody a.name")) return;
  observer.disconnect();
  const now = () => { window.__painted = performance.now(); };
  requestAnimationFrame(() => requestAnimationFrame(now));
}).observe(document, { childList: true, subtree: true });
"""
# The page's content security policy forbids Playwright's wait_for_function.
WAIT_FOR_PAINT = """() => new Promise((resolve) => {
  const look = () => window.__painted ? resolve(window.__painted) : setTimeout(look, 20);
  look();
})"""
OVERRIDE_HIDDEN = """
let hidden = false;
Object.defineProperty(document, "hidden", { get: () => hidden });
window.__hide = (now) => { hidden = now; document.dispatchEvent(new Event("visibilitychange")); };
"""
# Changes that the page makes in one batch are one update.
COUNT_UPDATES = """() => {
  window.__updates = 0;
  const main = document.getElementById("main");
  const options = { childList: true, subtree: true, characterData: true, attributes: true };
  new MutationObserver(() => { window.__updates += 1; }).observe(main, options);
}"""


def script_bytes() -> dict[str, int]:
    """Return gzipped bytes of all scripts and of the vendored ones, and the number of files."""
    sizes = {
        path.relative_to(FILES).as_posix(): len(gzip.compress(path.read_bytes(), 9))
        for path in FILES.rglob("*.js")
    }
    vendor = sum(size for name, size in sizes.items() if name.startswith("vendor/"))
    return {"all": sum(sizes.values()), "vendored": vendor, "files": len(sizes)}


def first_paint(browser: Browser, stack: Stack) -> list[float]:
    """Return sorted milliseconds from navigation to the table's first row, with a cold cache."""
    times_ms = []
    for _ in range(REPEATS):
        context = login_context(browser, stack)
        context.add_init_script(RECORD_PAINT)
        page = context.new_page()
        page.goto("/")
        times_ms.append(float(page.evaluate(WAIT_FOR_PAINT)))
        context.close()
    return sorted(times_ms)


def updates_per_s(page: Page, seconds: float = 20) -> float:
    """Return how often per second a live page changes what it shows."""
    page.evaluate(COUNT_UPDATES)
    page.wait_for_timeout(seconds * 1000)
    return float(page.evaluate("window.__updates")) / seconds


def requests_while_hidden(page: Page, seconds: float = 30) -> int:
    """Return the number of requests of a hidden tab."""
    urls: list[str] = []
    page.evaluate("window.__hide(true)")
    page.wait_for_timeout(1000)
    page.on("request", lambda request: urls.append(request.url))
    page.wait_for_timeout(seconds * 1000)
    page.evaluate("window.__hide(false)")
    return len(urls)


def heap_mb(page: Page) -> float:
    """Return the heap of the page's scripts after a garbage collection."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    used: Any = session.send("Runtime.getHeapUsage")
    session.detach()
    return float(used["usedSize"]) / 2**20


def heap_by_minute(page: Page, minutes: float) -> list[float]:
    """Return the heap once a minute while the page shows a training job."""
    heaps_mb = [heap_mb(page)]
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        page.wait_for_timeout(60_000)
        heaps_mb.append(heap_mb(page))
    return heaps_mb


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.dashboard", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=20)
    args = parser.parse_args()
    sizes = script_bytes()
    print(f"JavaScript gzipped: {sizes['all']:,} bytes in {sizes['files']} files, ", end="")
    print(f"{sizes['vendored']:,} of them vendored")
    with running_stack() as (stack, client), chromium() as browser:
        dataset = create_digits(client)
        finished = client.wait(post_job(client, dataset, "first", 1))
        copy_job(stack, client, finished, args.jobs)
        paint = first_paint(browser, stack)
        median = statistics.median(paint)
        print(f"first table paint: median {median:.0f} ms ({paint[0]:.0f} to {paint[-1]:.0f})")
        live = post_job(client, dataset, "long", 10_000)
        context = login_context(browser, stack)
        context.add_init_script(OVERRIDE_HIDDEN)
        page = context.new_page()
        page.goto(f"/#/jobs/{live['id']}")
        page.locator("figure canvas").first.wait_for(timeout=60_000)
        print(f"updates of a live page: {updates_per_s(page):.2f} /s")
        print(f"requests while hidden for 30 s: {requests_while_hidden(page)}")
        heap = heap_by_minute(page, args.minutes)
        print(f"heap over {args.minutes:g} minutes, MB: {', '.join(f'{mb:.1f}' for mb in heap)}")
        client.post(f"/v1/jobs/{live['id']}/cancel")


if __name__ == "__main__":
    main()
