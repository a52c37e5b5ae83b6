"""`stillhouse up`: run the stack in the foreground until a signal or a failure."""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import FrameType

from stillhouse.local.data_dir import default_data_dir
from stillhouse.local.errors import LocalStackError, StartCancelledError
from stillhouse.local.redaction import describe_error, read_secrets, redact
from stillhouse.local.stack import Stack

# `timeout` and `make` forward a signal that the whole process group has already got. A second
# signal within this time counts as the same request.
SAME_REQUEST_S = 0.5
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@dataclass(frozen=True)
class _StopRequested:
    """A signal requested a stop."""

    signal: int


@dataclass(frozen=True)
class _Failed:
    """A process of the stack failed for good."""

    message: str


class _Ready:
    """Every process runs."""


class _Stopped:
    """Every process has ended."""


# `SimpleQueue.put` is reentrant, so a signal handler may call it at any moment.
_EventQueue = SimpleQueue[_StopRequested | _Failed | _Ready | _Stopped]


def print_line(line: str) -> None:
    """Print a line at once; a closed terminal must not prevent the stop."""
    with suppress(OSError):
        print(line, flush=True)


class ForegroundStack:
    """Runs a stack until a signal or a failure; `run` returns the exit status."""

    def __init__(self, data_dir: Path, host: str, port: int, workers: int) -> None:
        self._events: _EventQueue = SimpleQueue()
        self._stack = Stack(
            data_dir,
            host,
            port,
            workers,
            on_message=lambda line: print_line(f"  {line}"),
            on_failure=lambda message: self._events.put(_Failed(message)),
        )
        self._stop_thread: threading.Thread | None = None
        self._ready = False
        self._status = 0
        self._stop_requested_at = float("-inf")

    def run(self) -> int:
        """Start, run until a signal, stop. Other threads do the work; this one handles events."""
        previous = {number: signal.signal(number, self._on_signal) for number in STOP_SIGNALS}
        try:
            threading.Thread(target=self._start, name="start", daemon=True).start()
            while not isinstance(event := self._events.get(), _Stopped):
                self._handle(event)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
        if self._status != 1:
            print_line("stopped")
        return self._status

    def _handle(self, event: _StopRequested | _Failed | _Ready) -> None:
        match event:
            case _Ready() if self._stop_thread is None:
                # Printed in order with the signals: a signal after this line exits with 0.
                self._ready = True
                self._print_ready()
            case _Ready():
                return
            case _StopRequested() if time.monotonic() - self._stop_requested_at < SAME_REQUEST_S:
                return
            case _StopRequested() if self._stop_thread:
                print_line("killing every process")
                self._stack.force_stop()
            case _StopRequested(number):
                # A stop while the stack runs is a success; before that nothing was served.
                self._stop_requested_at = time.monotonic()
                self._status = 0 if self._ready else 128 + number
                print_line(
                    "stopping: jobs write checkpoints and are queued again (Ctrl-C again kills)"
                )
                self._stop()
            case _Failed() if self._stop_thread:
                # During the stop, processes fail because their database has stopped.
                return
            case _Failed(message):
                self._print_error(message)
                self._status = 1
                self._stop()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._events.put(_StopRequested(number))

    def _start(self) -> None:
        try:
            self._stack.start(login=True)
            self._events.put(_Ready())
        except StartCancelledError:
            return
        except LocalStackError as error:
            self._events.put(_Failed(str(error)))
        except OSError as error:
            self._events.put(_Failed(describe_error(error)))
        except Exception as error:  # noqa: BLE001 - without an event the main thread waits forever
            self._events.put(_Failed(f"unexpected error: {describe_error(error)}"))

    def _print_ready(self) -> None:
        print_line(f"ready {self._stack.url}")
        if self._stack.dashboard_url:
            print_line(f"dashboard {self._stack.dashboard_url}")
        print_line(f"  the admin's API key is in {self._stack.services.data_dir.api_key}")

    def _print_error(self, message: str) -> None:
        secrets = read_secrets(self._stack.services.data_dir.root)
        with suppress(OSError):
            print(f"stillhouse: {redact(message, secrets)}", file=sys.stderr, flush=True)

    def _stop(self) -> None:
        if self._stop_thread is None:
            self._stop_thread = threading.Thread(target=self._stop_stack, name="stop", daemon=True)
            self._stop_thread.start()

    def _stop_stack(self) -> None:
        try:
            self._stack.stop()
        except Exception as error:  # noqa: BLE001 - as above
            self._status = 1
            self._print_error(f"while stopping: {describe_error(error)}")
        self._events.put(_Stopped())


def main(data_dir: Path | None, host: str, port: int, workers: int) -> int:
    """Run `stillhouse up`; return the exit status."""
    try:
        stack = ForegroundStack(data_dir or default_data_dir(), host, port, workers)
    except LocalStackError as error:
        print(f"stillhouse: {error}", file=sys.stderr)
        return 1
    return stack.run()
