"""Read an uploaded checkpoint, which may be hostile, to named tensors.

Formats: safetensors, ``torch.save`` in its zip format and in the format before torch 1.6, each also
as gzip; shards with an index in a zip or tar.
"""

import tempfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kdcore.runtime.errors import UserError, error_detail, join_names
from kdcore.weights import pickle_scan
from kdcore.weights.containers import EXPECTED_FORMATS, CheckpointPart, open_upload
from kdcore.weights.pickle_scan import Placeholder
from kdcore.weights.renaming_process import MAX_NAME_LENGTH

_MAX_ENTRIES = 300_000
_MAX_DEPTH = 8
"""Depth of the dicts that are searched for tensors."""
_CLASS_KEYS = ("class_names", "classes", "CLASSES", "class_to_idx", "idx_to_class")
_TOP1_KEYS = ("best_acc1", "best_acc", "best_top1", "best_accuracy", "acc1", "top1", "val_acc1")
_METADATA_KEYS = ("meta", "args", "config", "hyper_parameters")
_MAX_CLASS_NAME = 200
_MODULE_DEPTH = 2
"""Depth at which a pickled object may be the network."""


class TensorGroup(NamedTuple):
    """The tensors of one dict of the checkpoint."""

    path: str
    """Keys of the dicts around them, joined by dots, such as `state_dict`; empty at the top."""
    tensors: dict[str, Tensor]


class LoadedCheckpoint(NamedTuple):
    """What an upload contains. Values of tensors are not checked: most are still on disk."""

    name: str
    """The user's name of the file, for messages."""
    groups: tuple[TensorGroup, ...]
    contents: Any
    """Everything that was read; placeholders stand for objects of unknown classes."""
    objects: dict[str, str]
    """Dotted names of pickled objects near the top, by their path."""
    size_bytes: int
    """Size of the unpacked files."""
    notes: tuple[str, ...] = ()
    """Sentences for the user about what was not read."""


def read_checkpoint(
    path: Path, *, name: str = "the upload", scratch: Path | None = None, scan: bool = True
) -> LoadedCheckpoint:
    """Read the tensors of the file at ``path`` by name, from every dict in it.

    ``name`` is the user's name of the file; ``scratch`` the folder for unpacked files, which are
    deleted (None: the system's). ``scan`` looks for code before the file is loaded, for a clear
    message, and lets other classes become placeholders; without it
    ``torch.load(weights_only=True)`` refuses all of them. Raises :class:`UserError`
    ``checkpoint_invalid``.
    """
    try:
        with tempfile.TemporaryDirectory(dir=scratch, prefix="unpacked-") as folder:
            upload = open_upload(path, name, Path(folder))
            contents = [_load_part(part, scan=scan) for part in upload.parts]
            size_bytes = sum(part.path.stat().st_size for part in upload.parts)
    except (UserError, MemoryError):
        raise
    except Exception as error:
        # Hostile bytes make loaders raise RuntimeError, KeyError, struct.error and more.
        raise UserError(
            "checkpoint_invalid", _explain(name, error), hint=f"upload {EXPECTED_FORMATS}"
        ) from error
    joined = contents[0] if len(contents) == 1 else _join_shards(upload.parts, contents)
    collector = _Collector()
    collector.collect(joined, ())
    if not collector.groups:
        raise _no_tensors_error(name, joined, collector.objects)
    return LoadedCheckpoint(
        name=name,
        groups=tuple(collector.groups),
        contents=joined,
        objects=collector.objects,
        size_bytes=size_bytes,
        notes=upload.notes,
    )


def _load_part(part: CheckpointPart, *, scan: bool) -> Any:
    if part.format == "safetensors":
        with safe_open(part.path, framework="pt", device="cpu") as file:
            contents = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not iterable
    else:
        contents = _load_pickled(part, scan=scan)
    missing = [name for name in part.expected if name not in contents]
    if missing:
        raise UserError(
            "checkpoint_invalid",
            f"the shard {part.name} lacks {len(missing)} of the tensors that the index names",
            hint="pack the shards and the index of one checkpoint together",
            items=[error_detail(name, f"is missing in {part.name}") for name in missing],
        )
    return contents


