"""Screenshots of every page in both themes, for the docs: ``make screenshots``.

    python -m bench.screenshots [--out docs/images]

The pages show real jobs on handwritten digits.
"""

import argparse
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from bench.browser import (
    TEACHER,
    chromium,
    create_digits,
    login_context,
    post_job,
    running_stack,
)
from stillhouse.client import Client

SIZE = {"width": 1280, "height": 860}
COLORS = 128
"""Colors of a picture: a page has few, so the reduction is invisible and saves bytes."""
EPOCHS = 12


def run_jobs(client: Client) -> dict[str, str]:
    """Run the jobs that the pages show and return the ids in the pages' addresses."""
    dataset = create_digits(client)
    big = {"architecture": TEACHER}
    teacher_job = post_job(client, dataset, "teacher", EPOCHS, student=big, method="supervised")
    client.wait(teacher_job)
    source = f"job:{teacher_job['id']}"
    teacher = client.post("/v1/models", {"name": "teacher", "source": source})
    teachers = {"teachers": [{"model": teacher["id"]}]}
    accept = {"max_top1_drop": 5, "max_size_bytes": 400_000}
    exports = ["safetensors", "onnx", "onnx_int8"]
    posted = [
        post_job(client, dataset, "by kd", EPOCHS, **teachers, accept=accept, exports=exports),
        post_job(client, dataset, "by dkd", EPOCHS, **teachers, method="dkd"),
        post_job(client, dataset, "wider, by dist", EPOCHS, **teachers, method="dist",
            student={"derive": "teacher", "convolution": "depthwise_separable", "width": 0.5}),
        post_job(client, dataset, "kd and attention", EPOCHS, **teachers,
            method=[{"type": "kd"}, {"type": "attention", "weight": 100}]),
    ]  # fmt: skip
    ended = [client.wait(posted_job) for posted_job in posted]
    post_job(client, dataset, "still training", 400, **teachers)
    post_job(client, dataset, "waiting", 10, **teachers, priority=-10)
    ids = ",".join(posted_job["id"] for posted_job in ended)
    return {"job": ended[0]["id"], "jobs": ids, "dataset": dataset, "teacher": teacher["id"]}


def page_addresses(ids: dict[str, str]) -> dict[str, str]:
    """Return the address of each page by name."""
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
    """Open a page, wait until it is complete, and save a small picture of it."""
    page.goto(address)
    page.locator("main h1").first.wait_for()
    page.wait_for_load_state("load")
    page.wait_for_timeout(2500)  # for charts and images: the page's streams never end
    page.screenshot(path=path)
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    print(f"{path} {path.stat().st_size:,} bytes")


def main() -> None:
    """Run the jobs and take the screenshots."""
    parser = argparse.ArgumentParser(prog="python -m bench.screenshots", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with running_stack() as (stack, client), chromium() as browser:
        ids = run_jobs(client)
        for theme in ("light", "dark"):
            context = login_context(browser, stack, viewport=SIZE, color_scheme=theme)
            for name, address in page_addresses(ids).items():
                page = context.new_page()
                take_screenshot(page, address, args.out / f"{name}-{theme}.png")
                page.close()
            context.close()


if __name__ == "__main__":
    main()
