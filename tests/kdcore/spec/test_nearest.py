"""An unknown field is told which one it may have meant."""

from typing import Any

import pytest
from pydantic import ValidationError

from kdcore.spec.faults import field_faults
from kdcore.spec.job import JobSpec

ABSENT = "there is no such field here"


def told(body: dict[str, Any]) -> dict[str, str]:
    """The sentence about each unknown field of a job."""
    whole = {"student": {"architecture": "cifar/resnet8"}, "dataset": "ds_1", "method": "kd"} | body
    with pytest.raises(ValidationError) as error:
        JobSpec.model_validate(whole)
    return {
        fault.pointer: fault.detail.removeprefix(ABSENT)
        for fault in field_faults(error.value.errors(), whole, JobSpec)
        if fault.code == "extra_forbidden"
    }


@pytest.mark.parametrize(
    ("body", "pointer", "meant"),
    [
        ({"epochs": 3}, "/epochs", "`training.epochs`"),
        ({"training": {"lr": 0.1}}, "/training/lr", "`training.optimizer.lr`"),
        ({"training": {"batchsize": 8}}, "/training/batchsize", "`batch_size`"),
        ({"method": {"type": "kd", "temprature": 2}}, "/method/temprature", "`temperature`"),
        ({"method": [{"type": "kd", "wieght": 2}]}, "/method/0/wieght", "`weight`"),
        ({"teachers": [{"model": "m", "chanels": "rgb"}]}, "/teachers/0/chanels", "`channels`"),
        ({"student": {"architecture": "cifar/resnet8", "arch": "x"}}, "/student/arch", None),
        ({"batch": 8}, "/batch", "`training.batch_size`"),
        ({"weight": 1}, "/weight", "`teachers.weight`, `method.weight` or `scheme.weight`"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_nearest_field_is_named(body: dict[str, Any], pointer: str, meant: str | None) -> None:
    assert told(body) == {pointer: f"; did you mean {meant or '`architecture`'}?"}


def test_a_variant_offers_its_own_fields_alone() -> None:
    adam: dict[str, Any] = {"training": {"optimizer": {"type": "adamw", "momentum": 0.9}}}
    assert told(adam) == {"/training/optimizer/momentum": ""}
    adam["training"]["optimizer"] = {"type": "adamw", "beta": [0.9, 0.9]}
    assert told(adam) == {"/training/optimizer/beta": "; did you mean `betas`?"}


@pytest.mark.parametrize("name", ["x", "", "`", "é" * 100_000])
def test_what_is_like_nothing_is_told_nothing(name: str) -> None:
    assert set(told({name: 1}).values()) == {""}
