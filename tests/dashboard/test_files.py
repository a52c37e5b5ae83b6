"""The dashboard's files: other people's are as they were published, ours keep the rules."""

import gzip
import hashlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "dashboard"
VENDOR = DASHBOARD / "vendor"
LISTED = re.compile(r"^\| `([^`]+)` \| `([0-9a-f]{64})` \|$", re.MULTILINE)
MOST_BYTES = 150_000
OURS = sorted((DASHBOARD / "js").rglob("*.js"))
FORBIDDEN = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser"
    r"|\beval\(|new Function|localStorage|sessionStorage|setAttribute\(\s*[\"']style|https?://(?!www\.w3\.org/2000/svg)"
)


def test_vendored_files_are_those_that_are_listed() -> None:
    listed = dict(LISTED.findall((VENDOR / "README.md").read_text()))
    assert listed
    for name, digest in listed.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name
    there = {path.relative_to(VENDOR).as_posix() for path in VENDOR.rglob("*") if path.is_file()}
    assert there - {"README.md"} == {name for name in listed if not name.startswith("../")}


def test_all_scripts_together_are_small() -> None:
    size = sum(len(gzip.compress(path.read_bytes(), 9)) for path in DASHBOARD.rglob("*.js"))
    assert size <= MOST_BYTES


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_scripts_make_elements_and_keep_no_secrets(path: Path) -> None:
    assert not FORBIDDEN.findall(path.read_text())
    assert len(path.read_text().splitlines()) <= 400


def test_the_page_has_nothing_inline() -> None:
    text = (DASHBOARD / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", text)
    for address in re.findall(r'(?:src|href)="([^"]+)"', text):
        # What begins with #/ is a page of our own, and /login is one too.
        if not address.startswith(("#/", "/login")):
            assert (DASHBOARD / address.removeprefix("/static/")).is_file(), address


def test_colors_are_in_one_file() -> None:
    for path in sorted((DASHBOARD / "css").glob("*.css")):
        if path.name != "tokens.css":
            assert not re.search(r"#[0-9a-f]{3,8}\b", path.read_text()), path.name
