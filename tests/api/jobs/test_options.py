"""Options of a job are resolved, or rejected where they do not apply."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers import assert_problem, issue_codes, job_body

Json = dict[str, Any]
DERIVED = {"derive": "teacher", "convolution": "grouped", "groups": 4, "width": 0.5}


def read_bodies(root: Path) -> list[str]:
    text = (root / "docs" / "how-to" / "jobs.md").read_text(encoding="utf-8")
    return re.findall(r"```json\n(.*?)```", text, re.S)


def assert_valid(client: httpx.Client, body: Json) -> Json:
    response = client.post("/v1/jobs?validate_only=true", json=body)
    assert response.status_code == 200, response.text
    validation: Json = response.json()
    return validation


def test_every_body_of_the_jobs_page_is_valid(
    root: Path, trained_job: Any, trained_model: Json
) -> None:
    texts = read_bodies(root)
    assert len(texts) >= 12
    for text in texts:
        for placeholder, value in (
            ("ds_…", trained_job.dataset["id"]),
            ("mdl_…", trained_model["id"]),
            ("job_…", trained_job.job["id"]),
        ):
            text = text.replace(placeholder, value)
        response = trained_job.client.post("/v1/jobs?validate_only=true", json=json.loads(text))
        assert response.status_code == 200, f"{text}\n{response.text}"


def test_method_list_accepts_names(trained_job: Any, trained_model: Json) -> None:
    teachers = [{"model": trained_model["id"]}]
    with_names = job_body(trained_job.dataset, teachers=teachers, method=["kd", {"type": "rkd"}])
    with_objects = job_body(
        trained_job.dataset, teachers=teachers, method=[{"type": "kd"}, {"type": "rkd"}]
    )
    resolved, expected = (
        assert_valid(trained_job.client, body)["resolved"] for body in (with_names, with_objects)
    )
    assert resolved["method"] == expected["method"]
    assert [method["type"] for method in resolved["method"]] == ["kd", "rkd"]
    wrong = job_body(trained_job.dataset, teachers=teachers, method=["kd", "no such"])
    assert issue_codes(trained_job.client.post("/v1/jobs", json=wrong)) == {
        "/method/1": "literal_error"
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"student": DERIVED}, {"/student/derive": "teacher_required"}),
        (
            {"student": {"architecture": "cifar/resnet8", "groups": 4}},
            {"/student/groups": "contradiction"},
        ),
        ({"scheme": {"type": "teacher_assistant"}}, {"/teachers": "teacher_required"}),
        ({"kind": "evaluate", "student": None}, {"/model": "missing"}),
        ({"model": "mdl_x"}, {"/model": "not_found"}),
        ({"from": {"job": "job_nothing"}}, {"/from/job": "not_found"}),
        ({"training": {"class_weights": [1, 2]}}, {"/training/class_weights": "classes_mismatch"}),
        (
            {"training": {"augmentation": [{"type": "mixup"}, {"type": "cutmix"}]}},
            {"/training/augmentation": "augmentations"},
        ),
        (
            {"student": {"architecture": "cifar/resnet8", "channels": "luminance"}},
            {"/student/channels": "channels_mismatch"},
        ),
        (
            {"method": "supervised", "label_weight": 0, "scheme": {"type": "born_again"}},
            {"/label_weight": "nothing_to_learn"},
        ),
        (
            {"method": "kd", "label_weight": 0, "scheme": {"type": "mutual"}},
            {"/label_weight": "nothing_to_learn"},
        ),
        (
            {"training": {"optimizer": {"type": "sgd", "momentum": 0, "nesterov": True}}},
            {"/training/optimizer": "nesterov_without_momentum"},
        ),
        (
            {"training": {"augmentation": {"type": "mixup"}, "views": 4}},
            {"/training/views": "mixed_views"},
        ),
        ({"training": {"views": 0}}, {"/training/views": "greater_than_equal"}),
        (
            {"scheme": {"type": "mutual", "peers": ["torchvision/inception_v3"]}},
            {"/scheme/peers/0": "input_too_small"},
        ),
        ({"exports": ["tflite"]}, {"/exports/0": "literal_error"}),
    ],
    ids=str,
)
def test_invalid_options_without_a_teacher_are_rejected(
    client: httpx.Client, digits: Json, changes: Json, expected: dict[str, str]
) -> None:
    codes = issue_codes(client.post("/v1/jobs", json=job_body(digits, **changes)))
    assert expected.items() <= codes.items()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"method": "dkd", "training": {"augmentation": [{"type": "mixup"}]}},
            {"/method": "hard_labels_required"},
        ),
        (
            {
                "method": [{"type": "kd"}, {"type": "crd"}],
                "training": {"augmentation": {"type": "cutmix"}},
            },
            {"/method/1": "hard_labels_required"},
        ),
        (
            {"student": {"architecture": "cifar/resnet8", "derive": "teacher"}},
            {"/student/derive": "contradiction"},
        ),
        (
            {"scheme": {"type": "teacher_assistant"}},
            {"/scheme/assistants": "no_assistant"},
        ),
        ({"method": "attention", "label_weight": 0}, {"/label_weight": "nothing_to_learn"}),
        ({"method": "kd", "label_weight": "auto"}, {"/label_weight": "contradiction"}),
        (
            {"method": {"type": "kd", "weight": "best"}, "label_weight": "auto"},
            {"/method/weight": "literal_error"},
        ),
        ({"method": {"type": "kd", "weight": -1}}, {"/method/weight": "greater_than"}),
        (
            {"method": {"type": "fitnet", "two_stage": False}, "label_weight": 0},
            {"/label_weight": "nothing_to_learn"},
        ),
    ],
    ids=str,
)
def test_invalid_options_with_a_teacher_are_rejected(
    trained_job: Any, trained_model: Json, changes: Json, expected: dict[str, str]
) -> None:
    body = job_body(trained_job.dataset, teachers=[{"model": trained_model["id"]}], **changes)
    assert issue_codes(trained_job.client.post("/v1/jobs", json=body)) == expected


def test_feature_method_takes_one_teacher(trained_job: Any, trained_model: Json) -> None:
    body = job_body(
        trained_job.dataset, teachers=[{"model": trained_model["id"]}] * 2, method="attention"
    )
    assert issue_codes(trained_job.client.post("/v1/jobs", json=body)) == {"/method": "one_teacher"}


def test_class_map_needs_one_entry_per_class(trained_job: Any, trained_model: Json) -> None:
    teacher = {"model": trained_model["id"], "class_map": [0, 1]}
    body = job_body(trained_job.dataset, teachers=[teacher])
    assert issue_codes(trained_job.client.post("/v1/jobs", json=body)) == {
        "/teachers/0/class_map": "classes_mismatch"
    }


def test_validation_reports_compatible_methods(trained_job: Any, trained_model: Json) -> None:
    body = job_body(
        trained_job.dataset,
        teachers=[{"model": trained_model["id"]}] * 2,
        training={"augmentation": [{"type": "crop_flip"}, {"type": "mixup"}]},
    )
    methods = {
        method["name"]: method for method in assert_valid(trained_job.client, body)["methods"]
    }
    assert methods["kd"]["compatible"]
    assert methods["kd"]["reason"] is None
    assert methods["attention"]["code"] == "one_teacher"
    assert methods["dkd"]["code"] == "hard_labels_required"
    assert "mixup" in methods["dkd"]["reason"]
    assert methods["dkd"]["help"]


@pytest.mark.parametrize(
    "options",
    [{"scheme": {"type": "teacher_assistant"}}, {"evaluation": {"seeds": 3, "baseline": True}}],
    ids=str,
)
def test_evaluation_ignores_scheme_and_seeds(
    trained_job: Any, trained_model: Json, options: Json
) -> None:
    body = {"kind": "evaluate", "model": trained_model["id"], "dataset": trained_job.dataset["id"]}
    validation = assert_valid(trained_job.client, body | options)
    assert validation["resolved"]["scheme"] == {"type": "offline"}
    assert validation["resolved"]["evaluation"] == {"baseline": False, "seeds": 1}


def test_derived_student_needs_initial_weights_of_its_architecture(
    trained_job: Any, trained_model: Json
) -> None:
    student = {**DERIVED, "init": trained_model["id"]}
    body = job_body(trained_job.dataset, teachers=[{"model": trained_model["id"]}], student=student)
    assert issue_codes(trained_job.client.post("/v1/jobs", json=body)) == {
        "/student/init": "init_mismatch"
    }


def test_step_of_an_unfinished_job_cannot_be_continued(client: httpx.Client, digits: Json) -> None:
    queued = client.post("/v1/jobs", json=job_body(digits)).json()
    body = job_body(digits, **{"from": {"job": queued["id"], "checkpoint": "last"}})
    assert issue_codes(client.post("/v1/jobs", json=body)) == {"/from/job": "not_ready"}


def test_every_option_is_resolved(trained_job: Any, trained_model: Json) -> None:
    body = job_body(
        trained_job.dataset,
        teachers=[{"model": trained_model["id"]}],
        student=DERIVED,
        method="dkd",
        exports=["onnx"],
        training={"epochs": 10, "augmentation": [{"type": "crop_flip"}, {"type": "cutout"}]},
    )
    resolved = assert_valid(trained_job.client, body)["resolved"]
    assert resolved["student"]["architecture"] == "cifar/resnet8"
    assert resolved["method"][0]["warmup_epochs"] == 2
    assert resolved["exports"] == ["safetensors", "onnx"]
    assert [augmentation["type"] for augmentation in resolved["training"]["augmentation"]] == [
        "crop_flip",
        "cutout",
    ]
    assert resolved["training"]["augmentation"][1]["size"] == 2


@pytest.mark.parametrize(
    ("scheme", "method"),
    [("mutual", "supervised"), ("born_again", "kd"), ("label_refinery", "kd")],
)
def test_some_schemes_need_no_teacher(
    client: httpx.Client, digits: Json, scheme: str, method: str
) -> None:
    validation = assert_valid(client, job_body(digits, scheme={"type": scheme}))
    assert [entry["type"] for entry in validation["resolved"]["method"]] == [method]
    assert (
        validation["estimate"]["trainings"]
        == {"mutual": 1, "born_again": 3, "label_refinery": 4}[scheme]
    )
    if scheme == "mutual":
        assert validation["resolved"]["scheme"]["peers"] == ["cifar/resnet8"]


def test_color_network_for_gray_images_needs_a_channel_rule(
    trained_job: Any, trained_model: Json
) -> None:
    student = {"architecture": "cifar/resnet8", "channels": "repeat"}
    validation = assert_valid(
        trained_job.client, job_body(trained_job.dataset, student=student, method="supervised")
    )
    assert validation["resolved"]["student"]["channels"] == "repeat"
    teacher = {"model": trained_model["id"], "channels": "repeat"}
    response = trained_job.client.post(
        "/v1/jobs", json=job_body(trained_job.dataset, teachers=[teacher])
    )
    assert assert_problem(response, 422)["errors"][0]["pointer"] == "/teachers/0/channels"
