"""Little disk space on every worker: what jobs, data sets, models and /readyz report."""

import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import func

from store.database import transaction
from store.settings import settings
from store.tables import Worker
from tests.helpers import submit_job, upload
from worker.files import asset_cache

Json = dict[str, Any]
FULL = "the disk of the workers is full: 2 MB must be freed"


@pytest.fixture
def full_workers(environment: dict[str, str]) -> Iterator[None]:
    """One worker of each queue, both without disk space."""
    seen_at = func.clock_timestamp()
    rows = [
        Worker(name=queue, queue=queue, seen_at=seen_at, missing_disk_bytes=1_500_000)
        for queue in ("train", "prepare")
    ]
    with transaction() as session:
        session.add_all(rows)
    yield
    with transaction() as session:
        for row in rows:
            session.delete(session.get_one(Worker, row.name))


def test_waiting_names_the_disk_until_one_worker_has_space(
    client: httpx.Client, digits: Json, full_workers: None
) -> None:
    job = submit_job(client, digits)
    dataset = client.post("/v1/datasets", json={"name": "a", "source": "builtin:digits"}).json()
    body = {"name": "m", "upload_id": upload(client, b"x"), "architecture": "cifar/resnet8"}
    model = client.post("/v1/models", json=body | {"num_classes": 2}).json()
    urls = [resource["links"]["self"] for resource in (job, dataset, model)]
    assert [resource["waiting_reason"] for resource in (job, dataset, model)] == [FULL] * 3
    tags = [client.get(url).headers["etag"] for url in urls]
    assert client.get("/readyz").json()["checks"]["worker_disk_space"] == FULL
    (train,) = (row for row in client.get("/v1/workers").json()["data"] if row["name"] == "train")
    assert train["missing_disk_bytes"] == 1_500_000
    with transaction() as session:
        for queue in ("train", "prepare"):
            session.get_one(Worker, queue).missing_disk_bytes = 0
    for url, tag in zip(urls, tags, strict=True):
        response = client.get(url, headers={"If-None-Match": tag})
        assert response.status_code == 200
        assert "disk" not in response.json()["waiting_reason"]
    ready = client.get("/readyz")
    assert ready.json()["checks"]["worker_disk_space"] == "ok"


def test_ready_data_set_waits_for_nothing(digits: Json) -> None:
    assert digits["waiting_reason"] is None


def test_missing_bytes_count_what_the_cache_can_free(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asset_cache.missing_bytes() == 0
    cached = settings().work_dir / "cache" / "0"
    cached.parent.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(settings(), "min_free_bytes", 2**60)
    without_file = asset_cache.missing_bytes()
    cached.touch()
    os.truncate(cached, 2**40)  # a sparse file: it takes no space of this machine
    with_file = asset_cache.missing_bytes()
    cached.unlink()
    assert without_file - with_file == pytest.approx(2**40, rel=0.1)