def _load_pickled(part: CheckpointPart, *, scan: bool) -> Any:
    in_zip = part.format == "zip"
    if not scan:
        return torch.load(part.path, weights_only=True, map_location="cpu", mmap=in_zip)
    scanned = (pickle_scan.scan_zip if in_zip else pickle_scan.scan_legacy)(part.path)
    try:
        with pickle_scan.inert_globals(scanned):
            return torch.load(part.path, weights_only=True, map_location="cpu", mmap=in_zip)
    except Exception:
        pickle_scan.explain_failure(scanned)
        raise


def _explain(name: str, error: Exception) -> str:
    """Return a message of our words: libraries' messages are long and about other things."""
    if isinstance(error, zipfile.BadZipFile):
        return f"{name} is cut off or damaged: the list of its members, at its end, is missing"
    if isinstance(error, SafetensorError):
        return f"{name} is cut off or damaged: its header and its size do not agree"
    if isinstance(error, EOFError):
        return f"{name} is cut off: it ends within its data"
    return f"{name} cannot be opened: it is cut off or damaged, or is not what torch.save writes"


def _join_shards(parts: tuple[CheckpointPart, ...], contents: list[Any]) -> dict[str, Any]:
    joined: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for part, shard in zip(parts, contents, strict=True):
        if not isinstance(shard, dict):
            raise UserError("checkpoint_invalid", f"the shard {part.name} is not a state dict")
        twice = [key for key in shard if key in joined]
        if twice:
            raise UserError(
                "checkpoint_invalid",
                f"{len(twice)} names are in two shards, so it is unclear which one counts",
                items=[
                    error_detail(str(key), f"is in {sources[key]} and {part.name}") for key in twice
                ],
            )
        joined |= shard
        sources |= dict.fromkeys(shard, part.name)
    return joined


