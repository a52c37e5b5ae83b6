"""Static files of the dashboard, compressed once per file version."""

import functools
import gzip
import os
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope
from typing_extensions import override

_TEXT = frozenset({".js", ".css", ".svg", ".html"})
_CACHE_SIZE = 500
"""Compressed files in memory: several times the number of the dashboard's files."""


class CompressedFiles(StaticFiles):
    """Static files, gzipped for clients that accept the encoding."""

    @override
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if not isinstance(response, FileResponse) or response.status_code != 200:
            return response
        file = Path(response.path)
        if file.suffix not in _TEXT:
            return response
        headers = {
            # Weak, because the tag is the same for both encodings (RFC 9110, 8.8.1).
            "ETag": f"W/{response.headers['etag']}",
            "Last-Modified": response.headers["last-modified"],
            "Vary": "Accept-Encoding",
        }
        if "gzip" not in Headers(scope=scope).get("accept-encoding", ""):
            response.headers.update(headers)
            return response
        body = _gzip_file(file, os.stat(file).st_mtime_ns)
        headers["Content-Encoding"] = "gzip"
        return Response(body, headers=headers, media_type=response.media_type)


@functools.lru_cache(_CACHE_SIZE)
def _gzip_file(file: Path, _mtime_ns: int) -> bytes:
    return gzip.compress(file.read_bytes(), 9, mtime=0)
