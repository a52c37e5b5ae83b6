"""Rules between a job, its data set and its models, and rules between the fields of a job."""

from typing import Any

import pytest
from pydantic import ValidationError

from kdcore.schema.asset_info import DatasetFacts, ModelFacts
from kdcore.schema.catalog import architectures
from kdcore.schema.defaults import resolve_job
from kdcore.schema.job import JobSpec
from kdcore.schema.methods import METHODS, as_methods
from kdcore.schema.methods.fitnet import FitNet
from kdcore.schema.schemes.teacher_assistant import propose_assistants
from kdcore.schema.validation.compatibility import JobAssets, teacher_student_pair
from kdcore.schema.validation.partial_spec import PartialSpec
from kdcore.schema.validation.rules import validate

DATASET = DatasetFacts(source="archive", num_classes=7, in_channels=1, image_size=16, num_train=200)
TEACHER = ModelFacts(architecture="cifar/resnet56", num_classes=7, in_channels=1)
ARCHITECTURE_WITHOUT_MAPS = "timm/mambaout_base"


def job_body(**fields: Any) -> dict[str, Any]:
    body = {"student": {"architecture": "cifar/resnet8"}, "dataset": "ds_1"}
    return body | {"teachers": [{"model": "mdl_1"}]} | fields


def issue_codes(
    body: dict[str, Any], dataset: DatasetFacts = DATASET, **models: Any
) -> dict[str, str]:
    """Codes of all issues of a job without invalid fields, by pointer."""
    job = PartialSpec(JobSpec.model_validate(body))
    teachers = models.get("teachers", [TEACHER] * len(job.spec.teachers))
    assets = JobAssets(dataset, tuple(teachers), None, models.get("model"))
    return {issue.pointer: issue.code for issue in validate(job, assets)}


def evaluation(**facts: Any) -> tuple[dict[str, Any], ModelFacts]:
    default = {"architecture": "cifar/resnet8", "num_classes": 7, "in_channels": 1}
    body = {"kind": "evaluate", "model": "mdl_1", "dataset": "ds_1"}
    return body, ModelFacts(**default | facts)


@pytest.mark.parametrize(
    ("image_channels", "model_channels", "rule"),
    [(1, 1, None), (3, 3, None), (1, 3, "repeat"), (3, 1, "luminance")],
)
def test_evaluation_derives_channel_rule_from_model(
    image_channels: int, model_channels: int, rule: str | None
) -> None:
    dataset = DATASET.model_copy(update={"in_channels": image_channels})
    body, model = evaluation(in_channels=model_channels)
    assert issue_codes(body, dataset, model=model) == {}
    job = resolve_job(JobSpec.model_validate(body), dataset, (), model)
    assert job.student.channels == rule


def test_evaluated_model_needs_classes_of_dataset() -> None:
    body, model = evaluation(num_classes=9, in_channels=3)
    assert issue_codes(body, model=model) == {"/model": "classes_mismatch"}


@pytest.mark.parametrize(
    ("student_taps", "teacher_taps", "method", "code"),
    [
        (["layer2", "layer3"], ["layer3"], "attention", "taps_mismatch"),
        (["layer3"], ["layer2", "layer3"], "attention", "taps_mismatch"),
        (["layer3"], ["layer3"], "fsp", "too_few_maps"),
        (["layer3"], None, "fsp", "too_few_maps"),
        (None, ["layer3"], "fsp", "too_few_maps"),
        (["layer2", "layer3"], ["layer2", "layer3"], "fsp", None),
        (["layer2", "layer3"], None, "fsp", None),
        (["layer2", "layer3"], ["layer3"], "kd", None),
    ],
)
def test_methods_check_number_of_named_taps(
    student_taps: list[str] | None, teacher_taps: list[str] | None, method: str, code: str | None
) -> None:
    body = job_body(
        student={"architecture": "cifar/resnet8", "taps": student_taps},
        teachers=[{"model": "mdl_1", "taps": teacher_taps}],
        method=method,
    )
    assert issue_codes(body).get("/method") == code


def test_taps_may_differ_where_teacher_teaches_assistants_only() -> None:
    body = job_body(
        student={"architecture": "cifar/resnet8", "taps": ["layer2", "layer3"]},
        teachers=[{"model": "mdl_1", "taps": ["layer3"]}],
        method="attention",
        scheme={"type": "teacher_assistant", "assistants": ["cifar/resnet14"]},
    )
    assert issue_codes(body) == {}


def test_taps_of_one_network_do_not_replace_those_of_another() -> None:
    teacher = TEACHER.model_copy(update={"architecture": ARCHITECTURE_WITHOUT_MAPS})
    student = {"architecture": "cifar/resnet8", "taps": ["layer3"]}
    body = job_body(student=student, method="attention")
    assert issue_codes(body, teachers=[teacher])["/method"] == "too_few_maps"


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].min_batch > 1])
def test_method_refuses_batches_smaller_than_minimum(method: str) -> None:
    one_image = DATASET.model_copy(update={"num_train": 1})
    assert issue_codes(job_body(method=method), one_image) == {"/method": "batch_too_small"}
    two_images = one_image.model_copy(update={"num_unlabeled": 1})
    assert issue_codes(job_body(method=method), two_images) == {}
    assert issue_codes(job_body(method="kd"), one_image) == {}
    with pytest.raises(ValidationError, match="batch_size"):
        JobSpec.model_validate(job_body(training={"batch_size": 1}))


