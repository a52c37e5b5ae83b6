"""Classes of models and data sets are matched by name when a job is posted."""

from collections.abc import Callable
from typing import Any

import pytest
from safetensors.torch import load, save

from tests.helpers import assert_problem, job_body, upload

Json = dict[str, Any]
ORDER = (0, 2, 1, 4, 3, 6, 5, 8, 7, 9)


@pytest.fixture
def copy_row(trained_job: Any) -> Callable[..., str]:
    """Copies a row of the trained job's project with changed columns; returns the new id."""
    from store.database import transaction
    from store.ids import new_id

    def copy(table: Any, row_id: str, **changes: Any) -> str:
        prefix = row_id.partition("_")[0]
        with transaction() as session:
            row = session.get_one(table, row_id)
            values = {column.key: getattr(row, column.key) for column in table.__table__.columns}
            copied = table(**values | {"id": new_id(prefix)} | changes)
            session.add(copied)
            session.flush()
            return str(copied.id)

    return copy


@pytest.fixture
def reordered_dataset(trained_job: Any, copy_row: Callable[..., str]) -> Json:
    """The digits with the classes 1 and 2, 3 and 4 … in another order."""
    from store.database import transaction
    from store.tables import Dataset

    with transaction() as session:
        info = dict(session.get_one(Dataset, trained_job.dataset["id"]).info or {})
    classes = [info["classes"][index] for index in ORDER]
    return {"id": copy_row(Dataset, trained_job.dataset["id"], info=info | {"classes": classes})}


def validate_job(trained_job: Any, body: Json) -> Json:
    response = trained_job.client.post("/v1/jobs?validate_only=true", json=body)
    assert response.status_code == 200, response.text
    return dict(response.json())


def test_classes_in_another_order_are_mapped_and_resolved(
    trained_job: Any, trained_model: Json, reordered_dataset: Json
) -> None:
    model = trained_model["id"]
    student = {"architecture": "cifar/resnet8", "init": model}
    job = job_body(reordered_dataset, teachers=[{"model": model}], student=student)
    validation = validate_job(trained_job, job)
    assert validation["resolved"]["teachers"][0]["class_map"] == list(ORDER)
    assert validation["resolved"]["student"]["class_map"] == list(ORDER)
    evaluation = {"kind": "evaluate", "model": model, "dataset": reordered_dataset["id"]}
    assert validate_job(trained_job, evaluation)["resolved"]["student"]["class_map"] == list(ORDER)
    continued = job_body(reordered_dataset, method="supervised") | {
        "from": {"job": trained_job.job["id"]}
    }
    assert validate_job(trained_job, continued)["resolved"]["student"]["class_map"] == list(ORDER)
    assert not [text for text in validation["warnings"] if "class" in text]


def test_other_names_are_a_warning_and_missing_classes_are_refused(
    trained_job: Any, trained_model: Json, copy_row: Callable[..., str]
) -> None:
    from store.tables import Model

    names = [f"digit {number}" for number in range(10)]
    other = copy_row(Model, trained_model["id"], class_names=names)
    body = job_body(trained_job.dataset, teachers=[{"model": other}])
    warnings = [w for w in validate_job(trained_job, body)["warnings"] if "no class named" in w]
    assert len(warnings) == 1
    assert "the teacher has no class named 0, 1, 2, 3, 4 (and 5 more)" in warnings[0]
    wide = copy_row(Model, trained_model["id"], class_names=[*names, "x"], num_classes=11)
    response = trained_job.client.post("/v1/jobs", json=body | {"teachers": [{"model": wide}]})
    (issue,) = assert_problem(response, 422)["errors"]
    assert (issue["pointer"], issue["code"]) == ("/teachers/0/model", "classes_mismatch")


def test_assumed_input_size_is_a_warning(
    trained_job: Any, trained_model: Json, copy_row: Callable[..., str]
) -> None:
    from store.tables import Model

    size = trained_job.dataset["image_size"]
    for declared, num_warnings in ((False, 1), (True, 0)):
        model = copy_row(Model, trained_model["id"], input_size=176, input_size_declared=declared)
        for body in (
            job_body(trained_job.dataset, teachers=[{"model": model}]),
            {"kind": "evaluate", "model": model, "dataset": trained_job.dataset["id"]},
        ):
            warnings = validate_job(trained_job, body)["warnings"]
            expected = f"was not given; 176 is assumed, the data set's images have {size}"
            assert sum(expected in warning for warning in warnings) == num_warnings


def test_teacher_without_names_in_another_order_fails_the_job_with_a_fix(
    trained_job: Any, trained_model: Json, run_queue: Callable[[str], None]
) -> None:
    client, weights = trained_job.client, load(trained_job.student)
    for name in ("fc.weight", "fc.bias"):
        weights[name] = weights[name][list(ORDER)].contiguous()
    model_body = {
        "name": "nameless",
        "upload_id": upload(client, save(weights)),
        "num_classes": 10,
        "reported_top1": 99.5,
        **{name: trained_model[name] for name in ("architecture", "input_size", "normalization")},
    }
    model = client.post("/v1/models", json=model_body).raise_for_status().json()
    run_queue("prepare")
    body = job_body(trained_job.dataset, teachers=[{"model": model["id"]}])
    job = client.post("/v1/jobs", json=body).raise_for_status().json()
    run_queue("train")
    error = client.get(f"/v1/jobs/{job['id']}").raise_for_status().json()["error"]
    assert error["code"] == "teacher_load_failed"
    order = error["likely_class_order"]
    # After two epochs the teacher never predicts some classes, so their order stays open.
    assert sum(index == expected for index, expected in zip(order, ORDER, strict=True)) >= 6
    assert sorted(order) == list(range(10))
    assert error["fix"] == [{"op": "add", "path": "/teachers/0/class_map", "value": order}]
    assert "is far below its reported accuracy of 99.5 %" in error["hint"]
    named = client.patch(f"/v1/models/{model['id']}", json={"class_names": list("abc")})
    (issue,) = assert_problem(named, 422)["errors"]
    assert (issue["pointer"], issue["code"]) == ("/class_names", "classes_mismatch")
    names = [trained_job.dataset["classes"][index] for index in ORDER]
    named = client.patch(f"/v1/models/{model['id']}", json={"class_names": names})
    assert named.raise_for_status().json()["class_names"] == names
    resolved = validate_job(trained_job, body)["resolved"]
    assert resolved["teachers"][0]["class_map"] == list(ORDER), "the names decide"
