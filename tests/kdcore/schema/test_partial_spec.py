"""The valid part of an invalid job, and the rules that still apply to it."""

from typing import Any

import pytest

from kdcore.schema.asset_info import DatasetFacts, ModelFacts
from kdcore.schema.job import JobSpec
from kdcore.schema.validation.compatibility import JobAssets
from kdcore.schema.validation.partial_spec import PartialSpec, parse_partially
from kdcore.schema.validation.rules import validate

DATASET = DatasetFacts(source="archive", num_classes=7, in_channels=1, image_size=16, num_train=200)
TEACHER = ModelFacts(architecture="cifar/resnet56", num_classes=7, in_channels=1)
VALID = {"student": {"architecture": "cifar/resnet8"}, "dataset": "ds_1"}


def parse(**fields: Any) -> PartialSpec[JobSpec]:
    partial = parse_partially(JobSpec, VALID | fields)
    assert partial is not None
    return partial


def issue_codes(**fields: Any) -> dict[str, str]:
    """Codes by pointer of the rules that apply to the intact fields."""
    job = parse(**fields)
    assets = JobAssets(DATASET, (TEACHER,) * len(job.spec.teachers))
    return {issue.pointer: issue.code for issue in validate(job, assets)}


def test_valid_body_is_intact() -> None:
    partial = parse(method=["kd", {"type": "dkd"}])
    assert partial == PartialSpec(
        JobSpec.model_validate(VALID | {"method": ["kd", {"type": "dkd"}]})
    )
    assert partial.is_intact("/method", "/dataset", "/absent")


@pytest.mark.parametrize("body", [[], "text", 1, None])
def test_body_that_is_no_object_has_no_valid_part(body: object) -> None:
    assert parse_partially(JobSpec, body) is None


def test_invalid_field_takes_its_default() -> None:
    partial = parse(training={"epochs": 0, "batch_size": 32}, seed=-1, unknown=1)
    assert partial.spec == JobSpec.model_validate(VALID | {"training": {"batch_size": 32}})
    assert partial.broken == {"/training/epochs", "/seed", "/unknown"}
    assert partial.is_intact("/training", "/training/batch_size")
    assert not partial.is_intact("/training/epochs")


@pytest.mark.parametrize("fields", [{"dataset": 5}, {"dataset": None}, {"dataset": "x" * 99}])
def test_invalid_required_field_takes_placeholder(fields: dict[str, Any]) -> None:
    partial = parse(**fields)
    assert partial.broken == {"/dataset"}
    assert partial.spec.student is not None


def test_teachers_keep_their_positions() -> None:
    teachers = [5, {"model": 1, "class_map": [0, 1]}, {}, {"model": "mdl_1", "weight": 0}]
    partial = parse(teachers=teachers)
    assert [teacher.class_map for teacher in partial.spec.teachers] == [None, (0, 1), None, None]
    assert partial.is_intact("/teachers", "/teachers/1/class_map", "/teachers/3/model")
    for broken in ("/teachers/0/model", "/teachers/1/model", "/teachers/2/model"):
        assert not partial.is_intact(broken)


def test_unknown_method_is_dropped_from_list() -> None:
    partial = parse(method=["nonsense", "kd", {"type": "x"}, {"type": "rkd", "weight": 0}])
    assert [method.type for method in partial.spec.methods] == ["kd", "rkd"]
    assert [partial.index("/method", position) for position in (0, 1)] == [1, 3]
    assert partial.is_readable("/method")
    assert not partial.is_intact("/method")


def test_contradicting_fields_leave_variant_with_its_defaults() -> None:
    partial = parse(method={"type": "dkd", "alpha": 0, "beta": 0})
    assert partial.spec.methods == JobSpec.model_validate(VALID | {"method": "dkd"}).methods
    assert partial.is_intact("/method")
    assert not partial.is_intact("/method/alpha")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"method": {"type": "kd", "temperature": 0}}, {"/teachers": "teacher_required"}),
        ({"method": [{"type": "kd", "temperature": 0}]}, {"/teachers": "teacher_required"}),
        ({"method": ["kd", "nonsense"]}, {"/teachers": "teacher_required"}),
        ({"method": {"type": "dkd", "alpha": 0, "beta": 0}}, {"/teachers": "teacher_required"}),
        ({"method": {"type": "nonsense"}}, {}),
        ({"method": "kd", "teachers": 5}, {}),
        ({"method": "kd", "teachers": [{"model": 5}]}, {}),
        ({"student": {"architecture": 5}}, {}),
        (
            {"student": {"architecture": 5, "num_classes": 3}},
            {"/student/num_classes": "classes_mismatch"},
        ),
        (
            {"student": 5, "training": {"class_weights": [1, 2]}},
            {"/training/class_weights": "classes_mismatch"},
        ),
        (
            {"method": ["nonsense", "crd"], "teachers": 2 * [{"model": "m"}]},
            {"/method/1": "one_teacher"},
        ),
        ({"kind": "x", "model": "mdl_1"}, {}),
        ({"kind": "evaluate", "model": 5}, {"/student": "nothing_to_train"}),
    ],
    ids=str,
)
def test_rules_skip_invalid_fields(fields: dict[str, Any], expected: dict[str, str]) -> None:
    assert issue_codes(**fields) == expected


def test_very_many_invalid_items_are_dropped() -> None:
    partial = parse(teachers=[{"model": "mdl_1", "class_map": ["x"] * 50_000}], labels={"?": 1})
    assert partial.spec.teachers[0].class_map is None
    assert not partial.is_intact("/teachers/0/class_map")
