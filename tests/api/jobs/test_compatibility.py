"""Incompatible networks are rejected before training."""

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
    """Creates ready models: copies of the trained model's row with changed columns."""
    from store.database import transaction
    from store.ids import new_id
    from store.tables import Model

    def make(**changes: Any) -> Json:
        with transaction() as session:
            row = session.get_one(Model, trained_model["id"])
            values = {column.key: getattr(row, column.key) for column in Model.__table__.columns}
            session.add(Model(**values | {"id": new_id("mdl")} | changes))
            session.flush()
            model_id = session.scalars(
                Model.__table__.select().with_only_columns(Model.id).order_by(Model.id.desc())
            ).first()
        return {"model": model_id}

    return make


def assert_rejected(trained_job: Any, **changes: Any) -> Json:
    response = trained_job.client.post("/v1/jobs", json=job_body(trained_job.dataset, **changes))
    return assert_problem(response, 422)


def test_network_with_too_few_maps_is_rejected(
    trained_job: Any, teacher: Callable[..., Json]
) -> None:
    mapless = teacher(architecture=MAPLESS)
    for method in ("fsp", "attention", "reviewkd"):
        issues = assert_rejected(trained_job, teachers=[mapless], method=method)["errors"]
        (too_few_maps,) = (issue for issue in issues if issue["pointer"] == "/method")
        assert too_few_maps["code"] == "too_few_maps"
        assert MAPLESS in too_few_maps["detail"]
        assert "taps" in too_few_maps["detail"], "the message names the fix"
    named = mapless | {"taps": ["blocks.3"]}
    body = job_body(trained_job.dataset, teachers=[named], method="attention")
    body["student"]["taps"] = ["layer3"]
    response = trained_job.client.post("/v1/jobs?validate_only=true", json=body)
    assert response.status_code == 200, response.text


def test_missing_channel_rule_has_a_fix(trained_job: Any, teacher: Callable[..., Json]) -> None:
    colored = teacher(in_channels=3)
    body = job_body(trained_job.dataset, teachers=[colored])
    problem = assert_problem(trained_job.client.post("/v1/jobs", json=body), 422)
    assert problem["errors"][0]["code"] == "channels_mismatch"
    (patch,) = problem["fix"]
    assert patch == {"op": "add", "path": "/teachers/0/channels", "value": "repeat"}
    body["teachers"][0]["channels"] = patch["value"]
    response = trained_job.client.post("/v1/jobs?validate_only=true", json=body)
    assert response.status_code == 200, response.text


def test_fix_removes_a_needless_channel_rule(
    trained_job: Any, teacher: Callable[..., Json]
) -> None:
    gray = teacher() | {"channels": "luminance"}
    problem = assert_rejected(trained_job, teachers=[gray])
    assert problem["fix"] == [{"op": "remove", "path": "/teachers/0/channels"}]


def test_derived_teacher_cannot_be_derived_again(
    trained_job: Any, teacher: Callable[..., Json]
) -> None:
    derived = teacher(architecture=DERIVED)
    student = {"derive": "teacher", "groups": 2}
    issues = assert_rejected(trained_job, teachers=[derived], student=student)["errors"]
    assert [(issue["pointer"], issue["code"]) for issue in issues] == [
        ("/student/derive", "derived_twice")
    ]
    assert DERIVED in issues[0]["detail"]


def test_derived_student_needs_the_input_size_of_its_teacher(
    trained_job: Any, teacher: Callable[..., Json]
) -> None:
    large = teacher(architecture="torchvision/alexnet")
    issues = assert_rejected(trained_job, teachers=[large], student={"derive": "teacher"})["errors"]
    assert {issue["pointer"]: issue["code"] for issue in issues} == {
        "/student/derive": "input_too_small"
    }


@pytest.mark.parametrize(
    ("architecture", "student"),
    [(DERIVED, {"architecture": "cifar/resnet8"}), ("cifar/resnet32x4", {"derive": "teacher"})],
    ids=("teacher", "student"),
)
def test_assistants_of_derived_networks_must_be_explicit(
    trained_job: Any, teacher: Callable[..., Json], architecture: str, student: Json
) -> None:
    options = {
        "teachers": [teacher(architecture=architecture)],
        "student": student,
        "scheme": {"type": "teacher_assistant"},
    }
    issues = assert_rejected(trained_job, **options)["errors"]
    assert [issue["pointer"] for issue in issues] == ["/scheme/assistants"]
    options["scheme"]["assistants"] = ["cifar/resnet14"]
    response = trained_job.client.post(
        "/v1/jobs?validate_only=true", json=job_body(trained_job.dataset, **options)
    )
    assert response.status_code == 200, response.text


