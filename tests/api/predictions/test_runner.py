"""What keeps predictions within bounds: how many there are, how long one takes, what it sees."""

import hashlib
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from api.http.problems import ProblemError
from api.predictions import onnx_cache, runner
from api.predictions.runner import PredictionLimiter
from store import object_store
from store.settings import settings
from tests.helpers import run_in_thread


def test_only_so_many_are_held_and_only_so_many_work(
    environment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "predict_queue_timeout_s", 0.05)

    async def crowded() -> list[ProblemError]:
        crowd, refused = PredictionLimiter(max_pending=1, max_running=1), []
        for place in (partial(crowd.reserve, "a project"), crowd.acquire_slot):
            async with place():
                try:
                    async with place():
                        pytest.fail("there was room for two")
                except ProblemError as busy:
                    refused.append(busy)
            async with place():  # and there is room again
                pass
        return refused

    for busy in run_in_thread(crowded):
        assert (busy.status, busy.code) == (429, "busy")
        assert busy.headers["Retry-After"]


def test_one_project_leaves_places_for_the_others(environment: Any) -> None:
    async def shared() -> str:
        crowd = PredictionLimiter(max_pending=4, max_running=1)
        async with crowd.reserve("one"), crowd.reserve("one"):
            async with crowd.reserve("another"):
                pass
            with pytest.raises(ProblemError) as busy:
                async with crowd.reserve("one"):
                    pytest.fail("it has half of the places already")
        async with crowd.reserve("one"):
            return str(busy.value.code)

    assert run_in_thread(shared) == "busy"


def test_a_process_that_takes_too_long_is_ended(
    environment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "predict_wall_s", 0.2)
    os.mkfifo(tmp_path / "request.json")  # nobody ever writes into it

    with pytest.raises(ProblemError) as late:
        run_in_thread(runner._run, tmp_path)
    assert (late.value.status, late.value.code) == (503, "timed_out")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            assert (process / "cwd").resolve() != tmp_path
        except OSError:
            continue


def test_the_process_gets_no_secret(environment: Any, tmp_path: Path) -> None:
    given = runner.subprocess_env(tmp_path)
    assert not any(name.startswith(("STILLHOUSE", "AWS")) for name in given)


def test_the_least_used_files_make_room(
    environment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "work_dir", tmp_path / "work")
    monkeypatch.setattr(settings(), "onnx_cache_bytes", 250)

    def use(number: int, key: str | None = None) -> None:
        data = bytes([number]) * 100
        digest = hashlib.sha256(data).hexdigest()
        key = key or f"{tmp_path.name}/{digest}"
        (tmp_path / "file").write_bytes(data)
        object_store.put_file(key, tmp_path / "file")
        target = tmp_path / f"{number}-{len(list(tmp_path.iterdir()))}"
        onnx_cache.link_cached(key, digest, 100, target)
        assert target.read_bytes() == data
        os.utime(tmp_path / "work" / "onnx" / digest, (clock(), clock()))

    ticks = iter(range(10**9, 10**9 + 1000))

    def clock() -> int:
        return next(ticks)

    def kept() -> set[int]:
        return {path.read_bytes()[0] for path in (tmp_path / "work" / "onnx").iterdir()}

    for number in (1, 2, 1, 3):
        use(number)
    assert kept() == {1, 3}
    (tmp_path / "file").write_bytes(b"other bytes")
    object_store.put_file(f"{tmp_path.name}/damaged", tmp_path / "file")
    with pytest.raises(OSError, match="SHA-256"):
        onnx_cache.link_cached(f"{tmp_path.name}/damaged", "0" * 64, 100, tmp_path / "target")
