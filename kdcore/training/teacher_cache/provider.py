"""What the teachers answer: asked at every step, or asked once for each view and kept.

Where every image has a number of views that come again (``training.views``), a teacher is asked
about each view once, in the order of the samples and in batches of one size, and what it says is
kept in a file. The name of the file is a digest of everything that decides its bytes, so
jobs share it; the first job trains from the same rounded values as the later ones.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from kdcore.data.augment.views import VIEW_FORMAT
from kdcore.data.loader import Loader
from kdcore.data.transfer import moved, resident
from kdcore.methods.base import Batch, Outputs
from kdcore.models.inference import InBfloat16
from kdcore.runtime.event_writer import EventWriter
from kdcore.training.loop.features import Observed, asked
from kdcore.training.teacher_cache import cache_files
from kdcore.training.teacher_cache.cache_files import Found
from kdcore.training.teacher_cache.codec import Form

_FORMAT = 3
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
    """Where answers are kept, in which form, and all that decides them beside teacher and view."""

    folder: Path
    decides: dict[str, Any]
    form: Form = Form()


@dataclass
class Tally:
    """What asking the teachers cost and saved: each file of answers counts once in a run."""

    asked: int = 0
    found: int = 0
    asked_s: float = 0.0
    saved_s: float = 0.0
    size_bytes: int = 0
    eight_bits: list[dict[str, Any]] = field(default_factory=list)
    """Of each teacher that was tried in eight bits: its agreement, and whether it teaches so."""
    _keys: set[str] = field(default_factory=set)

    def note(self, key: str, size_bytes: int, seconds: float, *, found: bool) -> bool:
        """Count answers that are at hand; False where they were counted before."""
        if key in self._keys:
            return False
        self._keys.add(key)
        self.size_bytes += size_bytes
        if found:
            self.found += 1
            self.saved_s += seconds
        else:
            self.asked += 1
            self.asked_s += seconds
        return True

    def told(self) -> dict[str, Any]:
        """For the report; nothing where nothing was kept or tried."""
        tried = {"eight_bit_teachers": self.eight_bits} if self.eight_bits else {}
        if not self._keys:
            return tried
        seconds = {"asked_s": round(self.asked_s, 3), "saved_s": round(self.saved_s, 3)}
        counted = {"asked": self.asked, "found": self.found, "size_bytes": self.size_bytes}
        return tried | {"kept_answers": counted | seconds}


class Kept:
    """Takes what was answered before; :meth:`ready` must have been called for the batch's view."""

    def __init__(
        self, live: Live, identities: Sequence[str], loader: Loader, place: Place, tally: Tally
    ) -> None:
        self._live, self._identities, self._loader = live, tuple(identities), loader
        self._place, self._tally = place, tally
        self._views: dict[int, list[dict[str, Tensor]]] = {}

    def of(self, views: Tensor, batch: Batch) -> list[Outputs]:
        """Each teacher's outputs of the samples of ``batch``, as it gave them once."""
        return [
            self._place.form.outputs({name: _of(rows, batch.index) for name, rows in kept.items()})
            for kept in self._views[batch.view]
        ]

    def close(self) -> None:
        """Forget what was read, and take the hooks off the teachers."""
        self._views.clear()
        self._live.close()

    def ready(self, view: int, boundary: Callable[[], None], events: EventWriter) -> None:
        """Have the answers for a view at hand, asking the teachers where nobody has yet.

        ``boundary`` is called between two batches, and may raise; ``events`` tells of it.
        """
        if view in self._views:
            return
        found = [
            self._at_hand(place, view, boundary, events) for place in range(len(self._identities))
        ]
        # A batch needs one view: the others are files.
        device = self._loader.device
        self._views = {
            view: [{name: resident(rows[name], device) for name in rows} for rows in found]
        }

    def _at_hand(
        self, place: int, view: int, boundary: Callable[[], None], events: EventWriter
    ) -> dict[str, Tensor]:
        key = self._key(place, view)
        path = self._place.folder / f"answers-{key}.safetensors"
        before = cache_files.read(path, events)
        answers = before or self._ask(place, view, path, boundary)
        size, known = answers.size_bytes, before is not None
        if self._tally.note(key, size, answers.seconds, found=known):
            done = "are there" if known else f"are kept: {answers.seconds:.1f} s"
            events.log("info", f"the teacher's answers for view {view} {done}")
            events.answers(
                key=key,
                name=path.name,
                teacher=place,
                seed=self._loader.view_seed,
                view=view,
                num_samples=self._loader.num_samples,
                sha256=answers.sha256,
                size_bytes=_size(path, size),
                seconds=answers.seconds,
                found=known,
            )
        return answers.rows

    def _key(self, place: int, view: int) -> str:
        network = self._live.teachers[place].network.network
        decides = self._place.decides | {
            "format": _FORMAT,
            "view_format": VIEW_FORMAT,
            "batch": _BATCH,
            "teacher": self._identities[place],
            "view": view,
            "folded": isinstance(network, InBfloat16),
            "form": self._place.form._asdict(),
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    def _ask(self, place: int, view: int, path: Path, boundary: Callable[[], None]) -> Found:
        began = time.monotonic()
        teacher = self._live.teachers[place]
        # As the teacher is by itself: students of every precision learn from the same answers.
        exact = torch.autocast(self._loader.device.type, dtype=torch.bfloat16, enabled=False)
        rows = []
        for start in range(0, self._loader.num_samples, _BATCH):
            boundary()
            ids = np.arange(start, min(start + _BATCH, self._loader.num_samples))
            views = self._loader.pictures(ids, view)
            views = views.contiguous(memory_format=torch.channels_last)
            (outputs,) = asked((teacher,), views, exact)
            rows.append(self._place.form.rows(outputs))
        whole = {name: torch.cat([each[name] for each in rows]) for name in rows[0]}
        return cache_files.write(path, whole, round(time.monotonic() - began, 3))


def _size(path: Path, otherwise: int) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # cleared away by who needs room
        return otherwise


def _of(rows: Tensor, index: Tensor) -> Tensor:
    """Those of the samples ``index`` (B,), on its device."""
    return moved(rows[index.to(rows.device)], index.device)
