"""`stillhouse up`: the stack in the foreground, and what signals mean to it."""

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

from stillhouse.local.errors import LocalError, StartCancelledError
from stillhouse.local.stack import Stack

# Some programs that run others (timeout, make) pass a signal on that the whole group got already.
SAME_REQUEST_S = 0.5
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class _StopRequested:
    """Someone wants it to stop."""

    signal: int


@dataclass(frozen=True)
class _Failed:
    """The stack cannot go on."""

    message: str


class _Ready:
    """Everything runs."""


class _Stopped:
    """Everything has ended."""


# A signal may come at any instant; putting into this queue is safe even then.
_EventQueue = SimpleQueue[_StopRequested | _Failed | _Ready | _Stopped]


def print_line(line: str) -> None:
    """Print a line now; a terminal that has gone away must not keep us from stopping."""
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
        """Start, stay, stop. The work is done in other threads: this one listens."""
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
                # Said in order with the signals: who has read it may count on an orderly end.
                self._ready = True
                self._print_ready()
            case _Ready():
                return
            case _StopRequested() if time.monotonic() - self._stop_requested_at < SAME_REQUEST_S:
                return
            case _StopRequested() if self._stop_thread:
                print_line("killing every part now")
                self._stack.force_stop()
            case _StopRequested(number):
                # Asked for while it ran, a stop is an orderly end; before that nothing was served.
                self._stop_requested_at = time.monotonic()
                self._status = 0 if self._ready else 128 + number
                print_line(
                    "stopping: jobs are checkpointed and queued again (once more: kill at once)"
                )
                self._stop()
            case _Failed() if self._stop_thread:
                # What fails now fails because its database is being stopped, or is said already.
                return
            case _Failed(message):
                with suppress(OSError):
                    print(f"stillhouse: {message}", file=sys.stderr, flush=True)
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
        except LocalError as error:
            self._events.put(_Failed(str(error)))
        except Exception as error:  # noqa: BLE001 - the main thread must hear of it, or it waits for ever
            self._events.put(_Failed(f"an unexpected fault: {error!r}"))

    def _print_ready(self) -> None:
        print_line(f"ready {self._stack.url}")
        if self._stack.dashboard_url:
            print_line(f"dashboard {self._stack.dashboard_url}")
        print_line(f"  the admin's API key is in {self._stack.services.data_dir.api_key}")

    def _stop(self) -> None:
        if self._stop_thread is None:
            self._stop_thread = threading.Thread(target=self._stop_stack, name="stop", daemon=True)
            self._stop_thread.start()

    def _stop_stack(self) -> None:
        try:
            self._stack.stop()
        except Exception as error:  # noqa: BLE001 - as above
            self._status = 1
            with suppress(OSError):
                print(f"stillhouse: while stopping: {error!r}", file=sys.stderr, flush=True)
        self._events.put(_Stopped())
