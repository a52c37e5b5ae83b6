"""``python -m kdcore predict REQUEST.json [--supervised]``: one JSON object on standard output.

``{"predictions": [...]}`` and exit code 0; or ``{"error": sentence}`` and 20, where images or
network need more than the limits allow. Anything else is a crash. The command reads the request as
plain JSON: it was written by :class:`kdcore.protocol.requests.PredictRequest`, and loading that
would take longer than the prediction.
"""

import argparse
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kdcore.runtime import limits

_DONE, _USER_ERROR = 0, 20
_NO_MEMORY = ("bad_alloc", "allocate", "memory")
"""In the words of onnxruntime, which has no exception of its own for it."""


def main(arguments: list[str]) -> int:
    """Answer one request and return the exit code, as in kdcore.protocol.requests.Exit."""
    options = _parse(arguments)
    if options.supervised:
        limits.exit_with_supervisor()
    request: Any = json.loads(
        options.request.read_text(encoding="utf-8"),
        object_hook=lambda fields: SimpleNamespace(**fields),
    )
    limits.apply_limits(request)
    try:
        # Here, because the limits must hold before a library is loaded.
        from kdcore.serving.predictor import predict

        return _print_json({"predictions": predict(request)}, _DONE)
    except limits.CpuTimeExceededError:
        return _print_json(
            {"error": "the images take more processor time than they may"}, _USER_ERROR
        )
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or _is_memory_error(error)):
            raise
        return _print_json({"error": "the network takes more memory than it may"}, _USER_ERROR)


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
    sys.stdout.write(json.dumps(result))
    return code
