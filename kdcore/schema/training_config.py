"""TrainingConfig: optimizer, schedule, augmentation, precision."""

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
                "nesterov needs a momentum above 0",
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
    """A constant learning rate after warm-up."""

    type: Literal["constant"]
    warmup_epochs: WarmupEpochs = 0.0
    """Epochs over which the learning rate rises linearly from zero."""


class StepSchedule(FrozenModel):
    """Multiply the learning rate by ``gamma`` at each milestone."""

    type: Literal["step"]
    milestones: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(max_length=100)] = ()
    """Epochs after which the learning rate falls; empty: 62.5, 75 and 87.5 % of the epochs."""
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
    """End the training when validation top-1 no longer improves.

    The best epoch is delivered with and without early stopping.
    """

    patience: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Consecutive epochs without an improvement."""
    min_delta: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Points of top-1 that an improvement must exceed."""


ClassWeight = Annotated[float, Field(ge=0, le=1e6)]


class TrainingConfig(FrozenModel):
    """Settings of one training."""

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 30
    batch_size: Annotated[int, Field(ge=2, le=16_384)] = 64
    optimizer: Optimizer = SGD(type="sgd")
    schedule: Schedule = CosineSchedule(type="cosine")
    augmentation: AugmentationField = CropFlip(type="crop_flip")
    views: Literal["fresh"] | Annotated[int, Field(ge=1, le=10_000)] = "fresh"
    """Number of augmented versions of each image. `fresh` draws a new one in every epoch. With a
    number they repeat in turn, and the teacher computes its outputs once for each of them."""
    view_seed: Seed | None = None
    """Seed of the views; null takes the student's seed. Students of different seeds with the same
    view seed see the same views, and share one teacher cache."""
    teacher_cache_logits: Literal["all"] | Annotated[int, Field(ge=2, le=1000)] = "all"
    """Logits of each image in the teacher cache: `all`, or this number of the largest ones and the
    sum of the others. Above 1,000 classes a number is required; below, it saves memory."""
    clip_grad_norm: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Largest L2 norm of the gradient; null does not clip it."""
    early_stopping: EarlyStopping | None = None
    """Null trains all epochs."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each true label that is spread over all classes."""
    class_weights: (
        Literal["balanced"]
        | Annotated[tuple[ClassWeight, ...], Field(min_length=2, max_length=100_000)]
        | None
    ) = None
    """Weights of the classes in cross-entropy, in the data set's order; `balanced` weighs each
    class inversely to its number of images."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Auto selects bfloat16 autocast where it is faster on the device: by a table with strict
    determinism, else by timing a few steps."""
    teacher_precision: Literal["same", "auto", "int8"] = "same"
    """Precision of teachers whose logits alone are compared: the `same` as `precision`, or `int8`
    on a CPU. Auto selects int8 for teachers that run at every step, if the int8 teacher predicts
    the same class for 99 % of the validation images."""
    determinism: Literal["strict", "fast"] = "strict"
    """Strict: a resumed job and an uninterrupted one give the same bytes on the same device."""

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
                "{mixing} mixes each image with another one in every epoch: set views to fresh",
                {"mixing": mixing[0]},
            )
        return views
