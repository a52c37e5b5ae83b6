"""A checkpoint serves the job whose numbers it holds."""

from typing import Any

import pytest

from kdcore.protocol.requests import RunRequest
from kdcore.schema.job import ResolvedJob
from kdcore.training.job_digest import compute_job_digest
from tests.kdcore.training.helpers import World


def changed(request: RunRequest, **job: Any) -> RunRequest:
    return request.model_copy(update={"job": request.job.model_copy(update=job)})


@pytest.mark.parametrize("fields", [{"name": "other"}, {"priority": 3}, {"preset": "fast"}])
def test_what_changes_no_number_changes_no_digest(world: World, fields: dict[str, Any]) -> None:
    request = world.request()
    assert compute_job_digest(changed(request, **fields)) == compute_job_digest(request)


def test_numbers_do(world: World) -> None:
    request = world.request()
    digests = {compute_job_digest(request), compute_job_digest(changed(request, seed=8))}
    digests.add(compute_job_digest(world.request(training={"views": 3})))
    digests.add(compute_job_digest(world.request("dkd")))
    assert len(digests) == 4


class Later(ResolvedJob):
    """A job of a later version, which can ask for more."""

    more: int = 3


def test_a_field_that_a_later_version_adds_changes_no_digest(world: World) -> None:
    request = world.request()
    job = Later.model_validate(request.job.model_dump(mode="json"))
    assert job.model_dump() != request.job.model_dump()
    assert compute_job_digest(request.model_copy(update={"job": job})) == compute_job_digest(
        request
    )
    asks = job.model_copy(update={"more": 4})
    assert compute_job_digest(request.model_copy(update={"job": asks})) != compute_job_digest(
        request
    )
