"""The cancellation token: a heartbeat while work goes on, an error once it is cancelled."""

import signal
import threading

import pytest

from kdcore.protocol.requests import HEARTBEAT_FILE
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import RunCancelledError


def test_check_writes_a_heartbeat_and_raises_once_cancelled(tmp_path):
    cancellation = CancellationToken(tmp_path / HEARTBEAT_FILE)
    assert not (tmp_path / HEARTBEAT_FILE).exists()
    cancellation.check_cancelled()
    assert (tmp_path / HEARTBEAT_FILE).exists()
    cancellation.cancel()
    with pytest.raises(RunCancelledError):
        cancellation.check_cancelled()


def test_signals_cancel_inside_the_block_and_handlers_are_restored():
    before = signal.getsignal(signal.SIGINT)
    cancellation = CancellationToken()
    with cancellation.handle_signals():
        signal.raise_signal(signal.SIGINT)
        assert cancellation.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_threads_leave_signal_handlers_unchanged():
    before = signal.getsignal(signal.SIGINT)
    handlers = []

    def read_handler():
        with CancellationToken().handle_signals():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=read_handler)
    thread.start()
    thread.join()
    assert handlers == [before]
