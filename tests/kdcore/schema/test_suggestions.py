"""An unknown field is told which one it may have meant."""

from typing import Any

import pytest
from pydantic import ValidationError

from kdcore.schema.job import JobSpec
from kdcore.schema.validation.errors import field_issues

ABSENT = "there is no such field here"


def told(body: dict[str, Any]) -> dict[str, str]:
    """The sentence about each unknown field of a job."""
    whole = {"student": {"architecture": "cifar/resnet8"}, "dataset": "ds_1", "method": "kd"} | body
    with pytest.raises(ValidationError) as error:
        JobSpec.model_validate(whole)
    return {
        fault.pointer: fault.detail.removeprefix(ABSENT)
        for fault in field_issues(error.value.errors(), whole, JobSpec)
        if fault.code == "extra_forbidden"
    }


def optimizer(**fields: Any) -> dict[str, Any]:
    return {"training": {"optimizer": fields}}


@pytest.mark.parametrize(
    ("body", "pointer", "meant"),
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
def test_the_nearest_field_is_named(body: dict[str, Any], pointer: str, meant: str) -> None:
    assert told(body) == {pointer: f"; did you mean {meant}?"}


@pytest.mark.parametrize("name", ["momentum", "momentun", "nesterov"])
def test_what_another_variant_has_is_not_offered(name: str) -> None:
    """``method`` has a momentum too, of another meaning."""
    assert told(optimizer(type="adamw", **{name: 0.9})) == {f"/training/optimizer/{name}": ""}


@pytest.mark.parametrize("name", ["x", "id", "", "`", "é" * 100_000])
def test_what_is_like_nothing_is_told_nothing(name: str) -> None:
    assert set(told({name: 1}).values()) == {""}


def test_of_very_many_unknown_fields_the_first_ones_are_told() -> None:
    hints = [hint for hint in told({f"epochs{n}": 1 for n in range(1000)}).values() if hint]
    assert hints == ["; did you mean `/training/epochs`?"] * 20
