"""The dashboard's files go out small, whole, and not twice."""

import gzip
from pathlib import Path

import httpx

FILE = "/static/js/format.js"


def test_scripts_are_compressed_for_whoever_takes_it(api_url: str, root: Path) -> None:
    text = (root / "dashboard/js/format.js").read_bytes()
    with httpx.stream("GET", api_url + FILE, headers={"Accept-Encoding": "gzip"}) as answer:
        sent = b"".join(answer.iter_raw())
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["content-type"].startswith("text/javascript")
    assert gzip.decompress(sent) == text
    assert len(sent) < len(text) / 2
    plain = httpx.get(api_url + FILE, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == text
    for each in (answer, plain):
        assert each.headers["vary"] == "Accept-Encoding"
        assert each.headers["cache-control"] == "no-cache"


def test_a_file_that_the_browser_has_is_not_sent_again(api_url: str) -> None:
    first = httpx.get(api_url + FILE)
    again = httpx.get(api_url + FILE, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_what_is_not_there_is_not_there(api_url: str) -> None:
    for path in ("/static/js/nothing.js", "/static/../pyproject.toml", "/static/%2e%2e/README.md"):
        assert httpx.get(api_url + path).status_code == 404
