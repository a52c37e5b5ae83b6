"""Classes of a model are matched with those of a data set by name, and the job says so."""

from typing import Any

import pytest

from kdcore.schema.asset_info import DatasetFacts, ModelFacts
from kdcore.schema.defaults import model_warnings, resolve_job
from kdcore.schema.job import JobSpec, ResolvedJob
from kdcore.schema.validation.class_matching import class_warning, is_order_known, match_classes
from kdcore.schema.validation.compatibility import JobAssets
from kdcore.schema.validation.partial_spec import PartialSpec
from kdcore.schema.validation.rules import validate

Names = tuple[str, ...]


@pytest.mark.parametrize(
    ("classes", "model_names", "class_map"),
    [
        (("a", "b", "d", "c"), ("a", "b", "c", "d"), (0, 1, 3, 2)),
        (("a", "b"), ("a", "b"), None),
        (("c", "a"), ("a", "b", "c"), (2, 0)),
        (("Tabby Cat", "great-white"), ("great_white", "tabby_cat"), (1, 0)),
        (("0", "1", "2", "10"), ("0", "1", "10", "2"), (0, 1, 3, 2)),
        (("1", "2"), ("02", "01"), (1, 0)),
        # WordNet ids, and torchvision's and timm's names of the same classes.
        (("n01443537", "n01440764"), ("tench", "goldfish"), (1, 0)),
        (("n01443537", "n01440764"), ("tench, Tinca tinca", "goldfish, Carassius auratus"), (1, 0)),
        (("tench", "goldfish"), ("n01443537", "n01440764"), (1, 0)),
        # Equal numbers of classes: the name that the model lacks gets the class that remains.
        (("a", "b", "d", "x"), ("a", "b", "c", "d"), (0, 1, 3, 2)),
        (("p", "q"), ("a", "b"), None),
        # Numbers that may be counted from another start are not matched by name.
        (("0", "1", "2"), ("1", "2", "3"), None),
        (("0", "1"), ("1", "-1"), None),
        (("-1", "01"), ("1", "-01"), (1, 0)),
        # Each round matches what the earlier ones left open.
        ((*"XY", "goldfish", "tench"), (*"yx", "n01440764", "n01443537"), (1, 0, 3, 2)),
    ],
)
def test_classes_are_matched_by_name(
    classes: Names, model_names: Names, class_map: tuple[int, ...] | None
) -> None:
    match = match_classes(classes, model_names, len(model_names))
    assert match is not None
    assert match.class_map == class_map


def test_ambiguous_names_are_not_matched() -> None:
    match = match_classes(("crane", "owl"), ("crane", "owl", "crane"), 3)
    assert match is not None
    assert (match.indices, match.unmatched) == ((None, 1), ("crane",))
    assert match.class_map is None


def test_other_numbers_are_matched_by_their_order_with_a_warning() -> None:
    classes = tuple(map(str, range(10)))
    names = tuple(map(str, range(1, 11)))
    match = match_classes(classes, names, 10)
    assert match is not None
    assert (match.class_map, match.unmatched) == (None, ("0",))
    warning = class_warning("teacher", classes, names, 10, None)
    assert warning is not None
    assert "all classes are matched by their order (0 is 1, 1 is 2" in warning
    assert class_warning("teacher", classes, names, 10, tuple(range(10))) is None
    assert not is_order_known(classes, names, 10, None)
    subset = match_classes(("3", "1"), classes, 10)
    assert subset is not None
    assert subset.class_map == (3, 1)


def test_a_model_without_names_is_not_matched() -> None:
    assert match_classes(("a", "b"), None, 2) is None
    assert match_classes((), ("a", "b"), 2) is None


def facts(names: Names | None, num_classes: int | None = None) -> ModelFacts:
    return ModelFacts(
        architecture="cifar/resnet8",
        num_classes=num_classes or len(names or ()),
        in_channels=1,
        class_names=names,
    )


DATASET = DatasetFacts(
    source="archive",
    num_classes=4,
    in_channels=1,
    image_size=16,
    num_train=200,
    classes=("a", "b", "d", "c"),
)
TRAINED = ("a", "b", "c", "d")


def body(**fields: Any) -> JobSpec:
    student = {"architecture": "cifar/resnet8"}
    return JobSpec.model_validate({"student": student, "dataset": "ds_1"} | fields)


