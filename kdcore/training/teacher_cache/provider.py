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
from kdcore.data.transfer import to_device, to_device_if_fits
from kdcore.methods.base import Batch, Outputs
from kdcore.models.inference import Bf16Model
from kdcore.runtime.event_writer import EventWriter
from kdcore.training.loop.features import FeatureExtractor, run_teachers
from kdcore.training.teacher_cache import cache_files
from kdcore.training.teacher_cache.cache_files import TeacherCacheEntry
from kdcore.training.teacher_cache.codec import OutputCodec

_FORMAT_VERSION = 3
_BATCH_SIZE = 256


class TeacherOutputs(Protocol):
    """What the teachers of a phase say of a batch."""

    def for_batch(self, views: Tensor, batch: Batch) -> list[Outputs]:
        """Each teacher's outputs of ``views`` (B, C, H, W), without gradients."""

    def close(self) -> None:
        """Nobody asks any more."""


class LiveTeacherOutputs:
    """Asks the teachers each time."""

    def __init__(self, teachers: Sequence[FeatureExtractor], autocast: torch.autocast) -> None:
        self.teachers = tuple(teachers)
        self.autocast = autocast

    def for_batch(self, views: Tensor, batch: Batch) -> list[Outputs]:
        """Each teacher's outputs of ``views`` (B, C, H, W), without gradients."""
        return run_teachers(self.teachers, views, self.autocast)

    def close(self) -> None:
        """Take the hooks off the teachers."""
        for teacher in self.teachers:
            teacher.close()


class TeacherCacheConfig(NamedTuple):
    """Where answers are kept, in which form, and all that decides them beside teacher and view."""

    folder: Path
    key_parts: dict[str, Any]
    codec: OutputCodec = OutputCodec()


@dataclass
class TeacherCacheStats:
    """What asking the teachers cost and saved: each file of answers counts once in a run."""

    misses: int = 0
    hits: int = 0
    fill_s: float = 0.0
    saved_s: float = 0.0
    size_bytes: int = 0
    quantized_teachers: list[dict[str, Any]] = field(default_factory=list)
    """Of each teacher that was tried in eight bits: its agreement, and whether it teaches so."""
    _counted_keys: set[str] = field(default_factory=set)

    def record(self, key: str, size_bytes: int, fill_s: float, *, hit: bool) -> bool:
        """Count answers that are at hand; False where they were counted before."""
        if key in self._counted_keys:
            return False
        self._counted_keys.add(key)
        self.size_bytes += size_bytes
        if hit:
            self.hits += 1
            self.saved_s += fill_s
        else:
            self.misses += 1
            self.fill_s += fill_s
        return True

    def report_details(self) -> dict[str, Any]:
        """For the report; nothing where nothing was kept or tried."""
        quantized = (
            {"quantized_teachers": self.quantized_teachers} if self.quantized_teachers else {}
        )
        if not self._counted_keys:
            return quantized
        seconds = {"fill_s": round(self.fill_s, 3), "saved_s": round(self.saved_s, 3)}
        counted = {"misses": self.misses, "hits": self.hits, "size_bytes": self.size_bytes}
        return quantized | {"teacher_cache": counted | seconds}


class CachedTeacherOutputs:
    """Takes what was answered before; :meth:`ready` must have been called for the batch's view."""

    def __init__(
        self,
        live: LiveTeacherOutputs,
        identities: Sequence[str],
        loader: Loader,
        config: TeacherCacheConfig,
        stats: TeacherCacheStats,
    ) -> None:
        self._live, self._identities, self._loader = live, tuple(identities), loader
        self._config, self._stats = config, stats
        self._views: dict[int, list[dict[str, Tensor]]] = {}

    def for_batch(self, views: Tensor, batch: Batch) -> list[Outputs]:
        """Each teacher's outputs of the samples of ``batch``, as it gave them once."""
        return [
            self._config.codec.decode(
                {name: _select_samples(rows, batch.index) for name, rows in tensors.items()}
            )
            for tensors in self._views[batch.view]
        ]

    def close(self) -> None:
        """Forget what was read, and take the hooks off the teachers."""
        self._views.clear()
        self._live.close()

    def prepare_view(
        self, view: int, check_cancelled: Callable[[], None], events: EventWriter
    ) -> None:
        """Have the answers for a view at hand, asking the teachers where nobody has yet.

        ``boundary`` is called between two batches, and may raise; ``events`` tells of it.
        """
        if view in self._views:
            return
        cached = [
            self._load_or_compute(teacher_index, view, check_cancelled, events)
            for teacher_index in range(len(self._identities))
        ]
        # A batch needs one view: the others are files.
        device = self._loader.device
        self._views = {
            view: [
                {name: to_device_if_fits(tensors[name], device) for name in tensors}
                for tensors in cached
            ]
        }

    def _load_or_compute(
        self,
        teacher_index: int,
        view: int,
        check_cancelled: Callable[[], None],
        events: EventWriter,
    ) -> dict[str, Tensor]:
        key = self._key(teacher_index, view)
        path = self._config.folder / f"answers-{key}.safetensors"
        existing = cache_files.read(path, events)
        entry = existing or self._compute(teacher_index, view, path, check_cancelled)
        size, hit = entry.size_bytes, existing is not None
        if self._stats.record(key, size, entry.fill_s, hit=hit):
            outcome = "are there" if hit else f"are kept: {entry.fill_s:.1f} s"
            events.log("info", f"the teacher's answers for view {view} {outcome}")
            events.teacher_cache(
                key=key,
                name=path.name,
                teacher_index=teacher_index,
                seed=self._loader.view_seed,
                view=view,
                num_samples=self._loader.num_samples,
                sha256=entry.sha256,
                size_bytes=_file_size(path, size),
                fill_s=entry.fill_s,
                hit=hit,
            )
        return entry.tensors

    def _key(self, teacher_index: int, view: int) -> str:
        network = self._live.teachers[teacher_index].network.network
        key_parts = self._config.key_parts | {
            "format": _FORMAT_VERSION,
            "view_format": VIEW_FORMAT,
            "batch": _BATCH_SIZE,
            "teacher": self._identities[teacher_index],
            "view": view,
            "folded": isinstance(network, Bf16Model),
            "form": self._config.codec._asdict(),
        }
        return hashlib.sha256(json.dumps(key_parts, sort_keys=True).encode()).hexdigest()

    def _compute(
        self, teacher_index: int, view: int, path: Path, check_cancelled: Callable[[], None]
    ) -> TeacherCacheEntry:
        started = time.monotonic()
        teacher = self._live.teachers[teacher_index]
        # As the teacher is by itself: students of every precision learn from the same answers.
        no_autocast = torch.autocast(self._loader.device.type, dtype=torch.bfloat16, enabled=False)
        parts = []
        for start in range(0, self._loader.num_samples, _BATCH_SIZE):
            check_cancelled()
            ids = np.arange(start, min(start + _BATCH_SIZE, self._loader.num_samples))
            views = self._loader.views(ids, view)
            views = views.contiguous(memory_format=torch.channels_last)
            (outputs,) = run_teachers((teacher,), views, no_autocast)
            parts.append(self._config.codec.encode(outputs))
        tensors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return cache_files.write(path, tensors, round(time.monotonic() - started, 3))


def _file_size(path: Path, default: int) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # cleared away by who needs room
        return default


def _select_samples(rows: Tensor, index: Tensor) -> Tensor:
    """Those of the samples ``index`` (B,), on its device."""
    return to_device(rows[index.to(rows.device)], index.device)
