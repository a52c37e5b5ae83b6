"""Unit tests of the dashboard's modules: ``unit/*.test.js``, run in Chromium.

The page has the templates of ``index.html``. It imports the modules as the dashboard does, but no
server runs: the files come from the checkout.
"""

import mimetypes
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route

pytestmark = pytest.mark.browser
DASHBOARD = Path(__file__).parents[2] / "dashboard"
UNIT = Path(__file__).parent / "unit"
ORIGIN = "http://unit.test"
TEST_NAME = re.compile(r'^test\("([^"]+)"', re.MULTILINE)
RUN = """async (path) => {
  await import(path);
  const { run } = await import("/unit/testing.js");
  return run();
}"""
CASES = [
    pytest.param(path.name, name, id=f"{path.name.removesuffix('.test.js')}: {name}")
    for path in sorted(UNIT.glob("*.test.js"))
    for name in TEST_NAME.findall(path.read_text())
]
Results = dict[str, dict[str, str | None]]


def serve(route: Route) -> None:
    """Answer a request from the checkout: ``/static`` is the dashboard, ``/unit`` the tests."""
    path = route.request.url.removeprefix(ORIGIN).split("?")[0]
    if path == "/":
        html = (DASHBOARD / "index.html").read_text()
        # The templates are needed, the dashboard itself must not start.
        html = re.sub(r"<script[^>]*main\.js[^>]*></script>", "", html)
        route.fulfill(body=html, content_type="text/html")
        return
    folder = {"static": DASHBOARD, "unit": UNIT}.get(path.split("/")[1])
    file = folder / "/".join(path.split("/")[2:]) if folder else None
    if file is None or not file.is_file():
        route.fulfill(status=404, body="")
        return
    content_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    route.fulfill(body=file.read_bytes(), content_type=content_type)


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    context.route("**/*", serve)
    page = context.new_page()
    yield page
    context.close()


@pytest.fixture(scope="module")
def results() -> Results:
    """Results of the files that were run, by file and test."""
    return {}


@pytest.mark.parametrize(("file", "name"), CASES)
def test_module(page: Page, results: Results, file: str, name: str) -> None:
    if file not in results:
        page.goto(ORIGIN)
        outcomes = page.evaluate(RUN, f"/unit/{file}")
        results[file] = {outcome["name"]: outcome["error"] for outcome in outcomes}
    assert name in results[file]
    assert results[file][name] is None, results[file][name]


def test_all_unit_tests_are_collected() -> None:
    for path in UNIT.glob("*.test.js"):
        num_tests = len(re.findall(r"^\s*test\(", path.read_text(), re.MULTILINE))
        assert num_tests == len(TEST_NAME.findall(path.read_text())), path.name
