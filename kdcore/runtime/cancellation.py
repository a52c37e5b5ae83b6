"""The wish to stop: set by a signal, looked at between batches."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from kdcore.runtime.errors import Stopped
from kdcore.runtime.failpoints import failpoint

_PULSE_S = 1.0


class Stop:
    """Whether someone asked for a stop. Long work looks at it at every batch boundary."""

    def __init__(self, pulse: Path | None = None) -> None:
        self._requested = False
        self._pulse = pulse
        self._beaten_at = 0.0

    @property
    def requested(self) -> bool:
        """True from the first SIGTERM or SIGINT on."""
        return self._requested

    def request(self) -> None:
        """Ask for a stop at the next boundary."""
        self._requested = True

    def check(self) -> None:
        """Raise :class:`~kdcore.runtime.errors.Stopped` if a stop was asked for.

        Show a sign of life.
        """
        failpoint("engine.boundary")
        if self.requested:
            raise Stopped("stopped on request")
        if self._pulse is not None and time.monotonic() - self._beaten_at > _PULSE_S:
            self._pulse.touch()
            self._beaten_at = time.monotonic()

    def listen(self) -> None:
        """Let SIGTERM and SIGINT ask for a stop instead of ending the process at once."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listen inside the block alone: before and after, the signals do what they did.

        A second SIGINT is a KeyboardInterrupt. Outside of the main thread, where Python hands over
        no signals, nothing listens.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {signal.SIGTERM: self._on_signal, signal.SIGINT: self._on_interrupt}
        before = {number: signal.signal(number, own) for number, own in handlers.items()}
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
