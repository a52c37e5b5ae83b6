"""Models that are the students of jobs."""

from collections.abc import Iterator
from typing import Any

import pytest

from store.database import transaction
from store.tables import Dataset

Json = dict[str, Any]


@pytest.fixture
def job_with_deep_images(trained_job: Any) -> Iterator[Any]:
    """The job of a data set whose images have 12 bits in use."""

    def set_range(num_values: int | None) -> None:
        with transaction() as session:
            dataset = session.get_one(Dataset, trained_job.dataset["id"])
            dataset.info = (dataset.info or {}) | {"sixteen_bit_range": num_values}

    set_range(4096)
    yield trained_job
    set_range(None)


def test_student_has_the_range_of_its_data_set(job_with_deep_images: Any) -> None:
    client, job = job_with_deep_images.client, job_with_deep_images.job
    dataset: Json = client.get(f"/v1/datasets/{job['dataset']}").raise_for_status().json()
    assert dataset["sixteen_bit_range"] == 4096
    body = {"name": "of 12 bits", "source": f"job:{job['id']}"}
    model: Json = client.post("/v1/models", json=body).raise_for_status().json()
    assert model["sixteen_bit_range"] == 4096
    client.delete(model["links"]["self"]).raise_for_status()
