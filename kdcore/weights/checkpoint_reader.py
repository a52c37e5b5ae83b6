"""A stranger's checkpoint file to named tensors, whichever way it was saved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from kdcore.runtime.errors import UserFault, item
from kdcore.weights import pickle_scan

_MAX_TENSORS = 100_000
_WRAPPERS = ("state_dict", "model_state_dict", "model", "student", "network", "net")
_MAX_DEPTH = 4
_KINDS = "a safetensors file, or a state dict saved with torch.save"


def read(path: Path) -> dict[str, Tensor]:
    """The file's tensors by name; wrappers such as ``{'model': …}`` are taken off.

    Raises UserFault ``checkpoint_invalid``. Values are not looked at: most are still on disk.
    """
    reader = _reader(path)
    try:
        found = reader(path)
    except (UserFault, MemoryError):
        raise
    except Exception as error:
        # Loaders raise nearly anything on hostile bytes: RuntimeError, KeyError, struct.error, …
        raise UserFault("checkpoint_invalid", _explain(error), hint=f"upload {_KINDS}") from error
    return _tensors(_unwrapped(found))


def _reader(path: Path) -> Callable[[Path], Any]:
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise UserFault(
            "checkpoint_invalid", f"the upload cannot be read: {error.strerror}"
        ) from error
    if not start:
        raise UserFault("checkpoint_invalid", f"the upload is empty; {_KINDS} was expected")
    if start.startswith(b"PK\x03\x04"):
        return _read_zip
    if start[8:] == b"{":
        return _read_safetensors
    # The last: a safetensors header of 128 bytes starts with the same byte as a pickle.
    if start[:1] == b"\x80":
        return _read_legacy
    raise UserFault("checkpoint_invalid", f"the upload is neither {_KINDS}")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt", device="cpu") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _read_zip(path: Path) -> Any:
    pickle_scan.scan_zip(path)
    return torch.load(path, weights_only=True, map_location="cpu", mmap=True)


def _read_legacy(path: Path) -> Any:
    pickle_scan.scan_legacy(path)
    return torch.load(path, weights_only=True, map_location="cpu")


def _explain(error: Exception) -> str:
    first = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    return f"the checkpoint is cut off or damaged and cannot be opened: {first}"


def _unwrapped(found: Any) -> Any:
    for _ in range(_MAX_DEPTH):
        if not isinstance(found, dict):
            break
        inner = next((found[key] for key in _WRAPPERS if isinstance(found.get(key), dict)), None)
        if inner is None:
            break
        found = inner
    return found


def _tensors(found: Any) -> dict[str, Tensor]:
    if not isinstance(found, dict) or not found:
        held = "nothing" if isinstance(found, dict) else f"a {type(found).__name__}"
        raise UserFault(
            "checkpoint_invalid", f"the checkpoint holds {held}; a state dict was expected"
        )
    if len(found) > _MAX_TENSORS:
        raise UserFault("checkpoint_invalid", f"the checkpoint has more than {_MAX_TENSORS} names")
    strange = [
        item(str(name), f"is of type {type(value).__name__}, not a tensor")
        for name, value in found.items()
        if not (isinstance(name, str) and isinstance(value, Tensor))
    ]
    if strange:
        raise UserFault(
            "checkpoint_invalid",
            "the checkpoint is no state dict: not all of its values are tensors with names; "
            f"known wrappers are {', '.join(_WRAPPERS)}",
            items=strange,
        )
    return found
