"""A resource of another project looks like one that does not exist."""

import re
from typing import Any

import httpx
import pytest

from store.database import transaction
from store.ids import new_id
from store.tables import Job, TeacherCache
from tests.api.operations import operations
from tests.helpers import assert_problem, issue_codes, job_body, submit_job, upload

KINDS = {
    "job_id": "job",
    "dataset_id": "ds",
    "model_id": "mdl",
    "upload_id": "upl",
    "artifact_id": "art",
    "project_id": "prj",
    "key_id": "key",
    "checkpoint_id": "ckp",
    "cache_id": "tch",
}


@pytest.fixture
def foreign_ids(
    client: httpx.Client, digits: dict[str, Any], trained_model: Any, trained_job: Any
) -> dict[str, str]:
    """One id of each kind; none belongs to the project of ``other_client``."""
    return {
        "job_id": submit_job(client, digits)["id"],
        "dataset_id": digits["id"],
        "upload_id": upload(client, b"bytes"),
        "model_id": trained_model["id"],
        "artifact_id": trained_job.artifact["id"],
        "key_id": client.get("/v1/api-keys").json()["data"][0]["id"],
        "checkpoint_id": trained_job.checkpoints[0]["id"],
        "cache_id": _create_teacher_cache(trained_job.job["id"]),
    }


def _create_teacher_cache(job_id: str) -> str:
    """A teacher cache in the job's project."""
    with transaction() as session:
        job = session.get_one(Job, job_id)
        row = TeacherCache(
            id=new_id("tch"),
            project_id=job.project_id,
            **dict.fromkeys(("key", "teacher_sha256", "dataset_sha256", "sha256"), new_id("tch")),
            **dict.fromkeys(("view", "seed", "num_samples", "size_bytes", "fill_s"), 1),
            model_id=new_id("mdl"),
            dataset_id=new_id("ds"),
            augmentation=[],
            object_key=new_id("tch"),
            job_id=job_id,
        )
        session.add(row)
        return row.id


def _routes_with_ids() -> list[tuple[str, str]]:
    return [
        (method, path)
        for method, path in operations()
        if any(name in path for name in KINDS) and "project_id" not in path
    ]


def _normalize(response: httpx.Response, row_id: str) -> dict[str, Any]:
    document = assert_problem(response, 404, "not_found")
    del document["request_id"]
    return {name: str(value).replace(row_id, "ID") for name, value in document.items()}


def test_foreign_id_equals_unknown_id_on_every_route(
    other_client: httpx.Client, foreign_ids: dict[str, str]
) -> None:
    routes = _routes_with_ids()
    assert len(routes) > 20
    for method, path in routes:
        name = re.search(r"{(\w+_id)}", path)[1]
        rest = path.replace("{number}", "1")
        responses = []
        for row_id in (foreign_ids[name], new_id(KINDS[name])):
            address = rest.replace(f"{{{name}}}", row_id)
            body = {"json": {}} if method == "PATCH" else {}
            responses.append(_normalize(other_client.request(method, address, **body), row_id))
        assert responses[0] == responses[1], (method, path)


@pytest.mark.parametrize("row_id", ["x", "job_", "job_" + "0" * 25, "JOB_" + "0" * 26, "%00", "é"])
def test_malformed_id_is_not_found(client: httpx.Client, row_id: str) -> None:
    for path in ("jobs", "datasets", "models", "uploads", "artifacts", "projects"):
        assert_problem(client.get(f"/v1/{path}/{row_id}"), 404, "not_found")


def test_id_with_a_line_feed_is_not_found(client: httpx.Client, digits: dict[str, Any]) -> None:
    assert_problem(client.get(f"/v1/datasets/{digits['id']}%0A"), 404)


def test_stream_of_a_foreign_job_is_not_found(
    other_client: httpx.Client, foreign_ids: dict[str, str]
) -> None:
    headers = {"Accept": "text/event-stream"}
    assert_problem(
        other_client.get(f"/v1/jobs/{foreign_ids['job_id']}/events", headers=headers), 404
    )


def test_foreign_ids_in_bodies_are_not_found(
    other_client: httpx.Client, foreign_ids: dict[str, str], digits: dict[str, Any]
) -> None:
    responses = []
    for dataset, model, sent, origin in (
        (
            foreign_ids["dataset_id"],
            foreign_ids["model_id"],
            foreign_ids["upload_id"],
            foreign_ids["job_id"],
        ),
        (new_id("ds"), new_id("mdl"), new_id("upl"), new_id("job")),
    ):
        student = {"architecture": "cifar/resnet8", "init": model}
        body = job_body({"id": dataset}, teachers=[{"model": model}], student=student)
        named = {"name": "x"}
        network = named | {"architecture": "cifar/resnet8", "num_classes": 10}
        responses.append(
            [
                assert_problem(other_client.post(path, json=sent_body), 422)["errors"]
                for path, sent_body in (
                    ("/v1/jobs", body),
                    ("/v1/datasets", named | {"upload_id": sent}),
                    ("/v1/models", network | {"upload_id": sent}),
                    ("/v1/models", named | {"source": f"job:{origin}"}),
                )
            ]
        )
    assert responses[0] == responses[1]
    pointers = [issue["pointer"] for errors in responses[0] for issue in errors]
    assert pointers == [
        *("/dataset", "/teachers/0/model", "/student/init"),
        *("/upload_id", "/upload_id", "/source"),
    ]


def test_lists_show_rows_of_the_project_only(
    other_client: httpx.Client, foreign_ids: dict[str, str]
) -> None:
    for path in ("jobs", "datasets", "models"):
        assert other_client.get(f"/v1/{path}").json() == {"data": [], "next_cursor": None}


def test_filter_by_a_foreign_data_set_matches_nothing(
    other_client: httpx.Client, foreign_ids: dict[str, str]
) -> None:
    response = other_client.get("/v1/jobs", params={"dataset": foreign_ids["dataset_id"]})
    assert response.json()["data"] == []
    assert issue_codes(other_client.get("/v1/jobs", params={"limit": 0})) == {
        "?limit": "greater_than_equal"
    }
