"""A preset fills the fields that a job leaves out."""

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from kdcore.schema.asset_info import DatasetFacts, ModelFacts
from kdcore.schema.defaults import resolve_job
from kdcore.schema.job import JobSpec, Preset, ResolvedJob

DATA = DatasetFacts(source="archive", num_classes=10, in_channels=3, image_size=32, num_train=5000)
TEACHER = ModelFacts(architecture="cifar/resnet56", num_classes=10, in_channels=3)


def resolve(**fields: Any) -> ResolvedJob:
    body = {"student": {"architecture": "cifar/resnet8"}, "dataset": "ds_1"}
    spec = JobSpec.model_validate(body | {"teachers": [{"model": "mdl_1"}]} | fields)
    return resolve_job(spec, DATA, (TEACHER,) if spec.teachers else ())


@pytest.mark.parametrize("preset", get_args(Preset))
def test_preset_sets_training_and_method(preset: str) -> None:
    job, plain = resolve(preset=preset), resolve()
    assert job.preset == preset
    assert job.training != plain.training
    (method,) = job.method
    assert method.type == ("kd" if preset == "paper" else "logit_matching")
    # A worker reads the resolved job again.
    assert ResolvedJob.model_validate(job.model_dump(mode="json")) == job


def test_fields_of_job_override_preset() -> None:
    preset_job = resolve(preset="fast")
    job = resolve(preset="fast", training={"epochs": 3, "optimizer": {"type": "adamw"}})
    assert job.training.epochs == 3
    assert job.training.optimizer.type == "adamw"
    assert job.training.augmentation == preset_job.training.augmentation
    assert job.label_weight == preset_job.label_weight == 0


def test_preset_paper_has_values_of_research_code() -> None:
    job = resolve(preset="paper")
    assert job.training.epochs == 240
    assert job.training.model_dump()["schedule"]["milestones"] == (150, 180, 210)
    assert job.training.model_dump()["augmentation"]["padding"] == 4
    assert job.label_weight == pytest.approx(0.1)


@pytest.mark.parametrize(
    "fields",
    [
        {"teachers": []},
        {"method": "dkd"},
        {"label_weight": 0.3},
        {"scheme": {"type": "mutual"}},
    ],
)
def test_preset_leaves_other_methods_and_weights(fields: dict[str, Any]) -> None:
    job, plain = resolve(preset="fast", **fields), resolve(**fields)
    assert job.method[0].type == plain.method[0].type
    assert job.label_weight == plain.label_weight
    assert job.training.epochs == resolve(preset="fast").training.epochs


@pytest.mark.parametrize("preset", ["slow", 3, ["fast"], {}])
def test_unknown_preset_is_refused(preset: Any) -> None:
    with pytest.raises(ValidationError) as raised:
        resolve(preset=preset)
    assert [error["loc"] for error in raised.value.errors()] == [("preset",)]


def test_invalid_training_is_reported_with_preset() -> None:
    for training in (None, 3, {"epochs": 0}):
        with pytest.raises(ValidationError) as raised:
            resolve(preset="fast", training=training)
        assert raised.value.errors()[0]["loc"][0] == "training"
