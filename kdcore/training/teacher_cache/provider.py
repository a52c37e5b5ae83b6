"""TeacherOutputs: the teachers' outputs for each batch, computed live or read from the cache.

If every image has a fixed number of recurring views (``training.views``), each teacher computes its
outputs once per view, for all samples in order and in batches of one size. They are stored in a
file whose name is a digest of everything that decides its bytes, so jobs share it. A file is
complete with its digest beside it, or absent. The job that fills the cache trains from the same
rounded values as later jobs.
"""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kdcore.data.loader import Loader
from kdcore.data.transfer import to_device, to_device_if_fits
from kdcore.methods.base import Batch, Outputs
from kdcore.models.inference import Bf16Model
from kdcore.protocol.teacher_cache_files import TeacherCacheSidecar, teacher_cache_file_name
from kdcore.runtime.atomic_files import atomic_write, sha256_of
from kdcore.runtime.event_writer import EventWriter
from kdcore.training.loop.features import FeatureExtractor, run_teachers
from kdcore.training.teacher_cache.cache_key import BATCH_SIZE, TeacherCacheSpec
from kdcore.training.teacher_cache.codec import exceeds_half, has_overflowed
from kdcore.training.teacher_cache.stats import TeacherCacheStats


class TeacherCacheEntry(NamedTuple):
    """Teacher outputs of one view, read from a file."""

    tensors: dict[str, Tensor]
    """Encoded outputs by name, each (num_samples, …)."""
    sha256: str
    """Digest of the file."""
    fill_s: float
    """Seconds that computing the outputs took."""

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def _write_entry(path: Path, tensors: dict[str, Tensor], fill_s: float) -> TeacherCacheEntry:
    """Write ``tensors`` and their sidecar; return the entry as the file holds it."""
    with atomic_write(path) as partial:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
        digest = sha256_of(partial)
    with atomic_write(path.with_suffix(".json")) as partial:
        partial.write_text(TeacherCacheSidecar(sha256=digest, fill_s=fill_s).model_dump_json())
    # Mapped from the file, tensors take memory only where they are read. Another process may have
    # deleted the file to make room.
    with contextlib.suppress(FileNotFoundError, SafetensorError):
        tensors = load_file(path)
    return TeacherCacheEntry(tensors, digest, fill_s)


def _read_entry(path: Path, events: EventWriter) -> TeacherCacheEntry | None:
    """The entry of a complete file, or None; a damaged file is logged."""
    sidecar_path = path.with_suffix(".json")
    entry = None
    # Not a complete file: the caller computes the outputs.
    with contextlib.suppress(FileNotFoundError, SafetensorError, ValidationError):
        sidecar = TeacherCacheSidecar.model_validate_json(sidecar_path.read_bytes())
        if sha256_of(path) == sidecar.sha256:
            entry = TeacherCacheEntry(load_file(path), sidecar.sha256, sidecar.fill_s)
            if has_overflowed(entry.tensors):
                entry = None
    if entry is None:
        if path.exists() and sidecar_path.exists():
            events.log(
                "warning",
                f"the teacher cache file {path.name} is damaged: its outputs are computed again",
            )
        return None
    with contextlib.suppress(OSError):  # the files used last are deleted last
        os.utime(path)
        os.utime(sidecar_path)
    return entry


class TeacherOutputs(Protocol):
    """Outputs of a phase's teachers, batch by batch."""

    def for_batch(self, views: Tensor, batch: Batch) -> list[Outputs]:
        """Each teacher's outputs for ``views`` (B, C, H, W), without gradients."""

    def close(self) -> None:
        """Release hooks and tensors. No batch may follow."""


class LiveTeacherOutputs:
    """Runs the teachers on every batch."""

    def __init__(self, teachers: Sequence[FeatureExtractor], autocast: torch.autocast) -> None:
        self.teachers = tuple(teachers)
        self._autocast = autocast

    def for_batch(self, views: Tensor, batch: Batch) -> list[Outputs]:
        """Each teacher's outputs for ``views`` (B, C, H, W), without gradients."""
        return run_teachers(self.teachers, views, self._autocast)

    def close(self) -> None:
        """Remove the hooks from the teachers."""
        for teacher in self.teachers:
            teacher.close()