def resolve(spec: JobSpec, model: ModelFacts) -> ResolvedJob:
    """The job with one model for the teacher, the initial weights or the evaluated model."""
    teachers = (model,) if spec.teachers else ()
    start = None if spec.teachers else model
    assets = JobAssets(DATASET, teachers, init=start, model=start if spec.model else None)
    assert validate(PartialSpec(spec), assets) == []
    return resolve_job(spec, DATASET, teachers, assets.model, start)


TEACHER = {"teachers": [{"model": "mdl_1"}]}
INIT = {"student": {"architecture": "cifar/resnet8", "init": "mdl_1"}}
EVALUATION = {"kind": "evaluate", "model": "mdl_1", "student": None}


@pytest.mark.parametrize("fields", [TEACHER, INIT, EVALUATION])
@pytest.mark.parametrize(
    ("names", "class_map"),
    [
        (TRAINED, (0, 1, 3, 2)),
        (DATASET.classes, None),
        (("x", "d", "c", "b", "a"), (4, 3, 1, 2)),
    ],
)
def test_resolved_job_has_the_class_map(
    fields: dict[str, Any], names: Names, class_map: tuple[int, ...] | None
) -> None:
    job = resolve(body(**fields), facts(names))
    maps = [teacher.class_map for teacher in job.teachers] or [job.student.class_map]
    assert maps == [class_map]


def test_a_class_map_of_the_job_counts_before_names() -> None:
    spec = body(teachers=[{"model": "mdl_1", "class_map": [3, 2, 1, 0]}])
    job = resolve(spec, facts(TRAINED))
    assert job.teachers[0].class_map == (3, 2, 1, 0)
    (warning,) = model_warnings(job, DATASET, (facts(TRAINED),))
    assert warning == (
        "class_map contradicts the class names of the teacher: a is d, b is c, d is b, c is a"
    )


@pytest.mark.parametrize(
    ("fields", "noun"), [(TEACHER, "teacher"), (INIT, "initial model"), (EVALUATION, "model")]
)
def test_other_names_are_a_warning(fields: dict[str, Any], noun: str) -> None:
    model = facts(("a", "b", "c", "owl"))
    job = resolve(body(**fields), model)
    teachers = (model,) if job.teachers else ()
    (warning,) = model_warnings(job, DATASET, teachers, None if teachers else model)
    assert f"{noun} has no class named d: these classes are matched by their order" in warning
    # Only a teacher has a class_map.
    assert ("set class_map" in warning) == (noun == "teacher")
    assert f"{noun} to the data set's names, in the order of its logits" in warning


@pytest.mark.parametrize(
    ("fields", "noun"), [(TEACHER, "teacher"), (INIT, None), (EVALUATION, "model")]
)
def test_assumed_input_size_that_is_not_the_data_sets_is_a_warning(
    fields: dict[str, Any], noun: str | None
) -> None:
    for size, is_other in ((176, True), (DATASET.image_size, False)):
        model = facts(TRAINED).model_copy(update={"assumed_input_size": size})
        job = resolve(body(**fields), model)
        teachers = (model,) if job.teachers else ()
        warnings = model_warnings(job, DATASET, teachers, None if teachers else model)
        # A student trains at the data set's size.
        assert len(warnings) == (1 if is_other and noun else 0)
        for warning in warnings:
            assert warning.startswith(
                f"input_size of the {noun} was not given; 176 is assumed, the data set's images "
                f"have {DATASET.image_size}"
            )


@pytest.mark.parametrize("fields", [TEACHER, INIT, EVALUATION])
def test_names_in_any_order_and_missing_names_of_a_nameless_model_are_no_warning(
    fields: dict[str, Any],
) -> None:
    for model in (facts(TRAINED), facts(None, 4)):
        job = resolve(body(**fields), model)
        teachers = (model,) if job.teachers else ()
        assert model_warnings(job, DATASET, teachers, None if teachers else model) == []


@pytest.mark.parametrize(
    ("fields", "pointer", "code"),
    [
        (TEACHER, "/teachers/0/model", "classes_mismatch"),
        (INIT, "/student/init", "init_mismatch"),
        (EVALUATION, "/model", "classes_mismatch"),
    ],
)
def test_a_model_that_lacks_classes_is_refused(
    fields: dict[str, Any], pointer: str, code: str
) -> None:
    spec, model = body(**fields), facts(("a", "b", "c", "x", "y"))
    start = None if spec.teachers else model
    teachers = (model,) if spec.teachers else ()
    assets = JobAssets(DATASET, teachers, init=start, model=start if spec.model else None)
    (issue,) = validate(PartialSpec(spec), assets)
    assert (issue.pointer, issue.code) == (pointer, code)
    if code == "classes_mismatch":
        assert "it has none named d" in issue.detail
