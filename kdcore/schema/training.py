"""How a student is trained: optimizer, schedule, augmentation, precision."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from kdcore.schema.augmentation import MIXING, AugmentationField, CropFlip, as_augmentations
from kdcore.schema.base import FrozenModel, Seed

LearningRate = Annotated[float, Field(gt=0, le=100)]
WeightDecay = Annotated[float, Field(ge=0, le=1)]


class SGD(FrozenModel):
    """Stochastic gradient descent with momentum."""

    type: Literal["sgd"]
    lr: LearningRate = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: WeightDecay = 5e-4
    nesterov: bool = False

    @model_validator(mode="after")
    def _check_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise PydanticCustomError(
                "nesterov_without_momentum",
                "nesterov looks ahead by the momentum: give one above 0",
            )
        return self


class AdamW(FrozenModel):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    type: Literal["adamw"]
    lr: LearningRate = 1e-3
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.999,
    )
    weight_decay: WeightDecay = 0.01


WarmupEpochs = Annotated[float, Field(ge=0, le=1000)]


class ConstantSchedule(FrozenModel):
    """The same learning rate in every step after warm-up."""

    type: Literal["constant"]
    warmup_epochs: WarmupEpochs = 0.0
    """Epochs over which the learning rate rises linearly from zero."""


class StepSchedule(FrozenModel):
    """The learning rate is multiplied by ``gamma`` at each milestone."""

    type: Literal["step"]
    milestones: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(max_length=100)] = ()
    """Epochs after which the rate falls; empty means 62.5, 75 and 87.5 % of the epochs."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    warmup_epochs: WarmupEpochs = 0.0
    """Epochs over which the learning rate rises linearly from zero."""


class CosineSchedule(FrozenModel):
    """The learning rate falls to zero along half a cosine (Loshchilov & Hutter 2017)."""

    type: Literal["cosine"]
    warmup_epochs: WarmupEpochs = 1.0
    """Epochs over which the learning rate rises linearly from zero."""


Optimizer = Annotated[SGD | AdamW, Field(discriminator="type")]
Schedule = Annotated[ConstantSchedule | StepSchedule | CosineSchedule, Field(discriminator="type")]


class EarlyStopping(FrozenModel):
    """End a training whose validation top-1 no longer improves; the best epoch is kept anyway."""

    patience: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Epochs in a row without an improvement."""
    min_delta: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Points by which the best top-1 must be passed to count as an improvement."""


ClassWeight = Annotated[float, Field(ge=0, le=1e6)]


class TrainingConfig(FrozenModel):
    """The recipe of one training."""

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 30
    batch_size: Annotated[int, Field(ge=2, le=16_384)] = 64
    optimizer: Optimizer = SGD(type="sgd")
    schedule: Schedule = CosineSchedule(type="cosine")
    augmentation: AugmentationField = CropFlip(type="crop_flip")
    views: Literal["fresh"] | Annotated[int, Field(ge=1, le=10_000)] = "fresh"
    """How many augmented versions of each image there are: `fresh` draws a new one in every epoch,
    a number lets so many come again in turn, and the teacher is asked about each of them once."""
    view_seed: Seed | None = None
    """Seed of the views; null takes each student's own. Students of other seeds that have this one
    in common see the same views, so that a teacher is asked once for all of them."""
    teacher_cache_logits: Literal["all"] | Annotated[int, Field(ge=2, le=1000)] = "all"
    """Of a teacher that is asked once for each view: `all` of its logits, or the largest so many
    and what the others sum up to, which is needed above 1,000 classes and saves room below."""
    clip_grad_norm: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Scale the gradient down to this L2 norm; null leaves it as it is."""
    early_stopping: EarlyStopping | None = None
    """Null trains every epoch."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each true label that is spread over all classes."""
    class_weights: (
        Literal["balanced"]
        | Annotated[tuple[ClassWeight, ...], Field(min_length=2, max_length=100_000)]
        | None
    ) = None
    """Weights of the classes in cross-entropy, in the data set's order; `balanced` gives each
    class the same say however many images it has."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Auto takes bfloat16 autocast where the device gains from it: as a table says under strict
    determinism, else as a few steps tell."""
    teacher_precision: Literal["same", "auto", "int8"] = "same"
    """How teachers answer whose logits alone are looked at: the `same` way as `precision` says, or
    in `int8` on a processor. Auto takes int8 for views that are asked about at every step, where
    it names the same class as the exact teacher for 99 % of the validation images."""
    determinism: Literal["strict", "fast"] = "strict"
    """Strict: a resumed job gives the same bytes as an uninterrupted one, on one device."""

    @field_validator("views")
    @classmethod
    def _check_mixed_views(cls, views: Literal["fresh"] | int, info: ValidationInfo) -> Any:
        augmentations = as_augmentations(info.data.get("augmentation", ()))
        mixing = [
            augmentation.type for augmentation in augmentations if augmentation.type in MIXING
        ]
        if views != "fresh" and mixing:
            raise PydanticCustomError(
                "mixed_views",
                "{mixing} mixes each image with another one in every epoch: views must be fresh",
                {"mixing": mixing[0]},
            )
        return views
