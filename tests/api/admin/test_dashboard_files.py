"""The dashboard's files are compressed, complete and cached by browsers."""

import gzip
from pathlib import Path

import httpx

FILE = "/static/js/format.js"


def test_scripts_are_compressed_on_request(api_url: str, root: Path) -> None:
    text = (root / "dashboard/js/format.js").read_bytes()
    with httpx.stream("GET", api_url + FILE, headers={"Accept-Encoding": "gzip"}) as compressed:
        sent = b"".join(compressed.iter_raw())
    assert compressed.headers["content-encoding"] == "gzip"
    assert compressed.headers["content-type"].startswith("text/javascript")
    assert gzip.decompress(sent) == text
    assert len(sent) < len(text) / 2
    plain = httpx.get(api_url + FILE, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == text
    for response in (compressed, plain):
        assert response.headers["vary"] == "Accept-Encoding"
        assert response.headers["cache-control"] == "no-cache"


def test_unchanged_file_is_a_304(api_url: str) -> None:
    first = httpx.get(api_url + FILE)
    again = httpx.get(api_url + FILE, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_unknown_file_is_a_404(api_url: str) -> None:
    for path in ("/static/js/nothing.js", "/static/../pyproject.toml", "/static/%2e%2e/README.md"):
        assert httpx.get(api_url + path).status_code == 404
