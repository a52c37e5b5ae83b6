"""The cancellation token: set by a signal, checked between batches."""

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
    """Whether cancellation was requested. Long work checks it between batches."""

    def __init__(self, heartbeat_file: Path | None = None) -> None:
        self._requested = False
        self._heartbeat_file = heartbeat_file
        self._last_heartbeat = 0.0

    @property
    def requested(self) -> bool:
        """True from the first SIGTERM or SIGINT on."""
        return self._requested

    def cancel(self) -> None:
        """Request cancellation at the next check."""
        self._requested = True

    def check_cancelled(self) -> None:
        """Raise :class:`RunCancelledError` if cancelled; else touch the heartbeat file."""
        failpoint("engine.check_cancelled")
        if self.requested:
            raise RunCancelledError("cancelled on request")
        if (
            self._heartbeat_file is not None
            and time.monotonic() - self._last_heartbeat > _HEARTBEAT_INTERVAL_S
        ):
            self._heartbeat_file.touch()
            self._last_heartbeat = time.monotonic()

    def install_signal_handlers(self) -> None:
        """Let SIGTERM and SIGINT request cancellation, for the rest of the process."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    @contextlib.contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT request cancellation inside the block.

        A second SIGINT raises ``KeyboardInterrupt``. Outside the main thread nothing changes,
        because Python delivers signals only there.
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
