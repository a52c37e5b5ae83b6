"""The files of the dashboard: vendored ones are unchanged, ours follow the rules."""

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest

from api.app import create_app

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "dashboard"
VENDOR = DASHBOARD / "vendor"
LISTED_FILE = re.compile(r"^\| `([^`]+)` \| `([0-9a-f]{64})` \|$", re.MULTILINE)
MAX_BYTES = 150_000
NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+")
FIELD = re.compile(rf"(?<![\w-]){NAME.pattern}(?![\w-])")
QUERY_PARAMETERS = {"max_x", "min_y"}
"""Parameters of the pages' own addresses."""
SCRIPTS = sorted((DASHBOARD / "js").rglob("*.js"))
FORBIDDEN = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser"
    r"|\beval\(|new Function|localStorage|sessionStorage|setAttribute\(\s*[\"']style|https?://(?!www\.w3\.org/2000/svg)"
)


def test_vendored_files_match_their_digests() -> None:
    listed = dict(LISTED_FILE.findall((VENDOR / "README.md").read_text()))
    assert listed
    for name, digest in listed.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name
    existing = {path.relative_to(VENDOR).as_posix() for path in VENDOR.rglob("*") if path.is_file()}
    assert existing - {"README.md"} == {name for name in listed if not name.startswith("../")}


def test_scripts_are_below_the_size_limit() -> None:
    size = sum(len(gzip.compress(path.read_bytes(), 9)) for path in DASHBOARD.rglob("*.js"))
    assert size <= MAX_BYTES


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_script_uses_no_markup_and_no_storage(path: Path) -> None:
    assert not FORBIDDEN.findall(path.read_text())
    assert len(path.read_text().splitlines()) <= 400


def test_page_has_no_inline_script_or_style() -> None:
    text = (DASHBOARD / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", text)
    for address in re.findall(r'(?:src|href)="([^"]+)"', text):
        # Addresses of pages are no files.
        if not address.startswith(("#/", "/login")):
            assert (DASHBOARD / address.removeprefix("/static/")).is_file(), address


def test_colors_are_in_one_style_sheet() -> None:
    for path in sorted((DASHBOARD / "css").glob("*.css")):
        if path.name != "tokens.css":
            assert not re.search(r"#[0-9a-f]{3,8}\b", path.read_text()), path.name


def test_scripts_use_names_of_the_api() -> None:
    """A renamed field of the API fails here; in a page it would only be missing."""
    rooms = ("api", "kdcore", "store")
    sources = [path.read_text() for room in rooms for path in (ROOT / room).rglob("*.py")]
    known = set(NAME.findall(" ".join([json.dumps(create_app().openapi()), *sources])))
    unknown = {
        path.name: sorted(names)
        for path in SCRIPTS
        if (names := set(FIELD.findall(path.read_text())) - known - QUERY_PARAMETERS)
    }
    assert not unknown
