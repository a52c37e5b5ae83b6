"""What a job may ask for beyond the plain pair: resolved, or told where it does not fit."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers import assert_problem, issue_codes, job_body

Json = dict[str, Any]
DERIVED = {"derive": "teacher", "convolution": "grouped", "groups": 4, "width": 0.5}


def bodies(root: Path) -> list[str]:
    text = (root / "docs" / "how-to" / "jobs.md").read_text(encoding="utf-8")
    return re.findall(r"```json\n(.*?)```", text, re.S)


def validated(client: httpx.Client, body: Json) -> Json:
    answer = client.post("/v1/jobs?validate_only=true", json=body)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def test_every_body_of_the_page_is_valid(root: Path, trained_job: Any, trained_model: Json) -> None:
    found = bodies(root)
    assert len(found) >= 12
    for text in found:
        for placeholder, own in (
            ("ds_…", trained_job.dataset["id"]),
            ("mdl_…", trained_model["id"]),
            ("job_…", trained_job.job["id"]),
        ):
            text = text.replace(placeholder, own)
        answer = trained_job.client.post("/v1/jobs?validate_only=true", json=json.loads(text))
        # Its twin of a group of classes: the page's teacher is a resnet of three stages.
        assert answer.status_code == 200, f"{text}\n{answer.text}"


def test_a_list_of_methods_takes_names_too(trained_job: Any, trained_model: Json) -> None:
    teachers = [{"model": trained_model["id"]}]
    named = job_body(trained_job.dataset, teachers=teachers, method=["kd", {"type": "rkd"}])
    whole = job_body(
        trained_job.dataset, teachers=teachers, method=[{"type": "kd"}, {"type": "rkd"}]
    )
    found, wanted = (validated(trained_job.client, body)["resolved"] for body in (named, whole))
    assert found["method"] == wanted["method"]
    assert [each["type"] for each in found["method"]] == ["kd", "rkd"]
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
def test_what_makes_no_sense_without_a_teacher_is_told(
    client: httpx.Client, digits: Json, changes: Json, expected: dict[str, str]
) -> None:
    found = issue_codes(client.post("/v1/jobs", json=job_body(digits, **changes)))
    assert expected.items() <= found.items()


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
        (
            {"method": {"type": "fitnet", "two_stage": False}, "label_weight": 0},
            {"/label_weight": "nothing_to_learn"},
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_the_teacher_is_told(
    trained_job: Any, trained_model: Json, changes: Json, expected: dict[str, str]
) -> None:
    body = job_body(trained_job.dataset, teachers=[{"model": trained_model["id"]}], **changes)
    assert issue_codes(trained_job.client.post("/v1/jobs", json=body)) == expected


def test_a_feature_method_takes_one_teacher(trained_job: Any, trained_model: Json) -> None:
    body = job_body(
        trained_job.dataset, teachers=[{"model": trained_model["id"]}] * 2, method="attention"
    )
    assert issue_codes(trained_job.client.post("/v1/jobs", json=body)) == {"/method": "one_teacher"}


def test_a_class_map_has_the_length_of_the_classes(trained_job: Any, trained_model: Json) -> None:
    teacher = {"model": trained_model["id"], "class_map": [0, 1]}
    body = job_body(trained_job.dataset, teachers=[teacher])
    assert issue_codes(trained_job.client.post("/v1/jobs", json=body)) == {
        "/teachers/0/class_map": "classes_mismatch"
    }


def test_validation_says_which_methods_fit_and_why_not(
    trained_job: Any, trained_model: Json
) -> None:
    body = job_body(
        trained_job.dataset,
        teachers=[{"model": trained_model["id"]}] * 2,
        training={"augmentation": [{"type": "crop_flip"}, {"type": "mixup"}]},
    )
    fits = {each["name"]: each for each in validated(trained_job.client, body)["methods"]}
    assert fits["kd"]["compatible"]
    assert fits["kd"]["reason"] is None
    assert fits["attention"]["code"] == "one_teacher"
    assert fits["dkd"]["code"] == "hard_labels_required"
    assert "mixup" in fits["dkd"]["reason"]
    assert fits["dkd"]["help"]


@pytest.mark.parametrize(
    "more",
    [{"scheme": {"type": "teacher_assistant"}}, {"evaluation": {"seeds": 3, "baseline": True}}],
    ids=str,
)
def test_an_evaluation_is_of_one_model_whatever_else_is_asked(
    trained_job: Any, trained_model: Json, more: Json
) -> None:
    body = {"kind": "evaluate", "model": trained_model["id"], "dataset": trained_job.dataset["id"]}
    found = validated(trained_job.client, body | more)
    assert found["resolved"]["scheme"] == {"type": "offline"}
    assert found["resolved"]["evaluation"] == {"baseline": False, "seeds": 1}


def test_a_derived_student_starts_from_weights_of_its_own_kind(
    trained_job: Any, trained_model: Json
) -> None:
    student = {**DERIVED, "init": trained_model["id"]}
    body = job_body(trained_job.dataset, teachers=[{"model": trained_model["id"]}], student=student)
    assert issue_codes(trained_job.client.post("/v1/jobs", json=body)) == {
        "/student/init": "init_mismatch"
    }


def test_a_step_of_a_job_that_is_not_done_is_no_place_to_go_on_from(
    client: httpx.Client, digits: Json
) -> None:
    queued = client.post("/v1/jobs", json=job_body(digits)).json()
    body = job_body(digits, **{"from": {"job": queued["id"], "checkpoint": "last"}})
    assert issue_codes(client.post("/v1/jobs", json=body)) == {"/from/job": "not_ready"}


def test_everything_is_resolved(trained_job: Any, trained_model: Json) -> None:
    body = job_body(
        trained_job.dataset,
        teachers=[{"model": trained_model["id"]}],
        student=DERIVED,
        method="dkd",
        exports=["onnx"],
        training={"epochs": 10, "augmentation": [{"type": "crop_flip"}, {"type": "cutout"}]},
    )
    found = validated(trained_job.client, body)["resolved"]
    assert found["student"]["architecture"] == "cifar/resnet8"
    assert found["method"][0]["warmup_epochs"] == 2
    assert found["exports"] == ["safetensors", "onnx"]
    assert [each["type"] for each in found["training"]["augmentation"]] == ["crop_flip", "cutout"]
    assert found["training"]["augmentation"][1]["size"] == 2


@pytest.mark.parametrize(
    ("scheme", "method"),
    [("mutual", "supervised"), ("born_again", "kd"), ("label_refinery", "kd")],
)
def test_schemes_that_need_no_teacher(
    client: httpx.Client, digits: Json, scheme: str, method: str
) -> None:
    found = validated(client, job_body(digits, scheme={"type": scheme}))
    assert [each["type"] for each in found["resolved"]["method"]] == [method]
    assert (
        found["estimate"]["trainings"]
        == {"mutual": 1, "born_again": 3, "label_refinery": 4}[scheme]
    )
    if scheme == "mutual":
        assert found["resolved"]["scheme"]["peers"] == ["cifar/resnet8"]


def test_color_networks_for_gray_images_are_asked_for_a_rule(
    trained_job: Any, trained_model: Json
) -> None:
    student = {"architecture": "cifar/resnet8", "channels": "repeat"}
    found = validated(
        trained_job.client, job_body(trained_job.dataset, student=student, method="supervised")
    )
    assert found["resolved"]["student"]["channels"] == "repeat"
    teacher = {"model": trained_model["id"], "channels": "repeat"}
    answer = trained_job.client.post(
        "/v1/jobs", json=job_body(trained_job.dataset, teachers=[teacher])
    )
    assert assert_problem(answer, 422)["errors"][0]["pointer"] == "/teachers/0/channels"
