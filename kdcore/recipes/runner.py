"""One run of a recipe in its folder: go on, reuse or begin; what is finished comes to the top."""

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
    """A recipe and where it is carried out."""

    body: object
    """As it was written: it may be wrong in any way."""
    base: Path
    """What its relative paths are relative to."""
    out: Path
    fresh: bool = False
    """Whether to forget what an earlier run left in the folder."""


def read_recipe(path: Path, out: Path | None = None, *, fresh: bool = False) -> RunSpec:
    """The recipe in a file; its folder is by default its name in the current one.

    Raises ``UserFault`` where there is no JSON."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError("job_invalid", f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError("job_invalid", f"{path} is not JSON: {error}") from error
    return RunSpec(body, path.resolve().parent, out or Path(path.stem), fresh)


def run_recipe(
    run_spec: RunSpec, on_event: EventCallback, cancellation: CancellationToken
) -> dict[str, Any]:
    """Carry out a recipe and return its report.

    A folder where the same recipe was stopped goes on from its checkpoint, one where it was
    finished gives its report at once. Raises what the engine raises; ``UserFault`` also where the
    folder holds another recipe's run.
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
                seq=0, time="", level="info", message=f"{run_spec.out} holds this run, finished"
            )
        )
        return report


def _run(
    run_dir: RunDirectory,
    prepared: PreparedRun,
    key: dict[str, Any],
    hooks: tuple[EventCallback, CancellationToken],
) -> dict[str, Any]:
    from kdcore.training.compute.device import (
        restore_torch_state,  # these two load torch, which takes seconds
    )
    from kdcore.training.run import run_job

    on_event, cancellation = hooks
    reports: list[dict[str, Any]] = []

    def record_report(event: EngineEvent) -> None:
        if isinstance(event, ReportEvent):
            reports.append(event.report)
        on_event(event)

    run_dir.report.unlink(missing_ok=True)
    run_dir.write_request(key)
    path = run_dir.work / "events.jsonl"
    with (
        contextlib.closing(EventWriter(path, run_dir.work, record_report)) as events,
        run_dir.track_time() as elapsed_s,
    ):
        for warning in prepared.warnings:
            events.log("warning", warning)
        request = prepared.request.model_copy(update={"elapsed_s": elapsed_s})
        with restore_torch_state():
            run_job(request, run_dir.work, events, cancellation)
        run_dir.publish(reports[-1])
        events.done()
    return reports[-1]


def _check_same_recipe(run_dir: RunDirectory, key: dict[str, Any]) -> None:
    """Raise where the folder's checkpoints are of another recipe: its owner may want them."""
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
        hint="Choose another folder with --out, or begin anew with --fresh.",
        items=changed or [error_detail("data and weights", "their bytes have changed")],
    )
