"""Checkpoints: complete or absent, verified before use, at most two on disk.

``step-XXXXXXXX.pt`` contains tensors and plain values only (``weights_only``: loading runs no
code). ``step-XXXXXXXX.json`` beside it is written last and contains the digest, so a file without
a matching digest is incomplete. Both files are flushed to disk before they get their names, and the
folder is flushed after.
"""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from kdcore.runtime.atomic_files import atomic_write, sha256_of
from kdcore.runtime.errors import UserError
from kdcore.runtime.event_writer import EventWriter
from kdcore.runtime.failpoints import failpoint
from kdcore.schema.old_spelling import old_spelling

MAX_CHECKPOINTS = 2
StateDict = dict[str, Any]
_NEW_NAMES = {
    "machine": "compute_env",
    old_spelling("normalization"): "normalization",
    "phase": "phase_index",
    "number": "seed_index",
    "cohort": "student_group",
    "learners": "students",
    "peers": "peer_objectives",
    "micro_batches": "num_micro_batches",
    "meters": "loss_meters",
    "patience": "early_stopper",
    "mark": "best_top1",
    "since": "epochs_since_best",
    "validated": "epoch",
    "last": "last_metrics",
}
"""Former and present names of the keys of a state, for checkpoints from before version 0.1.0."""
_TRAIN_STATE = ("epoch", "step", "best", "last_metrics", "early_stopper")


class Checkpoints:
    """The checkpoints in one folder."""

    def __init__(self, folder: Path, events: EventWriter) -> None:
        self._folder = folder
        self._events = events

    def save(self, state: StateDict, *, step: int, epoch: float, metrics: dict[str, float]) -> None:
        """Write ``state`` as the newest checkpoint, emit its event, and delete all but two."""
        path = self._folder / f"step-{step:08d}.pt"
        with atomic_write(path) as partial:
            # An open file instead of a path: torch's errors for a path have no errno when the
            # disk is full.
            with partial.open("wb") as file:
                torch.save(state, file)
            failpoint("engine.checkpoint")
        _sync(self._folder)
        sidecar = {
            "sha256": sha256_of(path),
            "size_bytes": path.stat().st_size,
            "step": step,
            "epoch": epoch,
            "job_digest": state["job_digest"],
        }
        with atomic_write(path.with_suffix(".json")) as partial:
            partial.write_text(json.dumps(sidecar))
        _sync(self._folder)
        for old in self._paths()[MAX_CHECKPOINTS:]:
            old.with_suffix(".json").unlink(missing_ok=True)
            old.unlink(missing_ok=True)
        self._events.checkpoint(path, step=step, epoch=epoch, metrics=metrics)

    def load_newest(self, job_digest: str) -> StateDict | None:
        """The newest valid checkpoint of the job, or None; damaged ones are logged and skipped.

        Raises ``UserError`` if it belongs to another job, whose owner may still need it.
        """
        for path in self._paths():
            try:
                state = _load_verified(path)
            except CorruptCheckpointError as error:
                self._events.log("warning", f"checkpoint {path.name} is damaged, skipped: {error}")
                # Renamed, it does not count as one of the two, and no new checkpoint replaces it.
                path.replace(path.with_name(f"damaged-{path.name}"))
                continue
            if state["job_digest"] != job_digest:
                raise UserError(
                    "checkpoint_invalid",
                    f"{path.name} in the workdir belongs to another job; this one was not started",
                    hint="Use a separate workdir for each job.",
                )
            return state
        return None

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.pt"), reverse=True)


class CorruptCheckpointError(Exception):
    """A checkpoint does not match its sidecar."""


def load_checkpoint(path: Path) -> StateDict:
    """The state in a checkpoint file of this or an earlier version, on the CPU."""
    state: StateDict = torch.load(path, map_location="cpu", weights_only=True)
    return _upgrade(state)


def _load_verified(path: Path) -> StateDict:
    try:
        sidecar = json.loads(path.with_suffix(".json").read_text())
        expected = sidecar["sha256"]
    except FileNotFoundError:
        raise CorruptCheckpointError("its sidecar is missing") from None
    except (ValueError, KeyError, TypeError):
        raise CorruptCheckpointError("its sidecar cannot be parsed") from None
    if sha256_of(path) != expected:
        raise CorruptCheckpointError("its digest differs from the sidecar's")
    return load_checkpoint(path)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _upgrade(state: StateDict) -> StateDict:
    """The state with the present names of its keys, so that stored jobs resume."""
    if "machine" not in state:
        return state
    state = _rename(state)
    if (current := state["current"]) is not None:
        current["train_state"] = {name: current.pop(name) for name in _TRAIN_STATE}
        for student in current["student_group"]["students"]:
            student["network"] = student.pop("student")
    return state


def _rename(value: Any) -> Any:
    if isinstance(value, dict):
        return {_NEW_NAMES.get(name, name): _rename(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_rename(part) for part in value]
    return "labeler" if isinstance(value, str) and value == "labeller" else value


@dataclass
class CheckpointSchedule:
    """Decides when to write a checkpoint. It only affects time, never results.

    A checkpoint is due at the end of an epoch, and at the latest ``max_interval_s`` after the last
    one. It is postponed while it would take more than ``max_time_share`` of the time, or follow the
    last one within ``min_interval_s``, as with epochs of a few milliseconds.
    """

    max_interval_s: float = 15.0
    min_interval_s: float = 2.0
    max_time_share: float = 0.02
    _last_save: float = field(default_factory=time.monotonic, init=False)
    _cost_s: float = field(default=0.0, init=False)

    @classmethod
    def from_interval(cls, interval_s: float | None) -> "CheckpointSchedule":
        """A fixed interval whatever checkpoints cost; None gives the default schedule."""
        if interval_s is None:
            return cls()
        return cls(interval_s, interval_s, float("inf"))

    def is_due(self, *, epoch_ended: bool) -> bool:
        """Whether to write a checkpoint now."""
        since_s = time.monotonic() - self._last_save
        if since_s < max(self.min_interval_s, self._cost_s / self.max_time_share):
            return False
        return epoch_ended or since_s >= self.max_interval_s

    def record_save(self, started: float) -> None:
        """Record that a checkpoint was written from ``started`` (``time.monotonic``) until now."""
        self._last_save = time.monotonic()
        self._cost_s = self._last_save - started
