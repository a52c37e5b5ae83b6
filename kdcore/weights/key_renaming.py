"""List the tensors of a checkpoint, with names changed by ``key_map``; suggest rules for it."""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from torch import Tensor

from kdcore.runtime.errors import UserError, error_detail
from kdcore.schema.asset_info import KeyMap
from kdcore.weights import renaming_process
from kdcore.weights.checkpoint_reader import LoadedCheckpoint

_WRAPPED_LAYERS = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
"""Parts that torch.compile, FSDP and activation checkpointing add inside names."""
_MAX_CPU_S = 5
_MAX_WALL_S = 60.0
"""The processor may be busy: only the processor time says that a pattern is slow."""
_MAX_SUGGESTED = 20
_MAX_REMOVED = 5000
"""Names above which no rules are suggested."""
_MAX_PATTERN = 500
_WORD_SUFFIX = re.compile(r"[._][^._]+$")


class NamedTensor(NamedTuple):
    """One tensor of a checkpoint."""

    path: str
    """Keys of the dicts around it and its name, joined by dots."""
    name: str
    """Its name in its dict, after ``key_map``."""
    group: int
    tensor: Tensor


def list_tensors(checkpoint: LoadedCheckpoint, key_map: KeyMap = ()) -> list[NamedTensor]:
    """List every tensor, with names changed by ``key_map``; an empty new name leaves one out.

    A pattern is searched in the name, and in the path if the name has no match. Raises
    :class:`UserError` for an invalid or slow pattern, and where two names become one.
    """
    tensors = [
        (path, key, group, tensor)
        for group, (path, members) in enumerate(checkpoint.groups)
        for key, tensor in members.items()
    ]
    names = [_join(path, _WRAPPED_LAYERS.sub("", key)) for path, key, _, _ in tensors]
    named: dict[str, NamedTensor] = {}
    for (_, key, group, tensor), (name, full) in zip(
        tensors, rename(names, key_map) if key_map else names, strict=True
    ):
        if not name:
            continue
        if full in named:
            raise UserError(
                "checkpoint_invalid",
                f"two tensors of {checkpoint.name} get the name {full}",
                hint="change key_map so that different names stay different",
                items=[error_detail(key, f"becomes {full}, like {named[full].path}")],
                fix_fields=("key_map",),
            )
        named[full] = NamedTensor(full, name, group, tensor)
    return list(named.values())


def rename(
    names: Sequence[tuple[str, str]], key_map: KeyMap, cpu_s: int = _MAX_CPU_S
) -> list[tuple[str, str]]:
    """Apply the rules to pairs of a name and the same name after the keys of its dicts.

    The search is a process of its own, which ends after ``cpu_s`` seconds of processor time for any
    pattern. Raises :class:`UserError` for an invalid or slow pattern.
    """
    request = {"names": names, "rules": key_map, "cpu_s": cpu_s}
    try:
        process = subprocess.run(
            [sys.executable, "-I", "-S", renaming_process.__file__],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=_MAX_WALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _slow_pattern_error(error.stdout or b"", cpu_s) from error
    if process.returncode < 0:
        raise _slow_pattern_error(process.stdout, cpu_s)
    if process.returncode:
        raise RuntimeError(f"renaming failed: {process.stderr.decode(errors='replace')}")
    *steps, last = process.stdout.splitlines()
    result = json.loads(last)
    if "error" in result:
        raise _pattern_error(int(steps[-1]), f"cannot be used: {result['error']}")
    return [(name, full) for name, full in result["names"]]


def removal_rules(removed: Sequence[NamedTensor], used: Sequence[NamedTensor]) -> str | None:
    """Return a ``key_map`` that leaves out ``removed`` and nothing ``used``, as JSON for a message.

    Returns None if a few rules cannot do that.
    """
    if not 0 < len(removed) <= _MAX_REMOVED:
        return None
    for patterns in (_head_patterns(removed, used), _suffix_patterns(removed)):
        if len(patterns) <= _MAX_SUGGESTED and _removes_exactly(patterns, removed, used):
            return f'"key_map": {json.dumps([[p, ""] for p in patterns], ensure_ascii=False)}'
    return None


def _join(path: str, name: str) -> tuple[str, str]:
    return name, f"{path}.{name}" if path else name


def _slow_pattern_error(output: bytes, cpu_s: int) -> UserError:
    problem = f"takes more than {cpu_s} seconds, or too much memory, for the names of the file"
    return _pattern_error(int((output.splitlines() or [b"0"])[-1]), problem)


def _pattern_error(index: int, problem: str) -> UserError:
    return UserError(
        "checkpoint_invalid",
        f"the pattern /key_map/{index} {problem}",
        hint="write a simpler pattern: the start of a name, such as ^encoder\\\\., or a full name",
        items=[error_detail(f"/key_map/{index}", problem)],
        fix_fields=("key_map",),
    )


def _head_patterns(removed: Iterable[NamedTensor], used: Iterable[NamedTensor]) -> list[str]:
    """Return patterns for the first parts that no used name has, or else for full names."""
    taken = {head for entry in used for text in entry[:2] for head in _heads(text)}
    patterns: dict[str, None] = {}
    for entry in removed:
        head = next((head for head in _heads(entry.path) if head not in taken), None)
        patterns[f"^{re.escape(head)}.*" if head else f"^{re.escape(entry.path)}$"] = None
    return list(patterns)


def _heads(name: str) -> list[str]:
    """Return the beginnings of a name that end with a dot, the shortest first."""
    return [name[: match.end()] for match in re.finditer(r"\.", name)]


def _suffix_patterns(removed: Iterable[NamedTensor]) -> list[str]:
    ends = [_WORD_SUFFIX.search(entry.name) for entry in removed]
    return list({f"^.*{re.escape(end[0])}$": None for end in ends if end})


def _removes_exactly(
    patterns: Sequence[str], removed: Iterable[NamedTensor], used: Iterable[NamedTensor]
) -> bool:
    if any(len(pattern) > _MAX_PATTERN for pattern in patterns):
        return False
    remaining = [(entry.name, entry.path) for entry in used]
    names = [*remaining, *((entry.name, entry.path) for entry in removed)]
    for pattern in patterns:
        names = list(renaming_process.apply_rule(names, pattern, ""))
    return [pair for pair in names if pair[0]] == remaining
