"""Methods of feature maps: their parameters, with bounds and defaults."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from kdcore.schema.base import FrozenModel
from kdcore.schema.methods.types import PartWeight, StepShare, Temperature, Weight

TapIndex = Annotated[int, Field(ge=0, le=1000)]
NumChannels = Annotated[int, Field(ge=1, le=65536)]


class FitNet(FrozenModel):
    """Hints: a middle layer of the student, through a learned regressor, matches the teacher's.

    Choose it for a student that is thinner or deeper than its teacher. In two stages as in the
    paper: first the hint alone, then soft targets; in one stage the hint stays beside the labels.
    """

    type: Literal["fitnet"]
    two_stage: bool = True
    """First the hint alone, then kd; false: hint and labels throughout, no kd."""
    stage_one: StepShare = 0.2
    """The first stage's share of the training; of no effect with one stage."""
    tap: TapIndex | None = None
    """Which of the paired feature maps is the hint, from 0; null: the middle one."""
    weight: Weight = 100.0
    """Of the hint."""
    kd_weight: PartWeight = 0.9
    """Of the soft targets in the second stage; 0 leaves it to the labels."""
    temperature: Temperature = 4.0
    """Of the soft targets in the second stage."""


class Attention(FrozenModel):
    """Attention transfer: the student looks at the same places as the teacher.

    Choose it for networks of like shape, whatever their channels: it has nothing to train and is
    cheap. The map of attention is the mean over channels of the squared features, of unit length.
    """

    type: Literal["attention"]
    form: Literal["squared", "paper"] = "squared"
    """`squared`: mean squared difference, as the authors' code has it; `paper`: the unsquared
    distance of the paper."""
    weight: Weight = 1000.0
    """Where it is not given and form is `paper`: 2, which is about as strong."""

    @model_validator(mode="before")
    @classmethod
    def _weight_of_form(cls, fields: Any) -> Any:
        chosen = isinstance(fields, dict) and fields.get("form") == "paper"
        return {"weight": 2.0, **fields} if chosen else fields


class FactorTransfer(FrozenModel):
    """The student learns the teacher's last map in a compressed form.

    Choose it when the teacher's map is far wider than the student's: an autoencoder, trained first
    and alone, squeezes it into factors, and a translator brings the student's map there.
    """

    type: Literal["factor_transfer"]
    compression: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Channels of the factors, as a share of the teacher's."""
    stage_one: StepShare = 0.1
    """The share of the training in which only the autoencoder learns."""
    weight: Weight = 200.0


class FSP(FrozenModel):
    """The flow between layers: how features change from one stage to the next.

    Choose it when the student should solve the task by the same steps, with networks of like
    stages. Needs two feature maps or more.
    """

    type: Literal["fsp"]
    between: Literal["neighbors", "ends"] = "neighbors"
    """Every two maps that follow each other, or only the first and the last."""
    weight: Weight = 50.0


class NST(FrozenModel):
    """Neuron selectivity: the student's channels are active at the same places as the teacher's.

    Choose it when channels do not correspond one to one: it compares distributions over the
    channels, not channel by channel.
    """

    type: Literal["nst"]
    weight: Weight = 50.0


class VID(FrozenModel):
    """Variational information distillation: the student's maps predict the teacher's.

    Choose it when parts of the teacher's maps are noise to the student: each channel learns how
    precisely it can be predicted, and counts accordingly.
    """

    type: Literal["vid"]
    initial_variance: Annotated[float, Field(gt=1e-4, le=1e6)] = 5.0
    weight: Weight = 1.0


class ReviewKD(FrozenModel):
    """Review: the student's deep maps help its shallow ones to match the teacher's.

    Choose it when feature methods are worth their cost: among the strongest of them, with the
    largest modules to train. The student's maps are fused from deep to shallow by attention.
    """

    type: Literal["reviewkd"]
    max_channels: NumChannels = 512
    """Channels of the fused maps, at most."""
    weight: Weight = 5.0
