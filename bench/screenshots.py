"""Pictures of every page in both themes, for the docs: ``make screenshots``.

    python -m bench.screenshots [--out docs/images]

Real jobs on handwritten digits; nothing in the pictures is made up.
"""

import argparse
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from bench.browser import TEACHER, chromium, digits, job, logged_in, product
from stillhouse.client import Client

SIZE = {"width": 1280, "height": 860}
COLORS = 128
"""A page has few: fewer bytes, and nobody sees it."""
EPOCHS = 12


def jobs(client: Client) -> dict[str, str]:
    """What a first afternoon leaves behind; the ids that the pages need."""
    dataset = digits(client)
    big = {"architecture": TEACHER}
    learned = job(client, dataset, "teacher", EPOCHS, student=big, method="supervised")
    learned = client.wait(learned)
    teacher = client.post("/v1/models", {"name": "teacher", "source": f"job:{learned['id']}"})
    taught = {"teachers": [{"model": teacher["id"]}]}
    accept = {"max_top1_drop": 5, "max_size_bytes": 400_000}
    exports = ["safetensors", "onnx", "onnx_int8"]
    posted = [
        job(client, dataset, "by kd", EPOCHS, **taught, accept=accept, exports=exports),
        job(client, dataset, "by dkd", EPOCHS, **taught, method="dkd"),
        job(client, dataset, "wider, by dist", EPOCHS, **taught, method="dist",
            student={"derive": "teacher", "convolution": "depthwise_separable", "width": 0.5}),
        job(client, dataset, "kd and attention", EPOCHS, **taught,
            method=[{"type": "kd"}, {"type": "attention", "weight": 100}]),
    ]  # fmt: skip
    ended = [client.wait(posted_job) for posted_job in posted]
    job(client, dataset, "still learning", 400, **taught)
    job(client, dataset, "waits", 10, **taught, priority=-10)
    ids = ",".join(posted_job["id"] for posted_job in ended)
    return {"job": ended[0]["id"], "jobs": ids, "dataset": dataset, "teacher": teacher["id"]}


def pages(ids: dict[str, str]) -> dict[str, str]:
    """Each page's address."""
    return {
        "jobs": "/#/jobs",
        "new": f"/#/new?from={ids['job']}",
        "job": f"/#/jobs/{ids['job']}?tab=report",
        "compare": f"/#/compare?jobs={ids['jobs']}",
        "frontier": f"/#/frontier?dataset={ids['dataset']}&x=size_bytes",
        "student": f"/#/students/{ids['job']}",
        "catalog": f"/#/catalog?tab=datasets&open={ids['dataset']}",
        "system": "/#/system",
    }


def take_screenshot(page: Page, address: str, path: Path) -> None:
    """Open a page, wait until it is whole, and keep its picture small."""
    page.goto(address)
    page.locator("main h1").first.wait_for()
    page.wait_for_load_state("load")
    page.wait_for_timeout(2500)  # streams never end: charts and images have had their time
    page.screenshot(path=path)
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    print(f"{path} {path.stat().st_size:,} bytes")


def main() -> None:
    """Teach, open, take."""
    parser = argparse.ArgumentParser(prog="python -m bench.screenshots", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with product() as (stack, client), chromium() as browser:
        ids = jobs(client)
        for theme in ("light", "dark"):
            context = logged_in(browser, stack, viewport=SIZE, color_scheme=theme)
            for name, address in pages(ids).items():
                page = context.new_page()
                take_screenshot(page, address, args.out / f"{name}-{theme}.png")
                page.close()
            context.close()


if __name__ == "__main__":
    main()
