"""What the engine says is read as it is written, and can be stored whatever it holds."""

import json
from pathlib import Path

import pytest

from tests.helpers import wait_until
from worker.engine.engine_process import EngineProcess

LINE = {"seq": 1, "time": "2026-01-01T00:00:00Z", "type": "log", "level": "info"}


@pytest.fixture
def engine(environment: dict[str, str], tmp_path: Path) -> EngineProcess:
    """An engine that ends at once, whose events the test writes."""
    from kdcore.protocol.requests import IngestRequest

    own = EngineProcess("ingest", IngestRequest(source="archive", path="/nowhere"), tmp_path)
    own.process.wait(timeout=60)
    own.kill()
    (tmp_path / "events.jsonl").unlink(missing_ok=True)
    return own


def test_only_whole_lines_are_read_and_each_once(engine: EngineProcess, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    line = json.dumps(LINE | {"message": "ä"}, ensure_ascii=False).encode()
    file.write_bytes(line + b"\n" + line[:-5])
    events, offset = engine.read_events()
    assert [event.message for event in events] == ["ä"]
    assert len(engine.read_events()[0]) == 1  # not accepted: told again
    engine.mark_stored(offset)
    assert engine.read_events()[0] == []
    with file.open("ab") as more:
        more.write(line[-5:] + b"\n")
    assert len(engine.read_events()[0]) == 1


def test_text_that_postgres_refuses_is_replaced(engine: EngineProcess, tmp_path: Path) -> None:
    message = "a\0b\udcffc"
    (tmp_path / "events.jsonl").write_text(json.dumps(LINE | {"message": message}) + "\n")
    ((event,), _) = engine.read_events()
    assert event.message == "a\ufffdb\ufffdc"


def test_the_process_knows_no_address_and_no_secret(
    environment: dict[str, str], tmp_path: Path
) -> None:
    from kdcore.protocol.requests import IngestRequest

    own = EngineProcess("ingest", IngestRequest(source="builtin:digits"), tmp_path)
    try:
        entry = Path(f"/proc/{own.process.pid}")
        # Popen returns while the kernel still lays the new program out.
        wait_until(lambda: (entry / "environ").read_bytes() != b"", 10, "it has an environment")
        told = (entry / "environ").read_bytes().decode()
        words = (entry / "cmdline").read_bytes().decode().split("\0")
    finally:
        own.kill()
    secrets = [environment[f"STILLHOUSE_{name}"] for name in ("DATABASE_URL", "SECRET_KEY")]
    assert "PYTHONSAFEPATH=1" in told  # it is the engine's own environment that was read
    assert "STILLHOUSE" not in told
    assert not any(secret in told for secret in secrets)
    assert words[1:4] == ["-m", "kdcore", "ingest"]
    assert words[5:7] == ["--workdir", str(tmp_path)]
