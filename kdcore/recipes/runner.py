"""Run a recipe in its folder: start it, resume it, or return its finished report."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from kdcore.protocol.events import EngineEvent, LogEvent, ReportEvent
from kdcore.recipes.prepare import PreparedRun, prepare
from kdcore.recipes.run_directory import RunDirectory
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import UserError, error_detail
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.diff import find_differences

EventCallback = Callable[[EngineEvent], None]


class RunSpec(NamedTuple):
    """A recipe and the folders of its run."""

    body: object
    """The recipe as parsed JSON, not validated yet."""
    base: Path
    """The folder that the recipe's relative paths start from."""
    out: Path
    """The output folder."""
    fresh: bool = False
    """Whether to delete an earlier run in the output folder first."""


def read_recipe(path: Path, out: Path | None = None, *, fresh: bool = False) -> RunSpec:
    """Read the recipe in ``path``; ``out`` is by default the file's stem in the current folder.

    Raises ``UserError`` if the file cannot be read or is not JSON.
    """
    try:
        body = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError("job_invalid", f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError("job_invalid", f"{path} is not JSON: {error}") from error
    return RunSpec(body, path.resolve().parent, out or Path(path.stem), fresh)


def run_recipe(
    run_spec: RunSpec, on_event: EventCallback, cancellation: CancellationToken
) -> dict[str, Any]:
    """Run a recipe and return its report.

    If the output folder has a cancelled run of the same recipe, the run resumes from its
    checkpoint; if it has a finished one, its report is returned at once.

    Raises:
        UserError: the recipe or one of its files is invalid, another process uses the output
            folder, or the folder has the run of another recipe.
        RunCancelledError: ``cancellation`` was requested; a checkpoint is written if training
            had started.
        NonFiniteError, OutOfDeviceMemoryError: see :mod:`kdcore.runtime.errors`.
    """
    run_dir = RunDirectory(run_spec.out.resolve())
    with run_dir.lock():
        prepared = prepare(
            run_spec.body, run_spec.base, run_dir.work, cancellation, fresh=run_spec.fresh
        )
        if run_spec.fresh:
            run_dir.clear()
        key = prepared.key()
        _check_same_recipe(run_dir, key)
        report = run_dir.finished_report(key)
        if report is None:
            return _run(run_dir, prepared, key, (on_event, cancellation))
        on_event(
            LogEvent(
                seq=0,
                time="",
                level="info",
                message=f"{run_spec.out} has the finished run of this recipe",
            )
        )
        return report


def _run(
    run_dir: RunDirectory,
    prepared: PreparedRun,
    key: dict[str, Any],
    hooks: tuple[EventCallback, CancellationToken],
) -> dict[str, Any]:
    # These load torch, which takes seconds; preparation reports most errors without it.
    from kdcore.training.compute.device import restore_torch_state
    from kdcore.training.run import run_job

    on_event, cancellation = hooks
    reports: list[dict[str, Any]] = []

    def record_report(event: EngineEvent) -> None:
        if isinstance(event, ReportEvent):
            reports.append(event.report)
        on_event(event)

    run_dir.report.unlink(missing_ok=True)
    run_dir.write_request(key)
    with (
        contextlib.closing(EventWriter(run_dir.events, run_dir.work, record_report)) as events,
        run_dir.track_time() as elapsed_s,
    ):
        if prepared.measured is not None:
            events.log("info", f"measured are {prepared.measured}")
        for warning in prepared.warnings:
            events.log("warning", warning)
        request = prepared.request.model_copy(update={"elapsed_s": elapsed_s})
        with restore_torch_state():
            run_job(request, run_dir.work, events, cancellation)
        run_dir.publish(reports[-1])
        events.report_done()
    return reports[-1]


def _check_same_recipe(run_dir: RunDirectory, key: dict[str, Any]) -> None:
    """Raise if the folder's checkpoints are of another recipe, because its user may need them."""
    previous = run_dir.read_request()
    if previous is None or previous["digest"] == key["digest"]:
        return
    changed = [
        error_detail(name, f"was {json.dumps(before)}, is {json.dumps(now)}")
        for name, (before, now) in find_differences(previous["job"], key["job"]).items()
    ]
    raise UserError(
        "job_invalid",
        f"{run_dir.out} holds the run of another recipe",
        hint="Choose another folder with --out, or delete the earlier run with --fresh.",
        items=changed or [error_detail("data and weights", "the files have changed")],
    )
