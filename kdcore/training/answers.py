"""What the teachers answer: asked at every step, or asked once for each view and kept.

Where every image has a number of views that come again (``training.views``), a teacher is asked
about each view once, in the order of the samples and in batches of one size, and its logits are
kept as float16 in a file. The name of the file is a digest of everything that decides its bytes, so
jobs share it; the first job trains from the same rounded values as the later ones.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kdcore.data.loader import Loader
from kdcore.data.placing import moved, resident
from kdcore.files import replacing, sha256_of
from kdcore.methods.base import Batch, Outputs
from kdcore.models.folding import InBfloat16
from kdcore.spec.events import Level
from kdcore.training.observed import Observed, asked

Say = Callable[[Level, str], None]
_FORMAT = 1
_BATCH = 256


class Answers(Protocol):
    """What the teachers of a phase say of a batch."""

    def of(self, views: Tensor, batch: Batch) -> list[Outputs]:
        """Each teacher's outputs of ``views`` (B, C, H, W), without gradients."""

    def close(self) -> None:
        """Nobody asks any more."""


class Live:
    """Asks the teachers each time."""

    def __init__(self, teachers: Sequence[Observed], autocast: torch.autocast) -> None:
        self.teachers = tuple(teachers)
        self.autocast = autocast

    def of(self, views: Tensor, batch: Batch) -> list[Outputs]:
        """Each teacher's outputs of ``views`` (B, C, H, W), without gradients."""
        return asked(self.teachers, views, self.autocast)

    def close(self) -> None:
        """Take the hooks off the teachers."""
        for teacher in self.teachers:
            teacher.close()


class Place(NamedTuple):
    """Where answers are kept, and all that decides them beside teacher and view."""

    folder: Path
    decides: dict[str, Any]


class Kept:
    """Takes what was answered before; :meth:`ready` must have been called for the batch's view."""

    def __init__(self, live: Live, identities: Sequence[str], loader: Loader, place: Place) -> None:
        self._live, self._identities, self._loader = live, tuple(identities), loader
        self._place = place
        self._views: dict[int, list[Tensor]] = {}
        self.asked_s = 0.0
        """Seconds that the teachers were asked for."""

    def of(self, views: Tensor, batch: Batch) -> list[Outputs]:
        """Each teacher's outputs of the samples of ``batch``, as it gave them once."""
        kept = self._views[batch.view]
        rows = [logits[batch.index.to(logits.device)] for logits in kept]
        return [Outputs(moved(each, views.device).float()) for each in rows]

    def close(self) -> None:
        """Forget what was read, and take the hooks off the teachers."""
        self._views.clear()
        self._live.close()

    def ready(self, view: int, boundary: Callable[[], None], say: Say) -> None:
        """Have the answers for a view at hand, asking the teachers where nobody has yet.

        ``boundary`` is called between two batches, and may raise; ``say`` tells people of it.
        """
        if view in self._views:
            return
        found = []
        for place in range(len(self._identities)):
            path = self._path(place, view)
            logits = _read(path, say)
            if logits is None:
                logits = self._ask(place, view, path, boundary, say)
            found.append(logits)
        # A batch needs one view: the others are files.
        self._views = {view: [resident(logits, self._loader.device) for logits in found]}

    def _path(self, place: int, view: int) -> Path:
        network = self._live.teachers[place].network.network
        decides = self._place.decides | {
            "format": _FORMAT,
            "batch": _BATCH,
            "teacher": self._identities[place],
            "view": view,
            "folded": isinstance(network, InBfloat16),
        }
        key = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
        return self._place.folder / f"answers-{key}.safetensors"

    def _ask(
        self,
        place: int,
        view: int,
        path: Path,
        boundary: Callable[[], None],
        say: Say,
    ) -> Tensor:
        began = time.monotonic()
        teacher = self._live.teachers[place]
        rows = []
        for start in range(0, self._loader.num_samples, _BATCH):
            boundary()
            ids = np.arange(start, min(start + _BATCH, self._loader.num_samples))
            views = self._loader.pictures(ids, view)
            views = views.contiguous(memory_format=torch.channels_last)
            (outputs,) = asked((teacher,), views, self._live.autocast)
            rows.append(outputs.logits.to("cpu", torch.float16))
        asked_now = torch.cat(rows)
        _write(path, asked_now)
        seconds = time.monotonic() - began
        self.asked_s += seconds
        say("info", f"the teacher's answers for view {view} are kept: {seconds:.1f} s")
        # From the file, so that memory holds what is looked at; it may have been cleared away.
        kept = _read(path, say)
        return asked_now if kept is None else kept


def _write(path: Path, logits: Tensor) -> None:
    with replacing(path) as partial:
        save_file({"logits": logits.contiguous()}, partial)
        digest = sha256_of(partial)
    with replacing(path.with_suffix(".sha256")) as partial:
        partial.write_text(digest)


def _read(path: Path, say: Say) -> Tensor | None:
    """The logits (N, C) of a whole file; None where there is none, and a damaged one goes."""
    told = path.with_suffix(".sha256")
    try:
        whole = sha256_of(path) == told.read_text()
        logits = load_file(path)["logits"] if whole else None
    except (FileNotFoundError, SafetensorError, KeyError):
        logits = None
    if logits is None:
        if path.exists() and told.exists():
            say("warning", f"a teacher's kept answers are damaged: it is asked again ({path.name})")
        return None
    with contextlib.suppress(OSError):  # whoever needs room takes what was not used for longest
        os.utime(path)
        os.utime(told)
    return logits
