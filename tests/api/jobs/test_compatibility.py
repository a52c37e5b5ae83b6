"""Pairs of networks that do not fit each other are told before anything is trained."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.helpers import assert_problem, issue_codes, job_body

Json = dict[str, Any]
MAPLESS = "timm/vit_tiny_patch16_224"
DERIVED = "cifar/resnet8+grouped-4+width-0.5"


@pytest.fixture
def teacher(trained_job: Any, trained_model: Json) -> Callable[..., Json]:
    """A ready model like the trained one, but for what is changed; nobody opens its bytes."""
    from store.database import transaction
    from store.ids import new_id
    from store.tables import Model

    def make(**changes: Any) -> Json:
        with transaction() as session:
            row = session.get_one(Model, trained_model["id"])
            values = {column.key: getattr(row, column.key) for column in Model.__table__.columns}
            session.add(Model(**values | {"id": new_id("mdl")} | changes))
            session.flush()
            made = session.scalars(
                Model.__table__.select().with_only_columns(Model.id).order_by(Model.id.desc())
            ).first()
        return {"model": made}

    return make


def refused(trained_job: Any, **changes: Any) -> Json:
    answer = trained_job.client.post("/v1/jobs", json=job_body(trained_job.dataset, **changes))
    return assert_problem(answer, 422)


def test_a_network_with_too_few_maps(trained_job: Any, teacher: Callable[..., Json]) -> None:
    mapless = teacher(architecture=MAPLESS)
    for method in ("fsp", "attention", "reviewkd"):
        told = refused(trained_job, teachers=[mapless], method=method)["errors"]
        (found,) = (fault for fault in told if fault["pointer"] == "/method")
        assert found["code"] == "too_few_maps"
        assert MAPLESS in found["detail"]
        assert "taps" in found["detail"], "what would help is told, too"
    named = mapless | {"taps": ["blocks.3"]}
    body = job_body(trained_job.dataset, teachers=[named], method="attention")
    body["student"]["taps"] = ["layer3"]
    answer = trained_job.client.post("/v1/jobs?validate_only=true", json=body)
    assert answer.status_code == 200, answer.text


def test_a_missing_rule_for_channels_is_offered(
    trained_job: Any, teacher: Callable[..., Json]
) -> None:
    colored = teacher(in_channels=3)
    body = job_body(trained_job.dataset, teachers=[colored])
    told = assert_problem(trained_job.client.post("/v1/jobs", json=body), 422)
    assert told["errors"][0]["code"] == "channels_mismatch"
    (patch,) = told["fix"]
    assert patch == {"op": "add", "path": "/teachers/0/channels", "value": "repeat"}
    body["teachers"][0]["channels"] = patch["value"]
    answer = trained_job.client.post("/v1/jobs?validate_only=true", json=body)
    assert answer.status_code == 200, answer.text


def test_a_useless_rule_for_channels_is_taken_out(
    trained_job: Any, teacher: Callable[..., Json]
) -> None:
    gray = teacher() | {"channels": "luminance"}
    told = refused(trained_job, teachers=[gray])
    assert told["fix"] == [{"op": "remove", "path": "/teachers/0/channels"}]


def test_what_is_derived_is_not_derived_from(
    trained_job: Any, teacher: Callable[..., Json]
) -> None:
    made = teacher(architecture=DERIVED)
    student = {"derive": "teacher", "groups": 2}
    told = refused(trained_job, teachers=[made], student=student)["errors"]
    assert [(fault["pointer"], fault["code"]) for fault in told] == [
        ("/student/derive", "derived_twice")
    ]
    assert DERIVED in told[0]["detail"]


def test_a_derived_student_needs_images_as_large_as_its_teacher_does(
    trained_job: Any, teacher: Callable[..., Json]
) -> None:
    large = teacher(architecture="torchvision/alexnet")
    told = refused(trained_job, teachers=[large], student={"derive": "teacher"})["errors"]
    assert {fault["pointer"]: fault["code"] for fault in told} == {
        "/student/derive": "input_too_small"
    }


@pytest.mark.parametrize(
    ("architecture", "student"),
    [(DERIVED, {"architecture": "cifar/resnet8"}), ("cifar/resnet32x4", {"derive": "teacher"})],
    ids=("teacher", "student"),
)
def test_assistants_of_derived_networks_are_named(
    trained_job: Any, teacher: Callable[..., Json], architecture: str, student: Json
) -> None:
    asked = {
        "teachers": [teacher(architecture=architecture)],
        "student": student,
        "scheme": {"type": "teacher_assistant"},
    }
    told = refused(trained_job, **asked)["errors"]
    assert [fault["pointer"] for fault in told] == ["/scheme/assistants"]
    asked["scheme"]["assistants"] = ["cifar/resnet14"]
    answer = trained_job.client.post(
        "/v1/jobs?validate_only=true", json=job_body(trained_job.dataset, **asked)
    )
    assert answer.status_code == 200, answer.text


def test_assistants_are_proposed(trained_job: Any, teacher: Callable[..., Json]) -> None:
    body = job_body(
        trained_job.dataset,
        teachers=[teacher(architecture="cifar/resnet110")],
        scheme={"type": "teacher_assistant", "num_assistants": 2},
    )
    answer = trained_job.client.post("/v1/jobs?validate_only=true", json=body).raise_for_status()
    scheme = answer.json()["resolved"]["scheme"]
    assert scheme["num_assistants"] == len(scheme["assistants"]) == 2
    assert answer.json()["estimate"]["trainings"] == 4, "two assistants, student, baseline"


def test_a_job_goes_on_with_the_network_it_had(
    trained_job: Any, teacher: Callable[..., Json]
) -> None:
    earlier = {"job": trained_job.job["id"]}
    told = refused(trained_job, student={"architecture": "cifar/resnet14"}, **{"from": earlier})
    assert [fault["pointer"] for fault in told["errors"]] == ["/student/architecture"]
    assert told["fix"][0]["value"] == "cifar/resnet8"
    student = {"derive": "teacher"}
    told = refused(trained_job, teachers=[teacher()], student=student, **{"from": earlier})
    assert [(fault["pointer"], fault["code"]) for fault in told["errors"]] == [
        ("/student", "init_mismatch")
    ]
    student = {"architecture": "cifar/resnet8", "channels": "repeat"}
    told = refused(trained_job, student=student, **{"from": earlier})
    assert [(fault["pointer"], fault["code"]) for fault in told["errors"]] == [
        ("/from/job", "init_mismatch")
    ]
    for checkpoint in ("999999999", "first", "²", "9" * 30):
        told = refused(trained_job, **{"from": earlier | {"checkpoint": checkpoint}})
        assert [fault["pointer"] for fault in told["errors"]] == ["/from/checkpoint"]
        assert "steps that are kept" in told["errors"][0]["detail"]


def test_what_an_unfinished_job_goes_on_from_is_not_deleted(trained_job: Any) -> None:
    client = trained_job.client
    body = trained_job.body
    first = client.post("/v1/jobs", json=body | {"from": {"job": trained_job.job["id"]}})
    later = first.raise_for_status().json()
    try:
        told = assert_problem(client.delete(trained_job.job["links"]["self"]), 409, "in_use")
        assert later["id"] in told["detail"]
        assert told["current_state"] == "succeeded"
    finally:
        client.post(f"{later['links']['self']}/cancel").raise_for_status()
    assert client.delete(later["links"]["self"]).status_code == 204


def test_an_empty_student_is_told_what_it_lacks(client: httpx.Client, digits: Json) -> None:
    answer = client.post("/v1/jobs", json=job_body(digits, student={}))
    assert issue_codes(answer) == {"/student/architecture": "missing"}


def test_weights_that_nobody_publishes(trained_job: Any, teacher: Callable[..., Json]) -> None:
    for student in (
        {"architecture": "cifar/resnet8", "init": "pretrained"},
        {"derive": "teacher", "init": "pretrained"},
    ):
        told = refused(trained_job, teachers=[teacher()], student=student)
        assert [(fault["pointer"], fault["code"]) for fault in told["errors"]] == [
            ("/student/init", "no_pretrained_weights")
        ]
        assert told["fix"][0]["value"] == "random"
    body = job_body(trained_job.dataset)
    body["student"] = {"architecture": "torchvision/resnet18", "init": "pretrained"}
    answer = trained_job.client.post("/v1/jobs?validate_only=true", json=body)
    assert answer.status_code == 200, answer.text


def test_an_evaluation_has_no_student(trained_job: Any, trained_model: Json) -> None:
    body = job_body(trained_job.dataset, kind="evaluate", model=trained_model["id"])
    told = assert_problem(trained_job.client.post("/v1/jobs", json=body), 422)
    assert [(fault["pointer"], fault["code"]) for fault in told["errors"]] == [
        ("/student", "nothing_to_train")
    ]
    assert told["fix"] == [{"op": "remove", "path": "/student"}]


def test_an_evaluation_is_resolved(trained_job: Any, trained_model: Json) -> None:
    body = {"kind": "evaluate", "model": trained_model["id"], "dataset": trained_job.dataset["id"]}
    answer = trained_job.client.post("/v1/jobs?validate_only=true", json=body).raise_for_status()
    assert answer.json()["resolved"]["student"]["architecture"] == trained_model["architecture"]
    assert answer.json()["estimate"]["trainings"] == 0


def test_methods_say_whether_they_fit_a_pair(client: httpx.Client) -> None:
    plain = client.get("/v1/methods").raise_for_status().json()["data"]
    assert {method["compatible"] for method in plain} == {None}
    query = {"student": "cifar/resnet8", "teacher": "cifar/resnet32x4"}
    paired = client.get("/v1/methods", params=query).raise_for_status().json()["data"]
    assert {method["compatible"] for method in paired} == {True}
    query = {"student": MAPLESS, "teacher": ["cifar/resnet32x4", "cifar/resnet56"]}
    found = client.get("/v1/methods", params=query).raise_for_status().json()["data"]
    fits = {method["name"]: method for method in found}
    assert fits["kd"]["compatible"]
    assert fits["kd"]["reason"] is fits["kd"]["help"] is None
    assert fits["rkd"]["compatible"] is False
    assert "one teacher" in fits["rkd"]["reason"]
    query = {"student": MAPLESS, "teacher": "cifar/resnet32x4"}
    found = client.get("/v1/methods", params=query).raise_for_status().json()["data"]
    fits = {method["name"]: method for method in found}
    assert fits["rkd"]["compatible"]
    assert "feature maps" in fits["attention"]["reason"]
    assert fits["attention"]["help"]


def test_methods_of_unknown_networks_are_told_the_nearest(client: httpx.Client) -> None:
    answer = client.get("/v1/methods", params={"student": "cifar/resnet9", "teacher": "x"})
    told = {fault["pointer"]: fault for fault in assert_problem(answer, 422)["errors"]}
    assert set(told) == {"?student", "?teacher"}
    assert "cifar/resnet8" in told["?student"]["detail"]


def test_schemes_say_whether_they_need_a_teacher(client: httpx.Client) -> None:
    listed = client.get("/v1/schemes").raise_for_status().json()["data"]
    required = {scheme["name"] for scheme in listed if scheme["teacher"] == "required"}
    assert required == {"offline", "teacher_assistant"}
