"""From a request file to an exit code: parse, limit, run, and say how it ended."""

import argparse
import contextlib
import errno
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from kdcore.protocol.events import ErrorCode
from kdcore.protocol.requests import (
    PULSE,
    ConvertRequest,
    Exit,
    IngestRequest,
    Request,
    RunRequest,
    VerifyRequest,
)
from kdcore.runtime import limits
from kdcore.runtime.cancellation import Stop
from kdcore.runtime.errors import NonFinite, OutOfDeviceMemory, Stopped, UserFault, item
from kdcore.runtime.event_writer import EventWriter

_CRASH = 1
_Handler = Callable[[Any, Path, EventWriter, Stop], None]


class Command(NamedTuple):
    """One verb of the process."""

    request: type[Request]
    load: Callable[[], _Handler]
    """Imports the code only when it is wanted and after limits are set."""
    fault: ErrorCode | None
    """What a breach of the limits says about the input; None where the input cannot cause it."""


def _load_run() -> _Handler:
    from kdcore.training.run import run

    return run


def _load_ingest() -> _Handler:
    from kdcore.data.ingest.pipeline import ingest

    return ingest


def _load_verify() -> _Handler:
    from kdcore.weights.verify import verify

    return verify


def _load_convert() -> _Handler:
    from kdcore.export.convert import convert

    return convert


COMMANDS = {
    "run": Command(RunRequest, _load_run, None),
    "ingest": Command(IngestRequest, _load_ingest, "dataset_invalid"),
    "verify": Command(VerifyRequest, _load_verify, "checkpoint_invalid"),
    "convert": Command(ConvertRequest, _load_convert, "no_onnx"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; see :class:`kdcore.protocol.requests.Exit`."""
    options = _parse(arguments)
    if options.supervised:
        limits.die_with_supervisor()
    workdir: Path = options.workdir
    path = options.events or workdir / "events.jsonl"
    return serve(options.command, options.request, workdir, path)


def serve(command: str, request: Path, workdir: Path, told: Path) -> int:
    """Run what the file ``request`` asks; the events go to the file ``told``."""
    workdir.mkdir(parents=True, exist_ok=True)
    stop = Stop(workdir / PULSE)
    stop.listen()
    with contextlib.closing(EventWriter(told, workdir)) as events:
        return _run(COMMANDS[command], request, workdir, events, stop)


def _run(command: Command, path: Path, workdir: Path, events: EventWriter, stop: Stop) -> int:
    try:
        request = _request(command, path)
        limits.apply(request)
        command.load()(request, workdir, events, stop)
    except BaseException as error:  # noqa: BLE001 - the last stop: every end has an exit code
        return ending(error, events, command)
    events.done()
    return Exit.DONE


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m kdcore", description=__doc__)
    parser.add_argument("command", choices=sorted(COMMANDS))
    parser.add_argument("request", type=Path, help="a request as JSON")
    parser.add_argument("--workdir", type=Path, required=True, help="room for what is written")
    parser.add_argument("--events", type=Path, help="default: events.jsonl in the workdir")
    parser.add_argument(
        "--supervised", action="store_true", help="end when the other end of stdin closes"
    )
    return parser.parse_args(arguments)


def _request(command: Command, path: Path) -> Request:
    try:
        return command.request.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserFault("internal", f"the request cannot be read: {error}") from error
    except ValidationError as error:
        raise UserFault(
            "internal",
            f"the request is not a {command.request.__name__}",
            items=[
                item(".".join(map(str, fault["loc"])) or "request", fault["msg"])
                for fault in error.errors(include_url=False, include_input=False)
            ],
        ) from error


def ending(error: BaseException, events: EventWriter, command: Command | None = None) -> int:
    """Tell how a run ended and return its exit code; a crash's traceback goes to stderr."""
    fault = _as_user_fault(error, command)
    if fault is not None:
        events.error(fault.code, fault.message, fault.hint, fault.items)
        return Exit.USER_FAULT
    if isinstance(error, Stopped):
        events.log("info", str(error))
        return Exit.STOPPED
    if isinstance(error, NonFinite):
        events.error("non_finite_loss", str(error))
        return Exit.NON_FINITE
    if isinstance(error, OutOfDeviceMemory | MemoryError) or _is_torch_oom(error):
        events.error("out_of_memory", str(error) or "the process has no memory left")
        return Exit.OUT_OF_MEMORY
    if _disk_full(error):
        with contextlib.suppress(OSError):  # the events lie on that disk, too
            events.error("storage_unavailable", "the disk of the worker is full")
        return Exit.NO_SPACE
    traceback.print_exception(error, file=sys.stderr)
    return _CRASH


def _disk_full(error: BaseException) -> bool:
    """Whether it is, or came of, a write that had no room."""
    each: BaseException | None = error
    while each is not None:
        if isinstance(each, OSError) and each.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        # safetensors says the number in words
        if any(f"os error {number})" in str(each) for number in (errno.ENOSPC, errno.EDQUOT)):
            return True
        # What torch raises when it closes a file that had no room hides what the write raised.
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return False


def _as_user_fault(error: BaseException, command: Command | None) -> UserFault | None:
    if isinstance(error, UserFault):
        return error
    if command is None or command.fault is None:
        return None
    breach = _breach(error)
    if breach is None:
        return None
    return UserFault(command.fault, f"the upload takes more {breach} to open than it may")


def _breach(error: BaseException) -> str | None:
    """Which limit of the process an exception speaks of."""
    if isinstance(error, limits.CpuTimeExceeded):
        return "processor time"
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return "room on disk"
    # torch's allocator on the host raises a bare RuntimeError; its words are all there is.
    no_memory = isinstance(error, RuntimeError) and "allocate memory" in str(error)
    if no_memory or isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return "memory"
    return None


def _is_torch_oom(error: BaseException) -> bool:
    # By name, so that this module need not load torch to look at an exception.
    return type(error).__name__ == "OutOfMemoryError"
