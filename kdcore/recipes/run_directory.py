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

from kdcore.runtime.errors import UserFault
from kdcore.runtime.files import replacing

_WORK = ".work"


class Room:
    """The folder of one run. Nothing else may write in it."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.work = out / _WORK
        self.report = out / "report.json"
        self._request = self.work / "request.json"
        self._published = self.work / "published.json"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep others out while the block runs. Raises ``UserFault`` if another is at work."""
        if self.out.exists() and not self.out.is_dir():
            raise UserFault(
                "recipe_invalid", f"{self.out} is a file; a folder is needed for the output"
            )
        self.work.mkdir(parents=True, exist_ok=True)
        with (self.work / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserFault(
                    "recipe_invalid",
                    f"another run is at work in {self.out}",
                    hint="Wait for it, or choose another folder with --out.",
                ) from None
            yield

    def begun(self) -> dict[str, Any] | None:
        """What the folder's run was asked: ``key`` and ``job``; None where it has had none."""
        found: dict[str, Any] | None = _json(self._request)
        return found

    def begin(self, key: dict[str, Any]) -> None:
        """Note what the folder's run is asked, before its first step."""
        # A run that was stopped may have exported what this one is not asked for.
        shutil.rmtree(self.work / "artifacts", ignore_errors=True)
        _write(self._request, key)

    def clear(self) -> None:
        """Forget an earlier run: its checkpoints and all that it published."""
        for name in ("checkpoints", "artifacts"):
            shutil.rmtree(self.work / name, ignore_errors=True)
        self._withdraw()
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
        self._withdraw()
        made = sorted((self.work / "artifacts").glob("[!.]*"))
        _write(self._published, [path.name for path in made])
        for path in made:
            os.replace(path, self.out / path.name)
        _write(self.report, report)

    def _withdraw(self) -> None:
        for name in _json(self._published) or ():
            (self.out / name).unlink(missing_ok=True)
        self._published.unlink(missing_ok=True)

    def finished(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """The report of a finished run that was asked the very same; None: there is work to do."""
        found: dict[str, Any] | None = _json(self.report) if self.begun() == key else None
        return found

    @contextlib.contextmanager
    def timed(self) -> Iterator[float]:
        """Yield the seconds that earlier runs took; add those of the block."""
        earlier = float((_json(self.work / "spent.json") or {}).get("s", 0.0))
        started = time.monotonic()
        try:
            yield earlier
        finally:
            _write(self.work / "spent.json", {"s": earlier + time.monotonic() - started})


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _write(path: Path, value: Any) -> None:
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
