"""The cancellation token: a heartbeat while work goes on, an error once it is cancelled."""

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
