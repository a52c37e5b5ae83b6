"""The output folder of one recipe: results at its top, the engine's files in ``.work``."""

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdcore.runtime.atomic_files import atomic_write
from kdcore.runtime.errors import UserError
from kdcore.schema.old_spelling import with_current_spelling

_WORK = ".work"
_REFERENCE_FIELDS = {"dataset", "teachers", "model", "from"}
"""Fields of the job in an old request, which the digest covers by the content of their files."""
_UNDIGESTED_FIELDS = ("name", "accept", "exports", "preset")
"""Fields that the digest leaves out and that the report or the published files depend on."""

_RENAMED_TRAINING = {"kept_logits": "teacher_cache_logits"}
_RENAMED_SEEDS = {"helped_by": "top1_gain"}


class RunDirectory:
    """The folder of one run. ``lock`` keeps other runs out of it."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.work = out / _WORK
        self.report = out / "report.json"
        self.events = self.work / "events.jsonl"
        self._request = self.work / "request.json"
        self._published = self.work / "published.json"
        self._run_time = self.work / "spent.json"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder inside the block. Raises ``UserError`` if another run has locked it."""
        if self.out.exists() and not self.out.is_dir():
            raise UserError("job_invalid", f"{self.out} is a file; the output needs a folder")
        self.work.mkdir(parents=True, exist_ok=True)
        with (self.work / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    "job_invalid",
                    f"another run uses the folder {self.out}",
                    hint="Wait until it ends, or choose another folder with --out.",
                ) from None
            yield

    def read_request(self) -> dict[str, Any] | None:
        """Return the ``digest`` and ``job`` of the folder's run; None if it has had no run.

        A request that an older version wrote is returned in today's form.
        """
        request: dict[str, Any] | None = _read_json(self._request)
        return request and request | {"job": _upgrade_job(request["job"])}

    def write_request(self, key: dict[str, Any]) -> None:
        """Record the digest and the job of a run before its first step."""
        # A cancelled run may have exported formats that this one does not have.
        shutil.rmtree(self.work / "artifacts", ignore_errors=True)
        _write_json(self._request, key)

    def clear(self) -> None:
        """Delete an earlier run: its checkpoints, its events and its published files."""
        for name in ("checkpoints", "artifacts"):
            shutil.rmtree(self.work / name, ignore_errors=True)
        self._remove_published()
        for path in (self.report, self.events, self._request, self._run_time):
            path.unlink(missing_ok=True)

    def publish(self, report: dict[str, Any]) -> None:
        """Move the artifacts to the top and write the report last: it marks the run as finished.

        Files that an earlier run published are deleted first, so that all exports are of one
        student.
        """
        self._remove_published()
        artifacts = sorted((self.work / "artifacts").glob("[!.]*"))
        _write_json(self._published, [path.name for path in artifacts])
        for path in artifacts:
            os.replace(path, self.out / path.name)
        _write_json(self.report, report)

    def _remove_published(self) -> None:
        for name in _read_json(self._published) or ():
            (self.out / name).unlink(missing_ok=True)
        self._published.unlink(missing_ok=True)

    def finished_report(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """Return the report if a run of exactly this job has finished, else None.

        The digest covers the fields that decide the numbers, so only the others are compared:
        the job of an older version may lack fields with default values.
        """
        request = self.read_request()
        if request is None or _compared_values(request) != _compared_values(key):
            return None
        return self.read_report()

    def read_report(self) -> dict[str, Any] | None:
        """Return the report in today's form; None if no run has finished."""
        report: dict[str, Any] | None = _read_json(self.report)
        return report and _upgrade_report(report)

    @contextlib.contextmanager
    def track_time(self) -> Iterator[float]:
        """Yield the seconds that earlier runs took; add those of the block."""
        earlier = float((_read_json(self._run_time) or {}).get("s", 0.0))
        started = time.monotonic()
        try:
            yield earlier
        finally:
            _write_json(self._run_time, {"s": earlier + time.monotonic() - started})


def _upgrade_job(job: dict[str, Any]) -> dict[str, Any]:
    """Return the job of an older version without its references and with today's names."""
    upgraded = {name: value for name, value in job.items() if name not in _REFERENCE_FIELDS}
    training = upgraded.get("training", {}).items()
    renamed = {_RENAMED_TRAINING.get(name, name): value for name, value in training}
    return upgraded | {"training": renamed}


def _upgrade_report(report: dict[str, Any]) -> dict[str, Any]:
    """Return the report of an older version with today's names."""
    seeds = {_RENAMED_SEEDS.get(name, name): value for name, value in report["seeds"].items()}
    return with_current_spelling(report) | {"seeds": seeds}


def _compared_values(request: dict[str, Any]) -> list[Any]:
    return [request["digest"], *(request["job"].get(name) for name in _UNDIGESTED_FIELDS)]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _write_json(path: Path, value: Any) -> None:
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
