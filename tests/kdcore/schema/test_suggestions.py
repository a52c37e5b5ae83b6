"""The message about an unknown field suggests similar names."""

from typing import Any

import pytest
from pydantic import ValidationError

from kdcore.schema.job import JobSpec
from kdcore.schema.validation.errors import field_issues

UNKNOWN_FIELD = "there is no such field here"


def suggestions(body: dict[str, Any]) -> dict[str, str]:
    """The suggestion for each unknown field of a job, by pointer."""
    complete_body = {
        "student": {"architecture": "cifar/resnet8"},
        "dataset": "ds_1",
        "method": "kd",
    } | body
    with pytest.raises(ValidationError) as error:
        JobSpec.model_validate(complete_body)
    return {
        issue.pointer: issue.detail.removeprefix(UNKNOWN_FIELD)
        for issue in field_issues(error.value.errors(), complete_body, JobSpec)
        if issue.code == "extra_forbidden"
    }


def optimizer(**fields: Any) -> dict[str, Any]:
    return {"training": {"optimizer": fields}}


@pytest.mark.parametrize(
    ("body", "pointer", "suggestion"),
    [
        ({"epochs": 3}, "/epochs", "`/training/epochs`"),
        ({"training": {"lr": 0.1}}, "/training/lr", "`/training/optimizer/lr`"),
        ({"training": {"seed": 3}}, "/training/seed", "`/seed`"),
        ({"training": {"batchsize": 8}}, "/training/batchsize", "`batch_size`"),
        ({"batch": 8}, "/batch", "`/training/batch_size`"),
        ({"seeds": 3}, "/seeds", "`/evaluation/seeds` or `seed`"),
        ({"evaluation": {"seed": 3}}, "/evaluation/seed", "`/seed` or `seeds`"),
        ({"method": {"type": "kd", "temprature": 2}}, "/method/temprature", "`temperature`"),
        ({"method": [{"type": "kd", "wieght": 2}]}, "/method/0/wieght", "`weight`"),
        ({"teachers": [{"model": "m", "chanels": "rgb"}]}, "/teachers/0/chanels", "`channels`"),
        (
            {"student": {"architecture": "cifar/resnet8", "arch": "x"}},
            "/student/arch",
            "`architecture`",
        ),
        (
            {"weight": 1},
            "/weight",
            "`/teachers/0/weight`, `/method/weight` or `/scheme/weight`",
        ),
        (
            optimizer(type="adamw", beta=0.9),
            "/training/optimizer/beta",
            "`/method/beta` or `betas`",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unknown_field_suggests_nearest_name(
    body: dict[str, Any], pointer: str, suggestion: str
) -> None:
    assert suggestions(body) == {pointer: f"; did you mean {suggestion}?"}


@pytest.mark.parametrize("name", ["momentum", "momentun", "nesterov"])
def test_field_of_another_variant_is_not_suggested(name: str) -> None:
    """The method crd also has a field ``momentum``, with another meaning."""
    assert suggestions(optimizer(type="adamw", **{name: 0.9})) == {
        f"/training/optimizer/{name}": ""
    }


@pytest.mark.parametrize("name", ["x", "id", "", "`", "é" * 100_000])
def test_name_without_similar_field_gets_no_suggestion(name: str) -> None:
    assert set(suggestions({name: 1}).values()) == {""}


def test_only_first_unknown_fields_get_suggestions() -> None:
    hints = [hint for hint in suggestions({f"epochs{n}": 1 for n in range(1000)}).values() if hint]
    assert hints == ["; did you mean `/training/epochs`?"] * 20


@pytest.mark.parametrize(
    ("fields", "pointer", "expected"),
    [
        ({"exports": "onnx"}, "/exports", "must be a list, in brackets: `[…]`"),
        ({"teachers": ["mdl_x"]}, "/teachers/0", 'must be an object, such as `{"model": "mdl_…"}`'),
        (
            {"student": "cifar/resnet8"},
            "/student",
            'must be an object, such as `{"architecture": "cifar/resnet8"}`',
        ),
        (
            {"training": {"augmentation": "none"}},
            "/training/augmentation",
            'must be an object, such as `{"type": "none"}`',
        ),
        ({"from": "job_x"}, "/from", 'must be an object, such as `{"job": "job_…"}`'),
        (
            {"student": "secret"},
            "/student",
            'must be an object, such as `{"architecture": "cifar/resnet8"}`',
        ),
        ({"accept": 95}, "/accept", "must be an object"),
    ],
)
def test_a_text_instead_of_an_object_or_a_list_gets_an_example(
    fields: dict[str, Any], pointer: str, expected: str
) -> None:
    body = {"student": {"architecture": "cifar/resnet8"}, "dataset": "ds_1"} | fields
    with pytest.raises(ValidationError) as error:
        JobSpec.model_validate(body)
    (issue,) = field_issues(error.value.errors(), body, JobSpec)
    assert (issue.pointer, issue.detail) == (pointer, expected)
