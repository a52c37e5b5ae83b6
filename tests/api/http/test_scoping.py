"""What belongs to another project cannot be told from what does not exist."""

import re
from typing import Any

import httpx
import pytest

from store.database import transaction
from store.ids import new_id
from store.tables import Job, TeacherCache
from tests.api.test_keys import operations
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
def theirs(
    client: httpx.Client, digits: dict[str, Any], trained_model: Any, trained_job: Any
) -> dict[str, str]:
    """One id of each kind, all of another project than the stranger's."""
    return {
        "job_id": submit_job(client, digits)["id"],
        "dataset_id": digits["id"],
        "upload_id": upload(client, b"bytes"),
        "model_id": trained_model["id"],
        "artifact_id": trained_job.artifact["id"],
        "key_id": client.get("/v1/api-keys").json()["data"][0]["id"],
        "checkpoint_id": trained_job.checkpoints[0]["id"],
        "cache_id": _kept_answers(trained_job.job["id"]),
    }


def _kept_answers(job_id: str) -> str:
    """Of a job's project, without the run that would make them."""
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


def _id_routes() -> list[tuple[str, str]]:
    return [
        (method, path)
        for method, path in operations()
        if any(name in path for name in KINDS) and "project_id" not in path
    ]


def _normal(answer: httpx.Response, row_id: str) -> dict[str, Any]:
    document = assert_problem(answer, 404, "not_found")
    del document["request_id"]
    return {name: str(value).replace(row_id, "ID") for name, value in document.items()}


def test_every_route_with_an_id_answers_as_if_there_were_nothing(
    other_client: httpx.Client, theirs: dict[str, str]
) -> None:
    routes = _id_routes()
    assert len(routes) > 20
    for method, path in routes:
        name = re.search(r"{(\w+_id)}", path)[1]
        rest = path.replace("{number}", "1")
        answers = []
        for row_id in (theirs[name], new_id(KINDS[name])):
            address = rest.replace(f"{{{name}}}", row_id)
            body = {"json": {}} if method == "PATCH" else {}
            answers.append(_normal(other_client.request(method, address, **body), row_id))
        assert answers[0] == answers[1], (method, path)


@pytest.mark.parametrize("row_id", ["x", "job_", "job_" + "0" * 25, "JOB_" + "0" * 26, "%00", "é"])
def test_a_malformed_id_is_not_found(client: httpx.Client, row_id: str) -> None:
    for path in ("jobs", "datasets", "models", "uploads", "artifacts", "projects"):
        assert_problem(client.get(f"/v1/{path}/{row_id}"), 404, "not_found")


def test_an_id_with_a_line_feed_is_not_found(client: httpx.Client, digits: dict[str, Any]) -> None:
    assert_problem(client.get(f"/v1/datasets/{digits['id']}%0A"), 404)


def test_the_stream_of_anothers_job_is_not_found(
    other_client: httpx.Client, theirs: dict[str, str]
) -> None:
    headers = {"Accept": "text/event-stream"}
    assert_problem(other_client.get(f"/v1/jobs/{theirs['job_id']}/events", headers=headers), 404)


def test_ids_in_bodies_are_not_found_either(
    other_client: httpx.Client, theirs: dict[str, str], digits: dict[str, Any]
) -> None:
    answers = []
    for dataset, model, sent, origin in (
        (theirs["dataset_id"], theirs["model_id"], theirs["upload_id"], theirs["job_id"]),
        (new_id("ds"), new_id("mdl"), new_id("upl"), new_id("job")),
    ):
        student = {"architecture": "cifar/resnet8", "init": model}
        body = job_body({"id": dataset}, teachers=[{"model": model}], student=student)
        named = {"name": "x"}
        network = named | {"architecture": "cifar/resnet8", "num_classes": 10}
        answers.append(
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
    assert answers[0] == answers[1]
    pointers = [fault["pointer"] for errors in answers[0] for fault in errors]
    assert pointers == [
        *("/dataset", "/teachers/0/model", "/student/init"),
        *("/upload_id", "/upload_id", "/source"),
    ]


def test_lists_show_only_what_is_ones_own(
    other_client: httpx.Client, theirs: dict[str, str]
) -> None:
    for path in ("jobs", "datasets", "models"):
        assert other_client.get(f"/v1/{path}").json() == {"data": [], "next_cursor": None}


def test_a_filter_by_anothers_data_set_finds_nothing(
    other_client: httpx.Client, theirs: dict[str, str]
) -> None:
    found = other_client.get("/v1/jobs", params={"dataset": theirs["dataset_id"]})
    assert found.json()["data"] == []
    assert issue_codes(other_client.get("/v1/jobs", params={"limit": 0})) == {
        "?limit": "greater_than_equal"
    }