class CachedTeacherOutputs:
    """Reads outputs from cache files; :meth:`prepare_view` must precede the batches of a view."""

    def __init__(
        self,
        live: LiveTeacherOutputs,
        loader: Loader,
        spec: TeacherCacheSpec,
        stats: TeacherCacheStats,
    ) -> None:
        self._live, self._loader, self._spec, self._stats = live, loader, spec, stats
        self._views: dict[int, list[dict[str, Tensor]]] = {}

    def for_batch(self, views: Tensor, batch: Batch) -> list[Outputs]:
        """Each teacher's cached outputs for the samples and the view of ``batch``."""
        return [
            self._spec.codec.decode(
                {name: _select_samples(rows, batch.index) for name, rows in tensors.items()}
            )
            for tensors in self._views[batch.view]
        ]

    def close(self) -> None:
        """Release the tensors and remove the hooks from the teachers."""
        self._views.clear()
        self._live.close()

    def prepare_view(
        self, view: int, check_cancelled: Callable[[], None], events: EventWriter
    ) -> None:
        """Load the outputs for a view; compute and store those that no file holds.

        ``check_cancelled`` is called before every batch and may raise. Every file is reported to
        ``events`` once per run.
        """
        if view in self._views:
            return
        entries = [
            self._load_or_compute(teacher_index, view, check_cancelled, events)
            for teacher_index in range(len(self._live.teachers))
        ]
        # Every batch has one view, so memory holds one view; the others stay in their files.
        device = self._loader.device
        self._views = {
            view: [
                {name: to_device_if_fits(entry.tensors[name], device) for name in entry.tensors}
                for entry in entries
            ]
        }

    def _load_or_compute(
        self,
        teacher_index: int,
        view: int,
        check_cancelled: Callable[[], None],
        events: EventWriter,
    ) -> TeacherCacheEntry:
        network = self._live.teachers[teacher_index].network.network
        key = self._spec.key(teacher_index, view, fused=isinstance(network, Bf16Model))
        path = self._spec.folder / teacher_cache_file_name(key)
        existing = _read_entry(path, events)
        entry = existing or self._compute(teacher_index, view, path, check_cancelled)
        size, hit, wide = entry.size_bytes, existing is not None, exceeds_half(entry.tensors)
        if self._stats.record(key, size, entry.fill_s, hit=hit):
            source = "read from the teacher cache" if hit else f"computed in {entry.fill_s:.1f} s"
            precision = ", in float32: they pass float16's range" if wide else ""
            events.log("info", f"teacher outputs for view {view}: {source}{precision}")
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
        return entry

    def _compute(
        self, teacher_index: int, view: int, path: Path, check_cancelled: Callable[[], None]
    ) -> TeacherCacheEntry:
        started = time.monotonic()
        teacher = self._live.teachers[teacher_index]
        # Without autocast, students of every precision learn from the same outputs.
        no_autocast = torch.autocast(self._loader.device.type, dtype=torch.bfloat16, enabled=False)
        parts = []
        for start in range(0, self._loader.num_samples, BATCH_SIZE):
            check_cancelled()
            ids = np.arange(start, min(start + BATCH_SIZE, self._loader.num_samples))
            views = self._loader.views(ids, view)
            views = views.contiguous(memory_format=torch.channels_last)
            (outputs,) = run_teachers((teacher,), views, no_autocast)
            parts.append(self._spec.codec.encode(outputs))
        tensors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return _write_entry(path, tensors, round(time.monotonic() - started, 3))


def _file_size(path: Path, default: int) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # another process deleted it to make room
        return default


def _select_samples(rows: Tensor, index: Tensor) -> Tensor:
    """The rows of the samples ``index`` (B,), on the device of ``index``."""
    return to_device(rows[index.to(rows.device)], index.device)
