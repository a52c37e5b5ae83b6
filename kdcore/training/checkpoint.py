"""Checkpoints: whole or absent, checked before they are used, two kept.

``step-XXXXXXXX.pt`` holds tensors and plain values (``weights_only``: opening one runs no code);
``step-XXXXXXXX.json`` beside it, written last, has the digest that tells a whole one from a torn.
Both reach the disk before they get their name, and the folder after.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import torch

from kdcore.runtime.errors import UserError
from kdcore.runtime.event_writer import EventWriter
from kdcore.runtime.failpoints import failpoint
from kdcore.runtime.files import atomic_write, sha256_of

MAX_CHECKPOINTS = 2
StateDict = dict[str, Any]


class Checkpoints:
    """The checkpoints of one workdir."""

    def __init__(self, folder: Path, events: EventWriter) -> None:
        self._folder = folder
        self._events = events

    def save(self, state: StateDict, *, step: int, epoch: float, metrics: dict[str, float]) -> None:
        """Write ``state`` as the newest checkpoint, tell of it, and drop all but two."""
        path = self._folder / f"step-{step:08d}.pt"
        with atomic_write(path) as partial:
            # A file of ours, not a path: of a full disk torch itself would say no number.
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
        """The newest whole checkpoint of the job, or None; a damaged one is told of and passed by.

        Raises ``UserFault`` where it belongs to another job: its owner may still want it.
        """
        for path in self._paths():
            try:
                state = _load(path)
            except CorruptCheckpointError as error:
                self._events.log("warning", f"{path.name} is damaged and passed by: {error}")
                # Out of the way: it must not count among those kept, nor be written over.
                path.replace(path.with_name(f"damaged-{path.name}"))
                continue
            if state["job_digest"] != job_digest:
                raise UserError(
                    "checkpoint_invalid",
                    f"{path.name} in the workdir belongs to another job; this one was not started",
                    hint="Give every job a workdir of its own.",
                )
            return state
        return None

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.pt"), reverse=True)


class CorruptCheckpointError(Exception):
    """A checkpoint that is not what its sidecar says."""


def _load(path: Path) -> StateDict:
    try:
        sidecar = json.loads(path.with_suffix(".json").read_text())
        expected = sidecar["sha256"]
    except FileNotFoundError:
        raise CorruptCheckpointError("its sidecar is missing") from None
    except (ValueError, KeyError, TypeError):
        raise CorruptCheckpointError("its sidecar cannot be read") from None
    if sha256_of(path) != expected:
        raise CorruptCheckpointError("its bytes are not those that were written")
    state: StateDict = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class CheckpointSchedule:
    """When the next checkpoint is due. Decides about time alone: no number depends on it.

    At each epoch's end and at least every 15 s, unless that would cost 2 % of the time or come
    within 2 s of the last one, as in epochs of a few milliseconds.
    """

    max_interval_s = 15.0
    min_interval_s = 2.0
    max_time_share = 0.02

    def __init__(self) -> None:
        self._last_save = time.monotonic()
        self._cost_s = 0.0

    def is_due(self, *, epoch_ended: bool) -> bool:
        """Whether to write one now."""
        since_s = time.monotonic() - self._last_save
        if since_s < max(self.min_interval_s, self._cost_s / self.max_time_share):
            return False
        return epoch_ended or since_s >= self.max_interval_s

    def record_save(self, started: float) -> None:
        """One was written since ``started`` (of ``time.monotonic``)."""
        self._last_save = time.monotonic()
        self._cost_s = self._last_save - started
