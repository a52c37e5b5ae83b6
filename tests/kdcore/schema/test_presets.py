"""A preset says what the job does not."""

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from kdcore.schema.asset_info import DatasetFacts, ModelFacts
from kdcore.schema.defaults import resolve_job
from kdcore.schema.job import JobSpec, ResolvedJob
from kdcore.schema.presets import Preset

DATA = DatasetFacts(source="archive", num_classes=10, in_channels=3, image_size=32, num_train=5000)
TEACHER = ModelFacts(architecture="cifar/resnet56", num_classes=10, in_channels=3)


def resolved(**fields: Any) -> ResolvedJob:
    body = {"student": {"architecture": "cifar/resnet8"}, "dataset": "ds_1"}
    spec = JobSpec.model_validate(body | {"teachers": [{"model": "mdl_1"}]} | fields)
    return resolve_job(spec, DATA, (TEACHER,) if spec.teachers else ())


@pytest.mark.parametrize("preset", get_args(Preset))
def test_each_is_whole_and_differs(preset: str) -> None:
    found, plain = resolved(preset=preset), resolved()
    assert found.preset == preset
    assert found.training != plain.training
    (method,) = found.method
    assert method.type == ("kd" if preset == "paper" else "logit_matching")
    # Resolved again, as the worker reads it, it is the same.
    assert ResolvedJob.model_validate(found.model_dump(mode="json")) == found


def test_what_the_job_says_wins() -> None:
    whole = resolved(preset="fast")
    own = resolved(preset="fast", training={"epochs": 3, "optimizer": {"type": "adamw"}})
    assert own.training.epochs == 3
    assert own.training.optimizer.type == "adamw"
    assert own.training.augmentation == whole.training.augmentation
    assert own.label_weight == whole.label_weight == 0


def test_the_papers_recipe() -> None:
    found = resolved(preset="paper")
    assert found.training.epochs == 240
    assert found.training.model_dump()["schedule"]["milestones"] == (150, 180, 210)
    assert found.training.model_dump()["augmentation"]["padding"] == 4
    assert found.label_weight == pytest.approx(0.1)


@pytest.mark.parametrize(
    "fields",
    [
        {"teachers": []},
        {"method": "dkd"},
        {"label_weight": 0.3},
        {"scheme": {"type": "mutual"}},
    ],
)
def test_other_arrangements_keep_their_own_weights(fields: dict[str, Any]) -> None:
    found, plain = resolved(preset="fast", **fields), resolved(**fields)
    assert found.method[0].type == plain.method[0].type
    assert found.label_weight == plain.label_weight
    assert found.training.epochs == resolved(preset="fast").training.epochs


@pytest.mark.parametrize("preset", ["slow", 3, ["fast"], {}])
def test_others_are_refused(preset: Any) -> None:
    with pytest.raises(ValidationError) as raised:
        resolved(preset=preset)
    assert [error["loc"] for error in raised.value.errors()] == [("preset",)]


def test_a_faulty_training_is_told_as_ever() -> None:
    for training in (None, 3, {"epochs": 0}):
        with pytest.raises(ValidationError) as raised:
            resolved(preset="fast", training=training)
        assert raised.value.errors()[0]["loc"][0] == "training"
