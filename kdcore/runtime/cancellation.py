"""The wish to stop: set by a signal, looked at between batches."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from kdcore.runtime.errors import RunCancelledError
from kdcore.runtime.failpoints import failpoint

_HEARTBEAT_INTERVAL_S = 1.0


class CancellationToken:
    """Whether someone asked for a stop. Long work looks at it at every batch boundary."""

    def __init__(self, heartbeat_file: Path | None = None) -> None:
        self._requested = False
        self._heartbeat_file = heartbeat_file
        self._last_heartbeat = 0.0

    @property
    def requested(self) -> bool:
        """True from the first SIGTERM or SIGINT on."""
        return self._requested

    def cancel(self) -> None:
        """Ask for a stop at the next boundary."""
        self._requested = True

    def check_cancelled(self) -> None:
        """Raise :class:`~kdcore.runtime.errors.Stopped` if a stop was asked for.

        Show a sign of life.
        """
        failpoint("engine.check_cancelled")
        if self.requested:
            raise RunCancelledError("stopped on request")
        if (
            self._heartbeat_file is not None
            and time.monotonic() - self._last_heartbeat > _HEARTBEAT_INTERVAL_S
        ):
            self._heartbeat_file.touch()
            self._last_heartbeat = time.monotonic()

    def install_signal_handlers(self) -> None:
        """Let SIGTERM and SIGINT ask for a stop instead of ending the process at once."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    @contextlib.contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Listen inside the block alone: before and after, the signals do what they did.

        A second SIGINT is a KeyboardInterrupt. Outside of the main thread, where Python hands over
        no signals, nothing listens.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {signal.SIGTERM: self._on_signal, signal.SIGINT: self._on_interrupt}
        before = {
            number: signal.signal(number, signal_handler)
            for number, signal_handler in handlers.items()
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _on_interrupt(self, _number: int, _frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested = True

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._requested = True
