"""Derive a student from a teacher's architecture: cheaper convolutions, another width.

Source: Crowley, Gray, Storkey 2018, "Moonshine: distilling with cheap convolutions",
https://arxiv.org/abs/1711.02613.
"""

import functools
from typing import Literal

import torch
from torch import Tensor, nn

from kdcore.models.feature_hooks import find_classifier
from kdcore.models.registry import build_architecture
from kdcore.models.surgery import WidthScaler, replace_with_grouped, standard_convolutions
from kdcore.models.trace import trace_calls
from kdcore.runtime.errors import UserError

Convolution = Literal["grouped", "depthwise_separable"]


def derive(  # noqa: PLR0913 - each is a choice of its own
    teacher_architecture: str,
    *,
    convolution: Convolution = "grouped",
    groups: int = 1,
    width: float = 1.0,
    num_classes: int,
    in_channels: int = 3,
    input_size: int = 32,
) -> nn.Module:
    """Build the teacher's architecture with cheaper convolutions and fresh weights.

    ``grouped`` replaces each standard convolution with a kernel of more than one pixel by a
    convolution of ``groups`` groups and a pointwise convolution; the stem stays. 1 group changes
    nothing. ``depthwise_separable`` uses one group for each channel and ignores ``groups``. All
    channels except those of the image and the logits are multiplied with ``width`` and rounded.

    Raises :class:`UserError` ``student_incompatible``, which names each layer whose channels the
    groups do not divide, and for a network that cannot have this width.
    """
    if groups < 1 or not width > 0:
        raise UserError(
            "student_incompatible",
            "a derived student needs 1 group or more and a width above 0, not "
            f"{groups} and {width}",
        )
    build_network = functools.partial(
        build_architecture,
        teacher_architecture,
        num_classes=num_classes,
        in_channels=in_channels,
        input_size=input_size,
    )
    with torch.device("meta"):
        draft = build_network()
        image = torch.empty(1, in_channels, input_size, input_size)
        num_groups = None if convolution == "depthwise_separable" else groups
        derivation = _Derivation(
            teacher_architecture, *_stem_and_classifier(draft, image), width, num_groups
        )
        derivation(draft)
        derivation.check(draft, image, num_classes)
    network = build_network()
    derivation(network)
    return network


class _Derivation:
    """Changes one network in place: first a draft on the meta device, then the real network."""

    def __init__(
        self, name: str, stem: str, classifier: str | None, width: float, groups: int | None
    ) -> None:
        self.name = name
        self.stem = stem
        self.classifier = classifier
        self.width = width
        self.groups = groups

    def __call__(self, network: nn.Module) -> None:
        if self.width != 1:
            issues = WidthScaler(self.width, self.stem, self.classifier)(network)
            if issues:
                raise UserError(
                    "student_incompatible",
                    f"{self.name} cannot have {self.width} times its width: {issues[0].name} "
                    f"{issues[0].detail}",
                    hint="choose another width, or a teacher of convolutions and batch norms only",
                    items=issues,
                )
        if self.groups != 1:
            convolutions = standard_convolutions(network, self.stem)
            if not convolutions:
                raise UserError(
                    "student_incompatible",
                    f"{self.name} has no standard convolution to replace; leave the convolutions "
                    "unchanged, with 1 group",
                )
            replace_with_grouped(network, convolutions, self.groups)

    def check(self, draft: nn.Module, image: Tensor, num_classes: int) -> None:
        """Run the changed draft once. Raises :class:`UserError` if its shapes do not fit."""
        try:
            with torch.no_grad():
                shape = tuple(draft.eval()(image).shape)
        except (RuntimeError, ValueError, AssertionError) as error:
            raise UserError(
                "student_incompatible",
                f"{self.name} does not fit together at {self.width} times its width: {error}",
                hint="choose a width that gives whole numbers of channels, such as 0.25 or 0.5",
            ) from error
        if shape != (1, num_classes):
            raise UserError(
                "student_incompatible", f"{self.name} would return {shape}, not (1, {num_classes})"
            )


def _stem_and_classifier(network: nn.Module, image: Tensor) -> tuple[str, str | None]:
    """Return the paths of the first convolution and of the layer that returns the logits."""
    calls, logits = trace_calls(network, image)
    stem = next((call.path for call in calls if isinstance(call.module, nn.Conv2d)), "")
    return stem, find_classifier(calls, logits)
