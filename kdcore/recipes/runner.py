"""One run of a recipe in its folder: go on, reuse or begin; what is finished comes to the top."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from kdcore.protocol.events import Event, LogEvent, ReportEvent
from kdcore.recipes.prepare import Prepared, prepare
from kdcore.recipes.run_directory import Room
from kdcore.runtime.cancellation import Stop
from kdcore.runtime.errors import UserFault, item
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.diff import differing

Watch = Callable[[Event], None]


class Order(NamedTuple):
    """A recipe and where it is carried out."""

    body: object
    """As it was written: it may be wrong in any way."""
    base: Path
    """What its relative paths are relative to."""
    out: Path
    fresh: bool = False
    """Whether to forget what an earlier run left in the folder."""


def read(path: Path, out: Path | None = None, *, fresh: bool = False) -> Order:
    """The recipe in a file; its folder is by default its name in the current one.

    Raises ``UserFault`` where there is no JSON."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserFault("recipe_invalid", f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserFault("recipe_invalid", f"{path} is not JSON: {error}") from error
    return Order(body, path.resolve().parent, out or Path(path.stem), fresh)


def perform(order: Order, watch: Watch, stop: Stop) -> dict[str, Any]:
    """Carry out a recipe and return its report.

    A folder where the same recipe was stopped goes on from its checkpoint, one where it was
    finished gives its report at once. Raises what the engine raises; ``UserFault`` also where the
    folder holds another recipe's run.
    """
    room = Room(order.out.resolve())
    with room.held():
        prepared = prepare(order.body, order.base, room.work, stop, fresh=order.fresh)
        if order.fresh:
            room.clear()
        key = prepared.key()
        _same(room, key)
        report = room.finished(key)
        if report is None:
            return _run(room, prepared, key, (watch, stop))
        watch(
            LogEvent(seq=0, time="", level="info", message=f"{order.out} holds this run, finished")
        )
        return report


def _run(
    room: Room, prepared: Prepared, key: dict[str, Any], ears: tuple[Watch, Stop]
) -> dict[str, Any]:
    from kdcore.training.compute.device import (
        as_before,  # these two load torch, which takes seconds
    )
    from kdcore.training.run import run

    watch, stop = ears
    reports: list[dict[str, Any]] = []

    def hear(event: Event) -> None:
        if isinstance(event, ReportEvent):
            reports.append(event.report)
        watch(event)

    room.report.unlink(missing_ok=True)
    room.begin(key)
    path = room.work / "events.jsonl"
    with contextlib.closing(EventWriter(path, room.work, hear)) as events, room.timed() as spent:
        for warning in prepared.warnings:
            events.log("warning", warning)
        request = prepared.request.model_copy(update={"elapsed_s": spent})
        with as_before():
            run(request, room.work, events, stop)
        room.publish(reports[-1])
        events.done()
    return reports[-1]


def _same(room: Room, key: dict[str, Any]) -> None:
    """Raise where the folder's checkpoints are of another recipe: its owner may want them."""
    begun = room.begun()
    if begun is None or begun["digest"] == key["digest"]:
        return
    changed = [
        item(name, f"was {json.dumps(before)}, is {json.dumps(now)}")
        for name, (before, now) in differing(begun["job"], key["job"]).items()
    ]
    raise UserFault(
        "recipe_invalid",
        f"{room.out} holds the run of another recipe",
        hint="Choose another folder with --out, or begin anew with --fresh.",
        items=changed or [item("data and weights", "their bytes have changed")],
    )
