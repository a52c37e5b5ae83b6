"""The wish to stop: set by a signal, looked at between batches."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from kdcore.errors import Stopped


class Stop:
    """Whether someone asked for a stop. Long work looks at it at every batch boundary."""

    def __init__(self) -> None:
        self._requested = False

    @property
    def requested(self) -> bool:
        """True from the first SIGTERM or SIGINT on."""
        return self._requested

    def request(self) -> None:
        """Ask for a stop at the next boundary."""
        self._requested = True

    def check(self) -> None:
        """Raise :class:`~kdcore.errors.Stopped` if a stop was asked for."""
        if self._requested:
            raise Stopped("stopped on request")

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
