"""Read an uploaded checkpoint, which may be hostile, to named tensors.

Formats: safetensors, ``torch.save`` in its zip format, and in the format before torch 1.6.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from kdcore.runtime.errors import UserError, error_detail
from kdcore.weights import pickle_scan

_MAX_TENSORS = 100_000
_WRAPPERS = ("state_dict", "model_state_dict", "model", "student", "network", "net")
_MAX_DEPTH = 4
_EXPECTED_FORMATS = "a safetensors file or a state dict saved with torch.save"


def read_checkpoint(path: Path, *, scan: bool = True) -> dict[str, Tensor]:
    """Read the tensors of the file at ``path`` by name, without wrappers such as ``{"model": …}``.

    ``scan`` looks for code before the file is loaded, for a clear message; without it
    ``torch.load(weights_only=True)`` refuses the same files. Values are not checked: most of them
    are still on disk. Raises :class:`UserError` ``checkpoint_invalid``.
    """
    load, scan_pickles = _loader(path)
    try:
        if scan:
            scan_pickles(path)
        contents = load(path)
    except (UserError, MemoryError):
        raise
    except Exception as error:
        # Hostile bytes make loaders raise RuntimeError, KeyError, struct.error and more.
        raise UserError(
            "checkpoint_invalid", _explain(error), hint=f"upload {_EXPECTED_FORMATS}"
        ) from error
    return _check_tensors(_unwrap(contents))


def _loader(path: Path) -> tuple[Callable[[Path], Any], Callable[[Path], None]]:
    """How to load the file, and how to scan it for code first, by its first bytes."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise UserError(
            "checkpoint_invalid", f"the upload cannot be read: {error.strerror}"
        ) from error
    if not start:
        raise UserError("checkpoint_invalid", f"the upload is empty; upload {_EXPECTED_FORMATS}")
    if start.startswith(b"PK\x03\x04"):
        return _load_zip, pickle_scan.scan_zip
    if start[8:] == b"{":
        return _load_safetensors, lambda _: None
    # Checked last, because a safetensors header of 128 bytes starts with the same byte.
    if start[:1] == b"\x80":
        return _load_legacy, pickle_scan.scan_legacy
    raise UserError(
        "checkpoint_invalid",
        "the upload is neither a safetensors file nor a state dict saved with torch.save",
    )


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt", device="cpu") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not iterable


def _load_zip(path: Path) -> Any:
    return torch.load(path, weights_only=True, map_location="cpu", mmap=True)


def _load_legacy(path: Path) -> Any:
    return torch.load(path, weights_only=True, map_location="cpu")


def _explain(error: Exception) -> str:
    first = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    return f"the checkpoint is cut off or damaged and cannot be opened: {first}"


def _unwrap(contents: Any) -> Any:
    for _ in range(_MAX_DEPTH):
        if not isinstance(contents, dict):
            break
        inner = next(
            (contents[key] for key in _WRAPPERS if isinstance(contents.get(key), dict)), None
        )
        if inner is None:
            break
        contents = inner
    return contents


def _check_tensors(contents: Any) -> dict[str, Tensor]:
    if not isinstance(contents, dict) or not contents:
        content = "nothing" if isinstance(contents, dict) else f"a {type(contents).__name__}"
        raise UserError(
            "checkpoint_invalid", f"the checkpoint contains {content}; save a state dict instead"
        )
    if len(contents) > _MAX_TENSORS:
        raise UserError("checkpoint_invalid", f"the checkpoint has more than {_MAX_TENSORS} names")
    invalid = [
        error_detail(str(name), f"is of type {type(value).__name__}, not a tensor")
        for name, value in contents.items()
        if not (isinstance(name, str) and isinstance(value, Tensor))
    ]
    if invalid:
        raise UserError(
            "checkpoint_invalid",
            "the checkpoint is not a state dict: not all of its values are tensors with names; "
            f"accepted wrappers are {', '.join(_WRAPPERS)}",
            items=invalid,
        )
    return contents
