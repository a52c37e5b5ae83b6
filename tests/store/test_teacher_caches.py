"""Rows of cached teacher outputs: outputs that were computed again replace those of their key."""

from typing import Any

import pytest

from kdcore.protocol.events import TeacherCacheEvent
from store import teacher_caches
from store.database import transaction
from store.tables import Dataset, Job, Model, TeacherCache
from store.teacher_caches import TeacherCacheInputs

KEY = "a" * 64


def event(sha256: str, **changes: Any) -> TeacherCacheEvent:
    fields = {"seq": 1, "time": "", "key": KEY, "name": "x", "teacher_index": 0, "seed": 0}
    fields |= {"view": 1, "num_samples": 1, "size_bytes": 10, "fill_s": 1.0, "hit": False}
    return TeacherCacheEvent.model_validate(fields | {"sha256": sha256} | changes)


@pytest.fixture
def add(new_job: Any) -> Any:
    """Record outputs with a digest and a size; return the row of their key."""
    job_id = new_job()
    inputs = TeacherCacheInputs(Model(id="m", sha256="t"), Dataset(id="d", sha256="d"), {})

    def add_outputs(sha256: str, size_bytes: int) -> TeacherCache:
        with transaction() as session:
            job = session.get_one(Job, job_id)
            written = event(sha256, size_bytes=size_bytes)
            teacher_caches.add(session, job, written, inputs, f"object/{sha256}")
        with transaction() as session:
            query = session.query(TeacherCache).filter_by(project_id=job.project_id, key=KEY)
            assert teacher_caches.stored_digests(session, job.project_id, [KEY, "b"]) == {
                KEY: sha256
            }
            return query.one()

    return add_outputs


def test_outputs_that_were_computed_again_replace_the_stored_ones(add: Any) -> None:
    first, second = add("1" * 64, 10), add("2" * 64, 20)
    assert second.id == first.id
    assert (second.object_key, second.size_bytes) == (f"object/{'2' * 64}", 20)
