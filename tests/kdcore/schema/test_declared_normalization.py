"""A declared normalization is of pixels from 0 to 1; values of 0..255 are refused with a fix."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from kdcore.schema.catalog import DeclaredNormalization, Normalization, architectures
from kdcore.schema.validation.errors import ValidationIssue, field_issues

ADAPTER: TypeAdapter[Normalization] = TypeAdapter(DeclaredNormalization)


def only_issue(mean: list[float], std: list[float]) -> ValidationIssue:
    body = {"mean": mean, "std": std}
    with pytest.raises(ValidationError) as caught:
        ADAPTER.validate_python(body)
    (issue,) = field_issues(caught.value.errors(include_url=False), body)
    return issue


@pytest.mark.parametrize(
    ("mean", "std", "scaled"),
    [
        ([127.5], [127.5], {"mean": [0.5], "std": [0.5]}),
        ([0], [255], {"mean": [0], "std": [1]}),
        # Caffe subtracts the mean and divides by nothing.
        ([102, 102, 102], [1, 1, 1], {"mean": [0.4] * 3, "std": [0.0039215686] * 3}),
    ],
)
def test_values_of_255_are_refused_with_the_conversion(
    mean: list[float], std: list[float], scaled: dict[str, Any]
) -> None:
    issue = only_issue(mean, std)
    assert issue.code == "normalization_of_255"
    assert "pixels are scaled to 0..1: divide mean and std by 255" in issue.detail
    assert issue.fix == [{"op": "replace", "path": "", "value": scaled}]
    ADAPTER.validate_python(scaled)


@pytest.mark.parametrize(("mean", "std"), [([0.5], [58.4]), ([123.7], [0.2]), ([30000], [9000])])
def test_values_of_mixed_scales_are_refused(mean: list[float], std: list[float]) -> None:
    issue = only_issue(mean, std)
    assert (issue.code, issue.fix) == ("normalization_scale", None)


def test_every_normalization_of_the_catalog_is_accepted() -> None:
    for entry in architectures().values():
        ADAPTER.validate_python(entry.normalization.model_dump())
