"""A full disk has an exit code, however the library reports it."""

import contextlib
import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from kdcore.protocol.requests import ExitCode
from kdcore.runtime.event_writer import EventWriter
from kdcore.runtime.exit_codes import report_failure


def write_bytes(file):
    file.write(bytes(100_000))


def save_checkpoint(file):
    torch.save({"weight": torch.ones(100_000)}, file)


def exceed_quota(file):
    raise OSError(errno.EDQUOT, "Disk quota exceeded")


def save_safetensors(file):
    # As safetensors reports it. The library itself would replace the device file.
    raise SafetensorError("I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("write", [write_bytes, save_checkpoint, exceed_quota, save_safetensors])
def test_full_disk_has_an_exit_code(tmp_path, write):
    # Unbuffered, because closing a buffered file would raise again and hide the first error.
    with (
        open("/dev/full", "wb", buffering=0) as file,
        pytest.raises((OSError, RuntimeError, SafetensorError)) as raised,
    ):
        write(file)
    error = raised.value
    with contextlib.closing(EventWriter(tmp_path / "events.jsonl", tmp_path)) as events:
        assert report_failure(error, events) == ExitCode.NO_SPACE
    (event,) = map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())
    assert event["code"] == "storage_unavailable"


def test_full_disk_is_reported_even_where_no_event_can_be_written(tmp_path):
    events = EventWriter(Path("/dev/full"), tmp_path)
    with pytest.raises(OSError, match="No space left"):
        events.log("info", "x")
    assert report_failure(OSError(errno.ENOSPC, "full"), events) == ExitCode.NO_SPACE
    events.close()
