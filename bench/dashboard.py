"""Is the dashboard light? First paint, script size, updates, silence while hidden, memory.

python -m bench.dashboard [--jobs 10000] [--minutes 20]
"""

import argparse
import gzip
import statistics
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

from bench.browser import chromium, digits, job, logged_in, many, product
from stillhouse.local import Stack

FILES = Path(__file__).parents[1] / "dashboard"
REPEATS = 7
# When the first row's link is on the screen: two frames after it entered the document.
PAINTED = """
new MutationObserver((_, observer) => {
  if (!document.querySelector("tbody a.name")) return;
  observer.disconnect();
  const now = () => { window.__painted = performance.now(); };
  requestAnimationFrame(() => requestAnimationFrame(now));
}).observe(document, { childList: true, subtree: true });
"""
# The page's policy forbids what Playwright's wait_for_function does.
WAITED = """() => new Promise((resolve) => {
  const look = () => window.__painted ? resolve(window.__painted) : setTimeout(look, 20);
  look();
})"""
HIDING = """
let hidden = false;
Object.defineProperty(document, "hidden", { get: () => hidden });
window.__hide = (now) => { hidden = now; document.dispatchEvent(new Event("visibilitychange")); };
"""
# A batch of changes that the page makes in one go is one update.
COUNTING = """() => {
  window.__updates = 0;
  const main = document.getElementById("main");
  const options = { childList: true, subtree: true, characterData: true, attributes: true };
  new MutationObserver(() => { window.__updates += 1; }).observe(main, options);
}"""


def script_bytes() -> dict[str, int]:
    """Gzipped, file by file, as they are sent."""
    sizes = {
        path.relative_to(FILES).as_posix(): len(gzip.compress(path.read_bytes(), 9))
        for path in FILES.rglob("*.js")
    }
    vendor = sum(size for name, size in sizes.items() if name.startswith("vendor/"))
    return {"all": sum(sizes.values()), "vendored": vendor, "files": len(sizes)}


def first_paint(browser: Browser, stack: Stack) -> list[float]:
    """Milliseconds from the navigation's start to the table's first row, with a cold cache."""
    times_ms = []
    for _ in range(REPEATS):
        context = logged_in(browser, stack)
        context.add_init_script(PAINTED)
        page = context.new_page()
        page.goto("/")
        times_ms.append(float(page.evaluate(WAITED)))
        context.close()
    return sorted(times_ms)


def updates_per_s(page: Page, seconds: float = 20) -> float:
    """How often a live page changes what is seen."""
    page.evaluate(COUNTING)
    page.wait_for_timeout(seconds * 1000)
    return float(page.evaluate("window.__updates")) / seconds


def requests_while_hidden(page: Page, seconds: float = 30) -> int:
    """Requests of a tab that nobody sees."""
    seen: list[str] = []
    page.evaluate("window.__hide(true)")
    page.wait_for_timeout(1000)
    page.on("request", lambda request: seen.append(request.url))
    page.wait_for_timeout(seconds * 1000)
    page.evaluate("window.__hide(false)")
    return len(seen)


def heap_mb(page: Page) -> float:
    """What the page's scripts hold, after a collection."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    used: Any = session.send("Runtime.getHeapUsage")
    session.detach()
    return float(used["usedSize"]) / 2**20


def memory(page: Page, minutes: float) -> list[float]:
    """The heap once a minute while a job trains before it."""
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
    with product() as (stack, client), chromium() as browser:
        dataset = digits(client)
        done = client.wait(job(client, dataset, "first", 1))
        many(stack, client, done, args.jobs)
        paint = first_paint(browser, stack)
        middle = statistics.median(paint)
        print(f"first table paint: median {middle:.0f} ms ({paint[0]:.0f} to {paint[-1]:.0f})")
        live = job(client, dataset, "long", 10_000)
        context = logged_in(browser, stack)
        context.add_init_script(HIDING)
        page = context.new_page()
        page.goto(f"/#/jobs/{live['id']}")
        page.locator("figure canvas").first.wait_for(timeout=60_000)
        print(f"updates of a live page: {updates_per_s(page):.2f} /s")
        print(f"requests while hidden for 30 s: {requests_while_hidden(page)}")
        heap = memory(page, args.minutes)
        print(f"heap over {args.minutes:g} minutes, MB: {', '.join(f'{mb:.1f}' for mb in heap)}")
        client.post(f"/v1/jobs/{live['id']}/cancel")


if __name__ == "__main__":
    main()
