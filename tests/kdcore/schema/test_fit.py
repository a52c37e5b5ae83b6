"""What a request's parts must have of each other, known before anything is built."""

from typing import Any

import pytest
from pydantic import ValidationError

from kdcore.schema.assistant_selection import propose_assistants
from kdcore.schema.catalog import architectures
from kdcore.schema.defaults import resolve_job
from kdcore.schema.job import JobSpec
from kdcore.schema.methods import METHODS, FitNet, as_methods, teaches_classifier
from kdcore.schema.validation.compatibility import compatibility_issues, teacher_student_pair
from kdcore.schema.validation.cross_field import cross_field_issues
from kdcore.schema.validation.partial_job import DatasetFacts, ModelFacts, PartialJob

DATA = DatasetFacts(source="archive", num_classes=7, in_channels=1, image_size=16, num_train=200)
TEACHER = ModelFacts(architecture="cifar/resnet56", num_classes=7, in_channels=1)
MAPLESS = "timm/mambaout_base"


def asked(**fields: Any) -> dict[str, Any]:
    body = {"student": {"architecture": "cifar/resnet8"}, "dataset": "ds_1"}
    return body | {"teachers": [{"model": "mdl_1"}]} | fields


def told(body: dict[str, Any], data: DatasetFacts = DATA, **models: Any) -> dict[str, str]:
    """Codes of all misfits by pointer."""
    references = PartialJob.from_body(body)
    taught = [TEACHER] * len(references.teachers)
    found = compatibility_issues(
        references, data, models.get("teachers", taught), None, models.get("model")
    )
    return {fault.pointer: fault.code for fault in found}


def evaluation(**model: Any) -> tuple[dict[str, Any], ModelFacts]:
    facts = {"architecture": "cifar/resnet8", "num_classes": 7, "in_channels": 1} | model
    body = {"kind": "evaluate", "model": "mdl_1", "dataset": "ds_1"}
    return body, ModelFacts(**facts)


@pytest.mark.parametrize(
    ("images", "network", "rule"),
    [(1, 1, None), (3, 3, None), (1, 3, "repeat"), (3, 1, "luminance")],
)
def test_a_model_is_measured_by_the_rule_that_its_channels_ask_for(
    images: int, network: int, rule: str | None
) -> None:
    data = DATA.model_copy(update={"in_channels": images})
    body, model = evaluation(in_channels=network)
    assert told(body, data, model=model) == {}
    job = resolve_job(JobSpec.model_validate(body), data, (), model)
    assert job.student.channels == rule


def test_a_model_of_other_classes_is_not_measured() -> None:
    body, model = evaluation(num_classes=9, in_channels=3)
    assert told(body, model=model) == {"/model": "classes_mismatch"}


@pytest.mark.parametrize(
    ("student", "teacher", "method", "code"),
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
def test_named_taps_are_counted(
    student: list[str] | None, teacher: list[str] | None, method: str, code: str | None
) -> None:
    body = asked(
        student={"architecture": "cifar/resnet8", "taps": student},
        teachers=[{"model": "mdl_1", "taps": teacher}],
        method=method,
    )
    assert told(body).get("/method") == code


def test_taps_of_a_student_and_of_a_teacher_that_never_meet_need_not_be_equally_many() -> None:
    body = asked(
        student={"architecture": "cifar/resnet8", "taps": ["layer2", "layer3"]},
        teachers=[{"model": "mdl_1", "taps": ["layer3"]}],
        method="attention",
        scheme={"type": "teacher_assistant", "assistants": ["cifar/resnet14"]},
    )
    assert told(body) == {}


def test_naming_one_networks_taps_leaves_the_others_to_the_catalog() -> None:
    mapless = TEACHER.model_copy(update={"architecture": MAPLESS})
    body = asked(student={"architecture": "cifar/resnet8", "taps": ["layer3"]}, method="attention")
    assert told(body, teachers=[mapless])["/method"] == "too_few_maps"


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].min_batch > 1])
def test_samples_are_not_compared_in_batches_of_one(method: str) -> None:
    one = DATA.model_copy(update={"num_train": 1})
    assert told(asked(method=method), one) == {"/method": "batch_too_small"}
    assert told(asked(method=method, training={"batch_size": 1})) == {"/method": "batch_too_small"}
    more = one.model_copy(update={"num_unlabeled": 1})
    assert told(asked(method=method), more) == told(asked(method="kd"), one) == {}
    with pytest.raises(ValidationError, match="batch_size"):
        JobSpec.model_validate(asked(training={"batch_size": 1}))