def read_class_names(
    contents: Any, num_classes: int
) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Return the names of the classes in the order of the logits, and sentences for the user.

    Read are lists under ``class_names``, ``classes`` or ``CLASSES`` and the dicts ``class_to_idx``
    and ``idx_to_class``, at the top or in ``meta``, ``args``, ``config`` or ``hyper_parameters``.
    The names are None if the checkpoint has none of that number; a sentence says why others are not
    used.
    """
    if not isinstance(contents, dict):
        return None, ()
    nested = [contents, *(contents.get(key) for key in _METADATA_KEYS)]
    values = [
        (key, d[key]) for d in nested if isinstance(d, dict) for key in _CLASS_KEYS if key in d
    ]
    usable: dict[str, tuple[str, ...]] = {}
    notes = []
    for key, value in values:
        # A number of classes has such a name, too.
        if value is None or isinstance(value, int | Tensor):
            continue
        try:
            names = _as_names(value, num_classes)
        except ValueError as error:
            notes.append(f"{key} of the checkpoint is not read: {error}")
            continue
        first = next(iter(usable), key)
        if names != usable.get(first, names):
            notes.append(
                f"{first} and {key} of the checkpoint differ: {join_names(usable[first], 3)}, and "
                f"{join_names(names, 3)}; {first} is used"
            )
        usable.setdefault(key, names)
    return next(iter(usable.values()), None), tuple(notes)


def read_reported_top1(contents: Any) -> float | None:
    """Return the accuracy in percent that a checkpoint's metadata state, or None.

    Read are numbers at the top under the usual names, such as ``best_acc1``; a number up to 1 is a
    share.
    """
    if not isinstance(contents, dict):
        return None
    for value in map(contents.get, _TOP1_KEYS):
        if isinstance(value, Tensor):
            value = value.item() if value.numel() == 1 and not value.is_meta else None
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 100:
            return float(value) * (100 if value <= 1 else 1)
    return None


def _as_names(value: Any, num_classes: int) -> tuple[str, ...]:
    """Return the names by their index. Raises ValueError, which says why that is impossible."""
    if isinstance(value, Placeholder) and not value:
        raise ValueError(f"it is of type {value.replaces}; a list of texts was expected")
    if isinstance(value, dict):
        value = _names_by_index(value)
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"it is no list of texts, but of type {type(value).__name__}")
    names = tuple(name.strip() for name in value)
    if len(names) != num_classes:
        raise ValueError(f"it has {len(names)} names, and the network {num_classes} classes")
    if len(set(names)) < len(names):
        raise ValueError("it has a name twice")
    if not all(name.isprintable() and 0 < len(name) <= _MAX_CLASS_NAME for name in names):
        raise ValueError(f"it has an unprintable name, or not 1 to {_MAX_CLASS_NAME} characters")
    return names


def _names_by_index(value: dict[Any, Any]) -> list[Any]:
    """Return the names of a dict between names and indices, in the order of the indices."""
    is_inverse = all(isinstance(index, int) for index in value)
    names = value if is_inverse else {index: name for name, index in value.items()}
    if len(names) < len(value) or not all(isinstance(index, int) for index in names):
        raise ValueError("it does not have one index for each class")
    if names and sorted(names) != list(range(len(names))):
        raise ValueError(f"its indices are {min(names)} to {max(names)}, not 0 to {len(names) - 1}")
    return [names[index] for index in range(len(names))]


class _Collector:
    """Collects the named tensors of all dicts in a checkpoint, and pickled objects near the top."""

    def __init__(self) -> None:
        self.groups: list[TensorGroup] = []
        self.objects: dict[str, str] = {}
        self._num_entries = 0

    def collect(self, value: Any, path: tuple[str, ...]) -> None:
        if isinstance(value, Placeholder) and len(path) <= _MODULE_DEPTH:
            self.objects[".".join(path)] = value.replaces
        if not isinstance(value, dict) or len(path) > _MAX_DEPTH:
            return
        # Entries are counted at each visit: a hostile file can refer to one dict many times.
        self._num_entries += len(value)
        if self._num_entries > _MAX_ENTRIES:
            raise UserError(
                "checkpoint_invalid", f"the checkpoint has more than {_MAX_ENTRIES} entries"
            )
        tensors = {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, Tensor)}
        if tensors:
            self.groups.append(TensorGroup(".".join(path), tensors))
        for key, inner in value.items():
            if isinstance(key, str) and len(key) > MAX_NAME_LENGTH:
                raise UserError(
                    "checkpoint_invalid",
                    f"the checkpoint has a name of more than {MAX_NAME_LENGTH} characters",
                )
            self.collect(inner, (*path, str(key)))


def _no_tensors_error(name: str, contents: Any, objects: dict[str, str]) -> UserError:
    if objects:
        return module_error(name, objects)
    content = type(contents).__name__
    if isinstance(contents, dict):
        first = next((f"{key}: {type(value).__name__}" for key, value in contents.items()), "empty")
        content = f"dict without named tensors ({first[:100]})"
    return UserError(
        "checkpoint_invalid",
        f"{name} contains a {content}; save a state dict, which has tensors with names",
        hint="torch.save(model.state_dict(), path)",
    )


def module_error(name: str, objects: dict[str, str]) -> UserError:
    """Return the error for a checkpoint whose network is a pickled object."""
    path, class_name = next(iter(objects.items()))
    key = "".join(f"[{part!r}]" for part in path.split(".") if part)
    lines = pickle_scan.STATE_DICT_LINES.format(file=name, key=key)
    return UserError(
        "checkpoint_invalid",
        f"{name} is a whole model object ({class_name}), whose code is never run here, and not a "
        "state dict",
        hint=f"where its code is installed, run these two lines and upload the result:\n{lines}",
    )
