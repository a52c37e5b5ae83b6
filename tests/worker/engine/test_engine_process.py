"""Events of an engine are read as they are written, and Postgres can store all of them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kdcore.protocol.requests import IngestRequest
from tests.helpers import wait_until
from worker.engine.engine_process import EngineProcess, base_environment

LINE = {"seq": 1, "time": "2026-01-01T00:00:00Z", "type": "log", "level": "info", "message": "x"}


@pytest.fixture
def start_engine(environment: dict[str, str], tmp_path: Path) -> Callable[..., EngineProcess]:
    def start_in_workdir(source: str = "builtin:digits") -> EngineProcess:
        path = "/nowhere" if source == "archive" else None
        engine = EngineProcess(
            "ingest", IngestRequest(source=source, path=path), tmp_path, max_stderr_bytes=100
        )
        engine.start(base_environment())
        return engine

    return start_in_workdir


@pytest.fixture
def ended_engine(start_engine: Callable[..., EngineProcess], tmp_path: Path) -> EngineProcess:
    """An engine that has ended; the test writes its files."""
    engine = start_engine("archive")
    engine.process.wait(timeout=60)
    engine.kill()
    (tmp_path / "events.jsonl").unlink(missing_ok=True)
    return engine


def test_complete_lines_are_read_until_they_are_stored(
    ended_engine: EngineProcess, tmp_path: Path
) -> None:
    file = tmp_path / "events.jsonl"
    line = json.dumps(LINE | {"message": "ä"}, ensure_ascii=False).encode()
    file.write_bytes(line + b"\n" + line[:-5])
    events, offset = ended_engine.read_events()
    assert [event.message for event in events] == ["ä"]
    assert len(ended_engine.read_events()[0]) == 1  # not stored yet
    ended_engine.mark_stored(offset)
    assert ended_engine.read_events()[0] == []
    with file.open("ab") as more:
        more.write(line[-5:] + b"\n")
    assert len(ended_engine.read_events()[0]) == 1


def test_characters_that_postgres_refuses_are_replaced(
    ended_engine: EngineProcess, tmp_path: Path
) -> None:
    message = "a\0b\udcffc"
    (tmp_path / "events.jsonl").write_text(json.dumps(LINE | {"message": message}) + "\n")
    ((event,), _) = ended_engine.read_events()
    assert event.message == "a\ufffdb\ufffdc"


def test_many_events_are_read_in_small_batches(ended_engine: EngineProcess, tmp_path: Path) -> None:
    lines = [json.dumps(LINE | {"seq": number}) + "\n" for number in range(1200)]
    (tmp_path / "events.jsonl").write_text("".join(lines))
    seqs: list[int] = []
    sizes = []
    while True:
        batch, offset = ended_engine.read_events()
        if not batch:
            break
        sizes.append(len(batch))
        seqs += [event.seq for event in batch]
        ended_engine.mark_stored(offset)
    assert sizes == [200] * 6
    assert seqs == list(range(1200))


def test_standard_error_that_is_too_large_is_truncated(
    ended_engine: EngineProcess, tmp_path: Path
) -> None:
    log = tmp_path / "stderr.log"
    log.write_bytes(b"x" * 101)
    ended_engine.truncate_stderr()
    assert log.stat().st_size == 0
    log.write_bytes(b"the end")
    ended_engine.truncate_stderr()
    assert ended_engine.stderr_tail() == "the end"


def test_engine_has_no_addresses_and_no_secrets(
    environment: dict[str, str], start_engine: Callable[..., EngineProcess], tmp_path: Path
) -> None:
    engine = start_engine()
    try:
        entry = Path(f"/proc/{engine.process.pid}")
        # Popen returns before the kernel has set the new program up.
        wait_until(lambda: (entry / "environ").read_bytes() != b"", 60, "it has an environment")
        variables = (entry / "environ").read_bytes().decode()
        words = (entry / "cmdline").read_bytes().decode().split("\0")
    finally:
        engine.kill()
    secrets = [environment[f"STILLHOUSE_{name}"] for name in ("DATABASE_URL", "SECRET_KEY")]
    assert "PYTHONSAFEPATH=1" in variables  # the engine's environment, not that of the parent
    assert "STILLHOUSE" not in variables
    assert not any(secret in variables for secret in secrets)
    assert words[1:4] == ["-m", "kdcore", "ingest"]
    assert words[5:7] == ["--workdir", str(tmp_path)]
