"""One recipe's output folder: what people want at its top, what the engine needs in ``.work``."""

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdcore.runtime.errors import UserError
from kdcore.runtime.files import atomic_write

_WORK = ".work"


class RunDirectory:
    """The folder of one run. Nothing else may write in it."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.work = out / _WORK
        self.report = out / "report.json"
        self._request = self.work / "request.json"
        self._published = self.work / "published.json"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep others out while the block runs. Raises ``UserFault`` if another is at work."""
        if self.out.exists() and not self.out.is_dir():
            raise UserError(
                "job_invalid", f"{self.out} is a file; a folder is needed for the output"
            )
        self.work.mkdir(parents=True, exist_ok=True)
        with (self.work / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    "job_invalid",
                    f"another run is at work in {self.out}",
                    hint="Wait for it, or choose another folder with --out.",
                ) from None
            yield

    def read_request(self) -> dict[str, Any] | None:
        """What the folder's run was asked: ``key`` and ``job``; None where it has had none."""
        request: dict[str, Any] | None = _read_json(self._request)
        return request

    def write_request(self, key: dict[str, Any]) -> None:
        """Note what the folder's run is asked, before its first step."""
        # A run that was stopped may have exported what this one is not asked for.
        shutil.rmtree(self.work / "artifacts", ignore_errors=True)
        _write_json(self._request, key)

    def clear(self) -> None:
        """Forget an earlier run: its checkpoints and all that it published."""
        for name in ("checkpoints", "artifacts"):
            shutil.rmtree(self.work / name, ignore_errors=True)
        self._remove_published()
        for path in (self.report, self._request, self.work / "spent.json"):
            path.unlink(missing_ok=True)
        (self.work / "events.jsonl").unlink(missing_ok=True)

    @property
    def has_checkpoint(self) -> bool:
        """Whether a run can go on from where an earlier one stopped."""
        return any((self.work / "checkpoints").glob("step-*.json"))

    def publish(self, report: dict[str, Any]) -> None:
        """Bring the finished files to the top; the report comes last, and means: finished.

        What an earlier run published goes: an export of another student must not stand beside
        this one.
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
        """The report of a finished run that was asked the very same; None: there is work to do."""
        report: dict[str, Any] | None = (
            _read_json(self.report) if self.read_request() == key else None
        )
        return report

    @contextlib.contextmanager
    def track_time(self) -> Iterator[float]:
        """Yield the seconds that earlier runs took; add those of the block."""
        earlier = float((_read_json(self.work / "spent.json") or {}).get("s", 0.0))
        started = time.monotonic()
        try:
            yield earlier
        finally:
            _write_json(self.work / "spent.json", {"s": earlier + time.monotonic() - started})


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _write_json(path: Path, value: Any) -> None:
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
