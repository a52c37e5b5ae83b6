"""Write the engine's events: one JSON object in a line, flushed after every event."""

import contextlib
import datetime
import json
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdcore.protocol.events import (
    ArtifactEvent,
    CheckpointEvent,
    DoneEvent,
    EngineEvent,
    ErrorCode,
    ErrorDetail,
    ErrorEvent,
    IngestSummaryEvent,
    LogEvent,
    LogLevel,
    MetricsEvent,
    NonFinite,
    PhaseEvent,
    Progress,
    ReportEvent,
    TeacherCacheEvent,
)
from kdcore.runtime.atomic_files import sha256_of
from kdcore.runtime.errors import MAX_ITEMS
from kdcore.schema.asset_info import IngestSummary


class EventWriter:
    """Appends events to a file; numbers continue after those of an earlier run.

    Paths in events are relative to ``workdir``. Threads may share one writer. ``on_event`` gets
    every written event, for a progress bar for instance.
    """

    def __init__(
        self, path: Path, workdir: Path, on_event: Callable[[EngineEvent], None] | None = None
    ) -> None:
        self.workdir = workdir.resolve()
        self._on_event = on_event
        path.parent.mkdir(parents=True, exist_ok=True)
        self._seq = _cut_partial_line(path)
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()
        self._started = time.monotonic()

    def close(self) -> None:
        """Close the file. Nothing may be written after that."""
        # Every event is flushed when it is written, so a full disk was reported before.
        with contextlib.suppress(OSError):
            self._file.close()

    def phase(self, name: str, runtime: dict[str, Any] | None = None) -> None:
        """Start a phase; the first phase of a run has the engine's choices in ``runtime``."""
        self._write(PhaseEvent, phase=name, runtime=runtime)

    def metrics(  # noqa: PLR0913 - details, all by keyword
        self,
        step: int,
        epoch: float,
        values: Mapping[str, float],
        *,
        wall_s: float | None = None,
        phase_epochs: int | None = None,
        progress: Progress | None = None,
        eta_s: float | None = None,
    ) -> None:
        """Report values; ``non_finite`` says which null was NaN or an infinity.

        ``wall_s`` counts from the start.
        """
        self._write(
            MetricsEvent,
            step=step,
            epoch=epoch,
            wall_s=time.monotonic() - self._started if wall_s is None else wall_s,
            values={name: v if math.isfinite(v) else None for name, v in values.items()},
            non_finite={
                name: _describe_non_finite(v) for name, v in values.items() if not math.isfinite(v)
            },
            phase_epochs=phase_epochs,
            progress=progress,
            eta_s=eta_s,
        )

    def teacher_cache(self, **fields: Any) -> None:
        """Report a file of a teacher's cached outputs; fields of :class:`TeacherCacheEvent`."""
        self._write(TeacherCacheEvent, **fields)

    def log(self, level: LogLevel, message: str) -> None:
        """Log a message for people."""
        self._write(LogEvent, level=level, message=message)

    def checkpoint(
        self, path: Path, *, step: int, epoch: float, metrics: Mapping[str, float]
    ) -> None:
        """Report a complete checkpoint, from which a later run can continue."""
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        self._write(
            CheckpointEvent, **self._file_fields(path), step=step, epoch=epoch, metrics=finite
        )

    def artifact(self, path: Path, name: str, file_format: str, media_type: str) -> None:
        """Report a finished file for the user."""
        self._write(
            ArtifactEvent,
            **self._file_fields(path),
            name=name,
            format=file_format,
            media_type=media_type,
        )

    def report(self, report: dict[str, Any]) -> None:
        """Report the result, as JSON values."""
        self._write(ReportEvent, report=report)

    def ingest_summary(self, summary: IngestSummary) -> None:
        """Report what ingestion read of an upload."""
        self._write(IngestSummaryEvent, summary=summary)

    def error(
        self,
        code: ErrorCode,
        message: str,
        hint: str | None = None,
        items: Sequence[ErrorDetail] = (),
        num_items: int | None = None,
        **repair: Any,
    ) -> None:
        """Report why the run ends without a result; ``num_items`` counts ``items`` by default.

        ``repair`` are the fields ``fix``, ``likely_class_order`` and ``fix_fields`` of
        :class:`ErrorEvent`.
        """
        self._write(
            ErrorEvent,
            code=code,
            message=message,
            hint=hint,
            items=tuple(items[:MAX_ITEMS]),
            num_items=len(items) if num_items is None else num_items,
            **repair,
        )

    def report_done(self) -> None:
        """Report the end of the run: the last event."""
        self._write(DoneEvent)

    def _file_fields(self, path: Path) -> dict[str, Any]:
        return {
            "path": path.resolve().relative_to(self.workdir).as_posix(),
            "sha256": sha256_of(path),
            "size_bytes": path.stat().st_size,
        }

    def _write(self, kind: type[EngineEvent], **fields: Any) -> None:
        with self._lock:
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
            event = kind(seq=self._seq + 1, time=now.replace("+00:00", "Z"), **fields)
            self._file.write(event.model_dump_json() + "\n")
            self._file.flush()
            self._seq += 1
        if self._on_event is not None:
            self._on_event(event)


def _describe_non_finite(value: float) -> NonFinite:
    if math.isnan(value):
        return "nan"
    return "infinity" if value > 0 else "-infinity"


def _cut_partial_line(path: Path) -> int:
    """Remove a partial last line of a killed run; return the number of the last event."""
    if not path.is_file():
        return 0  # a new file, or a device, which keeps no lines
    complete_lines = path.read_bytes()
    complete_lines = complete_lines[: complete_lines.rfind(b"\n") + 1]
    os.truncate(path, len(complete_lines))
    if not complete_lines:
        return 0
    last = complete_lines.rstrip(b"\n").rpartition(b"\n")[2]
    return int(json.loads(last)["seq"])