@pytest.mark.parametrize(
    ("method", "parts"),
    [
        ("dkd", ("alpha", "beta")),
        ("dist", ("beta", "gamma")),
        ("rkd", ("distance_weight", "angle_weight")),
    ],
)
def test_a_method_of_which_no_part_counts_is_refused(method: str, parts: tuple[str, str]) -> None:
    params = METHODS[method].params
    for part in parts:
        params.model_validate({"type": method, part: 0})
    with pytest.raises(ValidationError, match=f"{parts[0]} and {parts[1]} must be above 0"):
        params.model_validate({"type": method, **dict.fromkeys(parts, 0)})


@pytest.mark.parametrize(
    ("fields", "teaches"), [({}, True), ({"kd_weight": 0}, False), ({"two_stage": False}, False)]
)
def test_fitnet_teaches_answers_by_its_soft_targets_alone(
    fields: dict[str, Any], teaches: bool
) -> None:
    assert teaches_classifier(FitNet(type="fitnet", **fields)) == teaches
    method = {"type": "fitnet", **fields}
    found = cross_field_issues(PartialJob.from_body(asked(method=method, label_weight=0)))
    assert [fault.code for fault in found] == ([] if teaches else ["nothing_to_learn"])


def test_crds_temperature_keeps_its_scores_finite() -> None:
    with pytest.raises(ValidationError, match=r"0\.02"):
        METHODS["crd"].params.model_validate({"type": "crd", "temperature": 0.0199})
    METHODS["crd"].params.model_validate({"type": "crd", "temperature": 0.02})


def test_assistants_give_what_the_methods_look_at() -> None:
    ends = "torchvision/convnext_base", "timm/efficientformer_l7"
    assert propose_assistants(*ends, 1) == (MAPLESS,)
    (found,) = propose_assistants(*ends, 1, ["kd", "attention"])
    assert len(architectures()[found].taps) > 0
    assert propose_assistants("cifar/resnet110", "cifar/resnet8", 2, ["fsp"]) == propose_assistants(
        "cifar/resnet110", "cifar/resnet8", 2
    )


def test_the_job_gets_the_assistants_that_its_methods_can_use() -> None:
    teacher = TEACHER.model_copy(update={"architecture": "torchvision/convnext_base"})
    large = DATA.model_copy(update={"image_size": 224})
    body = asked(
        student={"architecture": "timm/efficientformer_l7"},
        method="attention",
        scheme={"type": "teacher_assistant"},
    )
    assert told(body, large, teachers=[teacher]) == {}
    scheme = resolve_job(JobSpec.model_validate(body), large, (teacher,)).scheme
    assert getattr(scheme, "assistants", None) not in (None, (MAPLESS,))


@pytest.mark.parametrize(
    ("student", "peers"),
    [
        ({"architecture": "cifar/resnet8"}, ("cifar/resnet8",)),
        ({"architecture": "cifar/resnet8", "taps": ["layer3"]}, None),
        ({"derive": "teacher"}, None),
    ],
)
def test_an_unnamed_peer_is_one_more_of_the_students_own(
    student: dict[str, Any], peers: tuple[str, ...] | None
) -> None:
    spec = JobSpec.model_validate(asked(student=student, scheme={"type": "mutual"}))
    assert getattr(resolve_job(spec, DATA, (TEACHER,)).scheme, "peers", "none") == peers


def test_everything_fits_a_plain_pair() -> None:
    for method in METHODS:
        assert told(asked(method=method)) == {}
        assert as_methods(method)[0].type == method  # type: ignore[arg-type]
    assert teacher_student_pair(PartialJob.from_body(asked()), [TEACHER], DATA).batch_size == 200


@pytest.mark.parametrize(
    "method",
    ["logit_matching", ["kd", "dist"], {"type": "kd", "logit_standardization": True}],
)
def test_what_compares_every_logit_wants_all_of_them(method: Any) -> None:
    body = asked(method=method, training={"views": 2, "teacher_cache_logits": 3})
    (fault,) = cross_field_issues(PartialJob.from_body(body))
    assert (fault.pointer, fault.code) == ("/training/teacher_cache_logits", "contradiction")
    assert not list(cross_field_issues(PartialJob.from_body(body | {"method": "kd"})))
    body["training"]["teacher_cache_logits"] = "all"
    assert not list(cross_field_issues(PartialJob.from_body(body)))


def test_what_a_preset_says_is_judged_as_if_the_job_said_it() -> None:
    body = asked(preset="fast", training={"views": 2, "teacher_cache_logits": 3})
    (fault,) = cross_field_issues(PartialJob.from_body(body))
    assert (fault.pointer, fault.code) == ("/training/teacher_cache_logits", "contradiction")
    assert not list(cross_field_issues(PartialJob.from_body(body | {"preset": "paper"})))
