"""Scan a checkpoint's pickles for imports, by their opcodes, without running them.

The scan is for a clear message. ``torch.load(weights_only=True)`` in a process with limits is what
keeps code from running: a scanner never parses hostile bytes exactly like the loader.

``torch.serialization.get_unsafe_globals_in_checkpoint`` (torch 2.14) does not replace this scan: it
raises for the format before torch 1.6, for plain pickles and for pickle protocol 4, reads only the
archive's ``data.pkl`` and no other pickle, and accepts sparse, quantized and meta tensors, which
are refused here.
"""

import pickletools
import zipfile
from pathlib import Path
from typing import IO

from kdcore.runtime.errors import UserError, error_detail

_MAX_PICKLE = 64 << 20
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PICKLES = 5
"""Pickles of the old format: magic number, version, system, object, keys of the storages."""
_STORAGES = (
    *("BFloat16", "Bool", "Byte", "Char", "Double", "Float"),
    *("Half", "Int", "Long", "Short", "Untyped"),
)
_DTYPES = (
    *("bfloat16", "bool", "uint8", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)
_SAFE = {
    "collections.OrderedDict",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch.Size",
    "torch.device",
    "torch.storage.TypedStorage",
    "torch.storage.UntypedStorage",
    *(f"torch.{name}Storage" for name in _STORAGES),
    *(f"torch.{name}" for name in _DTYPES),
}
_STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"}
_SILENT = {"MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"}
_STATE_DICT_HINT = (
    "save the weights alone with torch.save(model.state_dict(), path), or as safetensors"
)


def scan_zip(path: Path) -> None:
    """Check every pickle of a torch archive. Raises :class:`UserError` ``checkpoint_invalid``."""
    with zipfile.ZipFile(path) as archive:
        names = [info.orig_filename for info in archive.infolist()]
        if len(set(names)) != len(names):
            raise _checkpoint_error("the checkpoint has two members of the same name")
        if any("/code/" in f"/{name}" for name in names):
            raise _checkpoint_error("the checkpoint is a TorchScript program, not a state dict")
        # torch does not compress; compressed or overlapping members could unpack to any size.
        packed = any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist())
        if packed or sum(i.file_size for i in archive.infolist()) > path.stat().st_size:
            raise _checkpoint_error(
                "the checkpoint is compressed; torch.save writes it uncompressed"
            )
        imported: set[str] = set()
        for info in archive.infolist():
            if not info.filename.endswith(".pkl"):
                continue
            if info.file_size > _MAX_PICKLE:
                raise _checkpoint_error("the checkpoint has a pickle of more than 64 MiB")
            with archive.open(info) as file:
                imported |= find_imports(file)
    _check_imports(imported)


def scan_legacy(path: Path) -> None:
    """Check the consecutive pickles of the format before torch 1.6, or any other pickle."""
    imported: set[str] = set()
    with path.open("rb") as file:
        magic = _first_number(file)
        file.seek(0)
        for _ in range(_LEGACY_PICKLES if magic == _LEGACY_MAGIC else 1):
            imported |= find_imports(file)
    _check_imports(imported)
    if magic != _LEGACY_MAGIC:
        raise _checkpoint_error("the file is a pickle that torch.save did not write")


def find_imports(file: IO[bytes]) -> set[str]:
    """Return the dotted names that a pickle imports; ``(hidden)`` for computed names."""
    imported: set[str] = set()
    strings: list[str] = []
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("GLOBAL", "INST"):
            imported.add(str(argument).replace(" ", ".", 1))
        elif opcode.name == "STACK_GLOBAL":
            imported.add(".".join(strings[-2:]) if len(strings) >= 2 else "(hidden)")
        elif opcode.name in ("EXT1", "EXT2", "EXT4"):
            imported.add("(hidden)")
        if opcode.name in _STRINGS:
            strings.append(str(argument))
        elif opcode.name not in _SILENT:
            strings.clear()
    return imported


def _first_number(file: IO[bytes]) -> object:
    numbers = [a for op, a, _ in pickletools.genops(file) if op.name in ("LONG1", "LONG4")]
    return numbers[0] if len(numbers) == 1 else None


def _check_imports(imported: set[str]) -> None:
    unsafe = sorted(imported - _SAFE)
    if not unsafe:
        return
    items = [error_detail(name, "is not part of a plain state dict") for name in unsafe]
    if set(unsafe) == {"argparse.Namespace"}:
        message = "the checkpoint also holds training options (argparse.Namespace)"
    elif any(name.startswith("torch.nn.") for name in unsafe):
        message = f"the checkpoint is a whole model object (it would import {unsafe[0]})"
    elif any("sparse" in name or "qtensor" in name or "meta" in name for name in unsafe):
        message = f"the checkpoint has tensors that are not plain and dense ({unsafe[0]})"
    else:
        message = f"the checkpoint contains code ({unsafe[0]}); only plain state dicts are accepted"
    raise UserError("checkpoint_invalid", message, hint=_STATE_DICT_HINT, items=items)


def _checkpoint_error(message: str) -> UserError:
    return UserError("checkpoint_invalid", message, hint=_STATE_DICT_HINT)
