"""Limits of predictions: their number, their time and their environment."""

import errno
import hashlib
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from api.http.problems import ProblemError
from api.predictions import prediction_runner
from api.predictions.prediction_runner import OnnxCache, PredictionLimiter
from kdcore.protocol.requests import ExitCode
from store import object_store
from tests.helpers import run_in_thread


def test_pending_and_running_predictions_are_limited(environment: Any) -> None:
    async def fill() -> list[ProblemError]:
        limiter = PredictionLimiter(max_pending=1, max_running=1, queue_timeout_s=0.05)
        rejections = []
        for reserve in (partial(limiter.reserve, "a project"), limiter.acquire_slot):
            async with reserve():
                try:
                    async with reserve():
                        pytest.fail("both were accepted")
                except ProblemError as busy:
                    rejections.append(busy)
            async with reserve():  # released slots are available
                pass
        return rejections

    for busy in run_in_thread(fill):
        assert (busy.status, busy.code) == (429, "busy")
        assert busy.headers["Retry-After"]


def test_one_project_cannot_take_all_slots(environment: Any) -> None:
    async def reserve_slots() -> str:
        limiter = PredictionLimiter(max_pending=4, max_running=1, queue_timeout_s=1)
        async with limiter.reserve("one"), limiter.reserve("one"):
            async with limiter.reserve("another"):
                pass
            with pytest.raises(ProblemError) as busy:
                async with limiter.reserve("one"):
                    pytest.fail("the project exceeded half of the slots")
        async with limiter.reserve("one"):
            return str(busy.value.code)

    assert run_in_thread(reserve_slots) == "busy"


def test_slow_prediction_is_killed(environment: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "request.json")  # reading it blocks forever

    with pytest.raises(ProblemError) as late:
        run_in_thread(prediction_runner.run_subprocess, tmp_path, 0.2)
    assert (late.value.status, late.value.code) == (503, "timed_out")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            assert (process / "cwd").resolve() != tmp_path
        except OSError:
            continue


def test_full_disk_is_not_the_fault_of_the_images(environment: Any, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as full:
        prediction_runner.read_predictions(tmp_path, ExitCode.NO_SPACE)
    assert full.value.errno == errno.ENOSPC


def test_subprocess_gets_no_secret(environment: Any, tmp_path: Path) -> None:
    variables = prediction_runner.subprocess_env(tmp_path)
    assert not any(name.startswith(("STILLHOUSE", "AWS")) for name in variables)


def test_least_recently_used_files_are_deleted(environment: Any, tmp_path: Path) -> None:
    cache = OnnxCache(tmp_path / "work", max_bytes=250)

    def use(number: int, key: str | None = None) -> None:
        data = bytes([number]) * 100
        digest = hashlib.sha256(data).hexdigest()
        key = key or f"{tmp_path.name}/{digest}"
        (tmp_path / "file").write_bytes(data)
        object_store.put_file(key, tmp_path / "file")
        target = tmp_path / f"{number}-{len(list(tmp_path.iterdir()))}"
        cache.link(key, digest, 100, target)
        assert target.read_bytes() == data
        os.utime(tmp_path / "work" / "onnx" / digest, (clock(), clock()))

    ticks = iter(range(10**9, 10**9 + 1000))

    def clock() -> int:
        return next(ticks)

    def cached_numbers() -> set[int]:
        return {path.read_bytes()[0] for path in (tmp_path / "work" / "onnx").iterdir()}

    for number in (1, 2, 1, 3):
        use(number)
    assert cached_numbers() == {1, 3}
    (tmp_path / "file").write_bytes(b"other bytes")
    object_store.put_file(f"{tmp_path.name}/damaged", tmp_path / "file")
    with pytest.raises(OSError, match="SHA-256"):
        cache.link(f"{tmp_path.name}/damaged", "0" * 64, 100, tmp_path / "target")
