"""A checkpoint serves the job whose numbers it holds."""

from typing import Any

import pytest

from kdcore.spec.protocol import RunRequest
from kdcore.training.identity import digest
from tests.kdcore.training.kit import World


def changed(request: RunRequest, **job: Any) -> RunRequest:
    return request.model_copy(update={"job": request.job.model_copy(update=job)})


@pytest.mark.parametrize("fields", [{"name": "other"}, {"priority": 3}, {"preset": "fast"}])
def test_what_changes_no_number_changes_no_digest(world: World, fields: dict[str, Any]) -> None:
    request = world.request()
    assert digest(changed(request, **fields)) == digest(request)


def test_numbers_do(world: World) -> None:
    request = world.request()
    digests = {digest(request), digest(changed(request, seed=8))}
    digests.add(digest(world.request(training={"views": 3})))
    digests.add(digest(world.request("dkd")))
    assert len(digests) == 4


def test_a_default_that_is_said_is_the_same(world: World) -> None:
    # So a field that a later version adds, with a default that is how it was, resumes.
    said = world.request(training={"views": "fresh", "determinism": "strict"})
    assert digest(said) == digest(world.request())
