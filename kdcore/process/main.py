"""Run one command of the engine: read its request, set limits, run it, return an exit code."""

import argparse
import contextlib
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from kdcore.protocol.events import ErrorCode
from kdcore.protocol.requests import (
    HEARTBEAT_FILE,
    ConvertRequest,
    EngineRequest,
    ExitCode,
    IngestRequest,
    RunRequest,
    VerifyRequest,
)
from kdcore.runtime import limits
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import (
    UserError,
    error_detail,
)
from kdcore.runtime.event_writer import EventWriter
from kdcore.runtime.exit_codes import report_failure

_Handler = Callable[[Any, Path, EventWriter, CancellationToken], None]


class Command(NamedTuple):
    """One command of the process."""

    request: type[EngineRequest]
    handler: str
    """Dotted name of the function, which is imported after limits are set."""
    limit_error_code: ErrorCode | None = None
    """Error code for an exceeded limit, if the input can cause it."""

    def load(self) -> _Handler:
        """Import the handler."""
        module, _, name = self.handler.rpartition(".")
        handler: _Handler = getattr(importlib.import_module(module), name)
        return handler


COMMANDS = {
    "run": Command(RunRequest, "kdcore.training.run.run_job"),
    "ingest": Command(IngestRequest, "kdcore.data.ingest.pipeline.ingest", "dataset_invalid"),
    "verify": Command(VerifyRequest, "kdcore.weights.verify.verify", "checkpoint_invalid"),
    "convert": Command(ConvertRequest, "kdcore.export.convert.convert", "no_onnx"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return an exit code of :class:`kdcore.protocol.requests.ExitCode`."""
    options = _parse(arguments)
    if options.supervised:
        limits.exit_with_supervisor()
    workdir: Path = options.workdir
    path = options.events or workdir / "events.jsonl"
    return run_request(options.command, options.request, workdir, path)


def run_request(command: str, request: Path, workdir: Path, events_file: Path) -> int:
    """Run the request in the file ``request`` and return the exit code.

    ``command`` is a name in :data:`COMMANDS`. Events go to ``events_file``.
    """
    return run_command(COMMANDS[command], request, workdir, events_file)


def run_command(command: Command, request: Path, workdir: Path, events_file: Path) -> int:
    """Run ``command`` as :func:`run_request` does; signals and limits are this process's."""
    workdir.mkdir(parents=True, exist_ok=True)
    cancellation = CancellationToken(workdir / HEARTBEAT_FILE)
    cancellation.install_signal_handlers()
    with contextlib.closing(EventWriter(events_file, workdir)) as events:
        return _run(command, request, workdir, events, cancellation)


def _run(
    command: Command,
    path: Path,
    workdir: Path,
    events: EventWriter,
    cancellation: CancellationToken,
) -> int:
    try:
        request = _load_request(command, path)
        limits.apply_limits(request)
        command.load()(request, workdir, events, cancellation)
        limits.ignore_cpu_limit()
    except BaseException as error:  # noqa: BLE001 - every end has an exit code
        limits.ignore_cpu_limit()
        return report_failure(error, events, command.limit_error_code)
    events.report_done()
    return ExitCode.DONE


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m kdcore", description=__doc__)
    parser.add_argument("command", choices=sorted(COMMANDS))
    parser.add_argument("request", type=Path, help="a request as JSON")
    parser.add_argument(
        "--workdir", type=Path, required=True, help="folder for everything that is written"
    )
    parser.add_argument("--events", type=Path, help="default: events.jsonl in the workdir")
    parser.add_argument(
        "--supervised", action="store_true", help="exit when the other end of stdin closes"
    )
    return parser.parse_args(arguments)


def _load_request(command: Command, path: Path) -> EngineRequest:
    try:
        return command.request.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError("internal", f"the request cannot be read: {error}") from error
    except ValidationError as error:
        raise UserError(
            "internal",
            f"the request is not a valid {command.request.__name__}",
            items=[
                error_detail(".".join(map(str, issue["loc"])) or "request", issue["msg"])
                for issue in error.errors(include_url=False, include_input=False)
            ],
        ) from error