@pytest.mark.parametrize(
    ("method", "parts"),
    [
        ("dkd", ("alpha", "beta")),
        ("dist", ("beta", "gamma")),
        ("rkd", ("distance_weight", "angle_weight")),
    ],
)
def test_method_needs_one_part_with_positive_weight(method: str, parts: tuple[str, str]) -> None:
    params = METHODS[method]
    for part in parts:
        params.model_validate({"type": method, part: 0})
    with pytest.raises(ValidationError, match=f"{parts[0]} and {parts[1]} must be above 0"):
        params.model_validate({"type": method, **dict.fromkeys(parts, 0)})


@pytest.mark.parametrize(
    ("fields", "expected"), [({}, True), ({"kd_weight": 0}, False), ({"two_stage": False}, False)]
)
def test_fitnet_teaches_classifier_in_second_stage_only(
    fields: dict[str, Any], expected: bool
) -> None:
    assert FitNet(type="fitnet", **fields).teaches_classifier == expected
    codes = issue_codes(job_body(method={"type": "fitnet", **fields}, label_weight=0))
    assert codes == ({} if expected else {"/label_weight": "nothing_to_learn"})


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"scheme": {"type": "mutual"}}, "nothing_to_learn"),
        ({"scheme": {"type": "label_refinery"}}, None),
        ({"scheme": {"type": "born_again"}}, None),
        ({"scheme": {"type": "born_again"}, "method": "attention"}, "nothing_to_learn"),
    ],
)
def test_scheme_without_teacher_may_train_classifier(
    fields: dict[str, Any], code: str | None
) -> None:
    body = job_body(teachers=[], label_weight=0, **fields)
    assert issue_codes(body).get("/label_weight") == code


def test_crd_refuses_temperature_with_infinite_scores() -> None:
    with pytest.raises(ValidationError, match=r"0\.02"):
        METHODS["crd"].model_validate({"type": "crd", "temperature": 0.0199})
    METHODS["crd"].model_validate({"type": "crd", "temperature": 0.02})


def test_proposed_assistants_are_compatible_with_methods() -> None:
    ends = "torchvision/convnext_base", "timm/efficientformer_l7"
    assert propose_assistants(*ends, 1) == (ARCHITECTURE_WITHOUT_MAPS,)
    (assistant,) = propose_assistants(*ends, 1, ["kd", "attention"])
    assert len(architectures()[assistant].taps) > 0
    assert propose_assistants("cifar/resnet110", "cifar/resnet8", 2, ["fsp"]) == propose_assistants(
        "cifar/resnet110", "cifar/resnet8", 2
    )


def test_resolved_job_lists_assistants_compatible_with_methods() -> None:
    teacher = TEACHER.model_copy(update={"architecture": "torchvision/convnext_base"})
    large_images = DATASET.model_copy(update={"image_size": 224})
    body = job_body(
        student={"architecture": "timm/efficientformer_l7"},
        method="attention",
        scheme={"type": "teacher_assistant"},
    )
    assert issue_codes(body, large_images, teachers=[teacher]) == {}
    scheme = resolve_job(JobSpec.model_validate(body), large_images, (teacher,)).scheme
    assert getattr(scheme, "assistants", None) not in (None, (ARCHITECTURE_WITHOUT_MAPS,))


@pytest.mark.parametrize(
    ("student", "peers"),
    [
        ({"architecture": "cifar/resnet8"}, ("cifar/resnet8",)),
        ({"architecture": "cifar/resnet8", "taps": ["layer3"]}, None),
        ({"derive": "teacher"}, None),
    ],
)
def test_default_peer_has_architecture_of_student(
    student: dict[str, Any], peers: tuple[str, ...] | None
) -> None:
    spec = JobSpec.model_validate(job_body(student=student, scheme={"type": "mutual"}))
    assert getattr(resolve_job(spec, DATASET, (TEACHER,)).scheme, "peers", "none") == peers


def test_every_method_is_compatible_with_plain_pair() -> None:
    for method in METHODS:
        assert issue_codes(job_body(method=method)) == {}
        assert as_methods(method)[0].type == method


def test_largest_batch_is_limited_by_dataset() -> None:
    assets = JobAssets(DATASET, (TEACHER,))
    for batch_size, largest in ((64, 64), (500, 200)):
        spec = JobSpec.model_validate(job_body(training={"batch_size": batch_size}))
        assert teacher_student_pair(PartialSpec(spec), assets).batch_size == largest


@pytest.mark.parametrize(
    "method",
    ["logit_matching", ["kd", "dist"], {"type": "kd", "logit_standardization": True}],
)
def test_method_that_compares_all_logits_refuses_partial_cache(method: Any) -> None:
    training: dict[str, Any] = {"views": 2, "teacher_cache_logits": 3}
    body = job_body(method=method, training=training)
    assert issue_codes(body) == {"/training/teacher_cache_logits": "contradiction"}
    assert issue_codes(body | {"method": "kd"}) == {}
    assert issue_codes(body | {"training": training | {"teacher_cache_logits": "all"}}) == {}


def test_rules_apply_to_fields_of_preset() -> None:
    body = job_body(preset="fast", training={"views": 2, "teacher_cache_logits": 3})
    assert issue_codes(body) == {"/training/teacher_cache_logits": "contradiction"}
    assert issue_codes(body | {"preset": "paper"}) == {}
