"""No stored value can break a read: extreme values in every column, and every route is read."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import orjson
import pytest

from tests.api.operations import fill_path, operations
from tests.conftest import client_for, create_tenant
from tests.helpers import job_body

Json = dict[str, Any]


class Project(NamedTuple):
    """A project with rows of extreme values, and one job of usual values."""

    client: httpx.Client
    dataset: str
    good_job: str
    variants: list[dict[str, str]]
    """Ids by path parameter: in each entry one row of each table."""


@pytest.fixture(scope="module")
def project(api_url: str, environment: dict[str, str]) -> Iterator[Project]:
    from tests.api import extreme_rows

    tenant = create_tenant()
    with client_for(api_url, tenant.key) as client:
        dataset = extreme_rows.add_ready_dataset(tenant.id)
        body = job_body({"id": dataset}, method="supervised")
        job = client.post("/v1/jobs", json=body).raise_for_status().json()["id"]
        variants = extreme_rows.add_variants(extreme_rows.finish_job(job))
        yield Project(client, dataset, job, variants)


@pytest.fixture
def workers(environment: dict[str, str]) -> Iterator[list[str]]:
    """Workers with extreme names and times; they are deleted because other tests count workers."""
    from sqlalchemy import cast, delete, update

    from store.database import transaction
    from store.tables import Worker
    from tests.api.extreme_rows import EXTREMES

    names = [*EXTREMES["TEXT"], "infinity", "-infinity"]
    started_at = Worker.__table__.c.started_at
    with transaction() as session:
        for name in names:
            session.add(Worker(name=name, queue="?", seen_at="2020-01-01T00:00:00Z"))
        session.flush()
        for name in names[-2:]:
            values = {"started_at": cast(name, started_at.type)}
            session.execute(update(Worker).where(Worker.name == name).values(values))
    yield names
    with transaction() as session:
        session.execute(delete(Worker).where(Worker.name.in_(names)))


def read_strictly(response: httpx.Response) -> Any:
    """The JSON of a 200; it has no NaN, no infinity and no integer beyond 64 bits."""
    assert response.status_code == 200, f"{response.url}: {response.text[:500]}"
    return orjson.loads(response.content)


LISTS = {
    "/v1/jobs": "job_id",
    "/v1/datasets": "dataset_id",
    "/v1/models": "model_id",
    "/v1/teacher-caches": "cache_id",
    "/v1/api-keys": "key_id",
}


def test_rows_with_extreme_values_are_listed_beside_the_others(project: Project) -> None:
    for path, name in LISTS.items():
        page = read_strictly(project.client.get(path, params={"limit": 200}))
        assert set(page) == {"data", "next_cursor"}, (path, page.get("unreadable"))
        listed = {item["id"] for item in page["data"]}
        assert {entry[name] for entry in project.variants} <= listed, path
    assert project.good_job in {job["id"] for job in project.client.get("/v1/jobs").json()["data"]}


def test_every_page_of_extreme_rows_is_readable(project: Project) -> None:
    for path in LISTS:
        cursor: Json = {}
        for _ in range(2 * len(project.variants)):
            page = read_strictly(project.client.get(path, params={"limit": 4} | cursor))
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert page["next_cursor"] is None, path


def test_every_route_reads_rows_with_extreme_values(project: Project) -> None:
    # Bytes that no test stored: these routes may refuse, and must not fail.
    binary = ("/content", "/student", "/weights", "/images", "/logs")
    paths = [path for method, path in operations() if method == "GET" and "{" in path]
    assert len(paths) > 20
    for path in paths:
        for entry in project.variants:
            address = fill_path(path, entry)
            if path.endswith(binary):
                status = project.client.get(address).status_code
                assert status in (200, 404, 409, 503), (path, status)
            elif "{name" not in path and "{project_id" not in path:
                read_strictly(project.client.get(address))


def test_streams_send_extreme_values(project: Project) -> None:
    for entry in project.variants:
        headers = {"Accept": "text/event-stream"}
        response = project.client.get(f"/v1/jobs/{entry['job_id']}/events", headers=headers)
        lines = [line for line in response.text.split("\n") if line.startswith("data: ")]
        assert len(lines) == 3, response.text[:300]  # snapshot, event, end
        for line in lines:
            orjson.loads(line.removeprefix("data: "))


def test_analysis_survives_extreme_values(project: Project) -> None:
    good = project.good_job
    for entry in project.variants:
        read_strictly(
            project.client.get("/v1/compare", params={"jobs": f"{good},{entry['job_id']}"})
        )
    dataset = project.dataset
    for x in ("latency_ms", "size_bytes", "macs"):
        page = read_strictly(
            project.client.get("/v1/frontier", params={"dataset": dataset, "x": x})
        )
        assert good in {point["job"] for point in page["data"]}
    read_strictly(project.client.get("/v1/usage"))
    body = job_body({"id": dataset}, method="supervised")
    read_strictly(project.client.post("/v1/jobs", params={"validate_only": True}, json=body))


def test_workers_with_extreme_values_are_listed(project: Project, workers: list[str]) -> None:
    page = read_strictly(project.client.get("/v1/workers?limit=200"))
    listed = {item["name"] for item in page["data"]}
    assert set(workers) <= listed


def test_numbers_stay_what_they_are(project: Project) -> None:
    top1 = [
        project.client.get(f"/v1/jobs/{entry['job_id']}").json()["result"]["student_top1"]
        for entry in project.variants[:7]
    ]
    assert top1 == [3.4e19, -1e30, None, None, 1e16, 80.0, 0]