def test_assistants_are_selected_automatically(
    trained_job: Any, teacher: Callable[..., Json]
) -> None:
    body = job_body(
        trained_job.dataset,
        teachers=[teacher(architecture="cifar/resnet110")],
        scheme={"type": "teacher_assistant", "num_assistants": 2},
    )
    response = trained_job.client.post("/v1/jobs?validate_only=true", json=body).raise_for_status()
    scheme = response.json()["resolved"]["scheme"]
    assert scheme["num_assistants"] == len(scheme["assistants"]) == 2
    assert response.json()["estimate"]["trainings"] == 4, "two assistants, student, baseline"


def test_continued_job_keeps_its_network(trained_job: Any, teacher: Callable[..., Json]) -> None:
    earlier = {"job": trained_job.job["id"]}
    problem = assert_rejected(
        trained_job, student={"architecture": "cifar/resnet14"}, **{"from": earlier}
    )
    assert [issue["pointer"] for issue in problem["errors"]] == ["/student/architecture"]
    assert problem["fix"][0]["value"] == "cifar/resnet8"
    student = {"derive": "teacher"}
    problem = assert_rejected(
        trained_job, teachers=[teacher()], student=student, **{"from": earlier}
    )
    assert [(issue["pointer"], issue["code"]) for issue in problem["errors"]] == [
        ("/student", "init_mismatch")
    ]
    student = {"architecture": "cifar/resnet8", "channels": "repeat"}
    problem = assert_rejected(trained_job, student=student, **{"from": earlier})
    assert [(issue["pointer"], issue["code"]) for issue in problem["errors"]] == [
        ("/from/job", "init_mismatch")
    ]
    for checkpoint in ("999999999", "first", "²", "9" * 30):
        problem = assert_rejected(trained_job, **{"from": earlier | {"checkpoint": checkpoint}})
        assert [issue["pointer"] for issue in problem["errors"]] == ["/from/checkpoint"]
        assert "steps of its checkpoints" in problem["errors"][0]["detail"]


def test_source_of_an_unfinished_job_is_not_deleted(trained_job: Any) -> None:
    client = trained_job.client
    body = trained_job.body
    first = client.post("/v1/jobs", json=body | {"from": {"job": trained_job.job["id"]}})
    later = first.raise_for_status().json()
    try:
        problem = assert_problem(client.delete(trained_job.job["links"]["self"]), 409, "in_use")
        assert later["id"] in problem["detail"]
        assert problem["current_state"] == "succeeded"
    finally:
        client.post(f"{later['links']['self']}/cancel").raise_for_status()
    assert client.delete(later["links"]["self"]).status_code == 204


def test_empty_student_lacks_an_architecture(client: httpx.Client, digits: Json) -> None:
    response = client.post("/v1/jobs", json=job_body(digits, student={}))
    assert issue_codes(response) == {"/student/architecture": "missing"}


def test_missing_pretrained_weights_are_rejected(
    trained_job: Any, teacher: Callable[..., Json]
) -> None:
    for student in (
        {"architecture": "cifar/resnet8", "init": "pretrained"},
        {"derive": "teacher", "init": "pretrained"},
    ):
        problem = assert_rejected(trained_job, teachers=[teacher()], student=student)
        assert [(issue["pointer"], issue["code"]) for issue in problem["errors"]] == [
            ("/student/init", "no_pretrained_weights")
        ]
        assert problem["fix"][0]["value"] == "random"
    body = job_body(trained_job.dataset)
    body["student"] = {"architecture": "torchvision/resnet18", "init": "pretrained"}
    response = trained_job.client.post("/v1/jobs?validate_only=true", json=body)
    assert response.status_code == 200, response.text


def test_evaluation_takes_no_student(trained_job: Any, trained_model: Json) -> None:
    body = job_body(trained_job.dataset, kind="evaluate", model=trained_model["id"])
    problem = assert_problem(trained_job.client.post("/v1/jobs", json=body), 422)
    assert [(issue["pointer"], issue["code"]) for issue in problem["errors"]] == [
        ("/student", "nothing_to_train")
    ]
    assert problem["fix"] == [{"op": "remove", "path": "/student"}]


