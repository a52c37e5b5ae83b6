"""``python -m kdcore predict REQUEST.json [--supervised]``: one JSON object on standard output.

The object is ``{"predictions": [...]}`` with exit code 0, or ``{"error": message}`` with exit code
20 if the limits were exceeded. The exit code is 23 if the output cannot be written because the disk
is full. Any other exit code is a crash. The request is a
:class:`kdcore.protocol.requests.PredictRequest`, read as plain JSON, because importing pydantic
would take longer than the prediction.
"""

import argparse
import errno
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kdcore.runtime import limits

_DONE, _USER_ERROR, _NO_SPACE = 0, 20, 23
_NO_MEMORY = ("bad_alloc", "allocate", "memory")
"""Words in onnxruntime's messages about memory, for which it has no exception type."""


def main(arguments: list[str]) -> int:
    """Run one request and return an exit code of :class:`kdcore.protocol.requests.ExitCode`."""
    options = _parse(arguments)
    if options.supervised:
        limits.exit_with_supervisor()
    request: Any = json.loads(
        options.request.read_text(encoding="utf-8"),
        object_hook=lambda fields: SimpleNamespace(**fields),
    )
    limits.apply_limits(request)
    try:
        # Imported here, because limits must be set before libraries are loaded.
        from kdcore.serving.predictor import predict

        return _print_json({"predictions": predict(request)}, _DONE)
    except limits.CpuTimeExceededError:
        return _print_json(
            {"error": "the prediction exceeds its limit of processor time"}, _USER_ERROR
        )
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or _is_memory_error(error)):
            raise
        return _print_json({"error": "the prediction exceeds its memory limit"}, _USER_ERROR)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m kdcore predict", description=__doc__)
    parser.add_argument("request", type=Path, help="a request as JSON")
    parser.add_argument(
        "--supervised", action="store_true", help="end when the other end of stdin closes"
    )
    return parser.parse_args(arguments)


def _is_memory_error(error: Exception) -> bool:
    return any(word in str(error).lower() for word in _NO_MEMORY)


def _print_json(result: dict[str, Any], code: int) -> int:
    limits.ignore_cpu_limit()
    # Without a buffer, which the interpreter would write again when it exits.
    output = json.dumps(result).encode()
    try:
        while output:
            output = output[os.write(sys.stdout.fileno(), output) :]
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _NO_SPACE
    return code
