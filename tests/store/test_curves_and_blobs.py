"""Curves are thinned and keep their extremes; objects appear whole or not at all."""

import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest


@pytest.fixture
def job(new_tenant: Callable[[], Any]) -> Any:
    from store import jobs
    from store.database import transaction
    from store.ids import new_id
    from store.tables import Job

    with transaction() as session:
        row = Job(
            id=new_id("job"),
            project_id=new_tenant().id,
            kind="distill",
            lane="train",
            name="a job",
            labels={},
            priority=0,
            spec={},
            resolved={},
            model_ids=[],
            methods=[],
            summary={},
        )
        jobs.create(session, row)
        jobs.cancel(session, row)
        return row


def told(step: int, **values: float | None) -> Any:
    from kdcore.spec.events import MetricsEvent

    named = {name.replace("__", "/"): value for name, value in values.items()}
    return MetricsEvent(
        seq=1, time="2026-01-01T00:00:00Z", step=step, epoch=step / 10, wall_s=1.0, values=named
    )


def test_a_long_curve_keeps_its_extremes_and_its_ends(job: Any) -> None:
    from store import metrics
    from store.database import transaction

    with transaction() as session:
        for step in range(1, 2001):
            value = 1000.0 if step == 777 else -1000.0 if step == 1234 else float(step)
            metrics.write(session, job, told(step, train__loss=value))
    with transaction() as session:
        column = metrics.read(session, job.id, None, "step", 100)["train/loss"]
        whole = metrics.read(session, job.id, ["train/loss"], "step", 5000)["train/loss"]
    assert len(column["step"]) <= 100
    assert {1000.0, -1000.0} <= set(column["value"])
    assert column["step"] == sorted(column["step"])
    assert (column["step"][0], column["step"][-1]) == (1, 2000)
    assert whole["step"] == list(range(1, 2001))


def test_a_repeated_step_is_written_over_and_a_gap_is_null(job: Any) -> None:
    from store import metrics
    from store.database import transaction

    with transaction() as session:
        metrics.write(session, job, told(1, val__top1=10.0))
        metrics.write(session, job, told(1, val__top1=20.0))
        metrics.write(session, job, told(2, val__top1=None))
    with transaction() as session:
        found = metrics.read(session, job.id, None, "epoch", 100)
    assert found == {"val/top1": {"epoch": [0.1, 0.2], "value": [20.0, None]}}
    assert job.summary["val/top1"] is None
    assert job.summary["curve"] == [10.0, 20.0, None]


@pytest.mark.usefixtures("environment")
class TestBlobs:
    def test_a_file_comes_back_as_it_was(self, tmp_path: Path) -> None:
        from store import blobs

        source, target = tmp_path / "source", tmp_path / "target"
        source.write_bytes(b"weights" * 1_000_000)
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        blobs.put_file("prj/models/one", source)
        blobs.fetch(["prj/models/one"], target, digest)
        assert target.read_bytes() == source.read_bytes()
        assert b"".join(blobs.read("prj/models/one", 3, 10)) == source.read_bytes()[3:10]

    def test_damaged_bytes_are_never_handed_out(self, tmp_path: Path) -> None:
        from store import blobs

        source, target = tmp_path / "source", tmp_path / "target"
        source.write_bytes(b"weights")
        blobs.put_file("prj/models/two", source)
        with pytest.raises(blobs.CorruptBlobError):
            blobs.fetch(["prj/models/two"], target, "0" * 64)
        assert list(tmp_path.iterdir()) == [source]

    def test_a_broken_stream_leaves_nothing(self) -> None:
        from store import blobs

        async def broken() -> AsyncIterator[bytes]:
            yield b"x" * 100
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            anyio.run(blobs.put_stream, "prj/uploads/broken", broken())
        assert not blobs.exists("prj/uploads/broken")

    def test_deleting_twice_is_fine_and_a_listing_has_what_is_there(self, tmp_path: Path) -> None:
        from store import blobs

        source = tmp_path / "source"
        source.write_bytes(b"weights")
        blobs.put_file("prj/models/three", source)
        assert "prj/models/three" in {entry.key for entry in blobs.listing()}
        blobs.delete("prj/models/three")
        blobs.delete("prj/models/three")
        assert "prj/models/three" not in {entry.key for entry in blobs.listing()}