def test_evaluation_is_resolved(trained_job: Any, trained_model: Json) -> None:
    body = {"kind": "evaluate", "model": trained_model["id"], "dataset": trained_job.dataset["id"]}
    response = trained_job.client.post("/v1/jobs?validate_only=true", json=body).raise_for_status()
    assert response.json()["resolved"]["student"]["architecture"] == trained_model["architecture"]
    assert response.json()["estimate"]["trainings"] == 0


def test_methods_report_compatibility_with_a_pair(client: httpx.Client) -> None:
    methods_without_pair = client.get("/v1/methods").raise_for_status().json()["data"]
    assert {method["compatible"] for method in methods_without_pair} == {None}
    query = {"student": "cifar/resnet8", "teacher": "cifar/resnet32x4"}
    paired = client.get("/v1/methods", params=query).raise_for_status().json()["data"]
    assert {method["compatible"] for method in paired} == {True}
    query = {"student": MAPLESS, "teacher": ["cifar/resnet32x4", "cifar/resnet56"]}
    methods = client.get("/v1/methods", params=query).raise_for_status().json()["data"]
    by_name = {method["name"]: method for method in methods}
    assert by_name["kd"]["compatible"]
    assert by_name["kd"]["reason"] is by_name["kd"]["help"] is None
    assert by_name["rkd"]["compatible"] is False
    assert "one teacher" in by_name["rkd"]["reason"]
    query = {"student": MAPLESS, "teacher": "cifar/resnet32x4"}
    methods = client.get("/v1/methods", params=query).raise_for_status().json()["data"]
    by_name = {method["name"]: method for method in methods}
    assert by_name["rkd"]["compatible"]
    assert "feature maps" in by_name["attention"]["reason"]
    assert by_name["attention"]["help"]


def test_unknown_network_of_a_pair_suggests_nearest_name(client: httpx.Client) -> None:
    response = client.get("/v1/methods", params={"student": "cifar/resnet9", "teacher": "x"})
    issues = {issue["pointer"]: issue for issue in assert_problem(response, 422)["errors"]}
    assert set(issues) == {"?student", "?teacher"}
    assert "cifar/resnet8" in issues["?student"]["detail"]


def test_schemes_report_whether_they_need_a_teacher(client: httpx.Client) -> None:
    listed = client.get("/v1/schemes").raise_for_status().json()["data"]
    required = {scheme["name"] for scheme in listed if scheme["teacher"] == "required"}
    assert required == {"offline", "teacher_assistant"}


def test_network_from_a_file_only_teaches(trained_job: Any, teacher: Callable[..., Json]) -> None:
    model = teacher(architecture="exported_program", num_params=None, outputs={"map": [4, 8, 8]})
    student = "cifar/resnet8"
    cases: list[tuple[Json, dict[str, str]]] = [
        ({"student": {"derive": "teacher"}}, {"/student/derive": "program_as_student"}),
        (
            {"student": {"architecture": student, "init": model["model"]}},
            {"/student/init": "program_as_student"},
        ),
        (
            {"student": {"architecture": "exported_program"}},
            {"/student/architecture": "program_as_student"},
        ),
        ({"method": "fitnet"}, {"/teachers/0/taps": "taps_required"}),
        ({"method": "crd"}, {"/method": "no_pooled_features"}),
        (
            {"method": "fitnet", "teachers": [model | {"taps": ["x"]}]},
            {"/teachers/0/taps/0": "no_such_output"},
        ),
        (
            {"training": {"teacher_precision": "int8"}},
            {"/training/teacher_precision": "int8_unavailable"},
        ),
        ({"scheme": {"type": "teacher_assistant"}}, {"/scheme/assistants": "no_assistant"}),
    ]
    for changes, expected in cases:
        body = job_body(trained_job.dataset, teachers=[model]) | changes
        response = trained_job.client.post("/v1/jobs?validate_only=true", json=body)
        assert issue_codes(response) == expected, changes
    for changes in (
        {"method": "dkd"},
        {"method": "fitnet", "teachers": [model | {"taps": ["map"]}]},
    ):
        body = job_body(trained_job.dataset, teachers=[model]) | changes
        response = trained_job.client.post("/v1/jobs?validate_only=true", json=body)
        assert response.status_code == 200, response.text
    methods = trained_job.client.get("/v1/methods?teacher=onnx&limit=100").json()["data"]
    compatible = {method["name"]: method["compatible"] for method in methods}
    assert compatible["kd"]
    assert not any(compatible[name] for name in ("fitnet", "crd"))
