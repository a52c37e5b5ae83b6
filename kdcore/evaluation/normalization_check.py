"""Compare the usual normalizations, for a network that was uploaded without one.

The result is a sentence. No normalization is applied because of it.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from kdcore.evaluation.plausibility import count_correct
from kdcore.models.normalized_model import NormalizedModel
from kdcore.models.predict_logits import predict
from kdcore.schema.catalog import Normalization

_MAX_IMAGES = 2000
"""Images on which the normalizations are compared; of more, an even selection."""
_IMAGENET = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class NormalizationTrial(NamedTuple):
    """A normalization, and the accuracy with it in percent."""

    name: str
    normalization: Normalization
    top1: float


def compare_normalizations(
    network: NormalizedModel,
    dataset_normalization: Normalization,
    images: Tensor,
    target: Tensor,
    check_cancelled: Callable[[], None],
) -> list[NormalizationTrial]:
    """Return the accuracy of ``network`` with its normalization, then with the usual other ones.

    The usual ones are none, 0.5 for mean and deviation, ImageNet's, and ``dataset_normalization``,
    which has the network's channels. ``images`` are (N, C, H, W) uint8, ``target`` (N,).
    """
    rows = torch.linspace(0, len(images) - 1, min(len(images), _MAX_IMAGES)).long()
    images, target = images[rows], target[rows]
    device, channels = network.mean.device, network.mean.numel()
    current = Normalization(
        mean=tuple(network.mean.flatten().tolist()), std=tuple(network.std.flatten().tolist())
    )
    candidates = []
    for name, normalization in _usual(channels, current, dataset_normalization):
        class_map = None if network.class_map is None else network.class_map.tolist()
        tried = NormalizedModel(
            network.network, normalization, network.input_size, network.channels, class_map
        )
        logits = predict(
            tried.to(device).eval(), images, device=device, check_cancelled=check_cancelled
        )
        candidates.append(
            NormalizationTrial(name, normalization, count_correct(logits, target).top1)
        )
    return candidates


def describe_candidates(noun: str, candidates: list[NormalizationTrial]) -> str:
    """Return which normalization fits best and by how much; the first one is in use."""
    current, *others = candidates
    best = max(candidates, key=lambda candidate: candidate.top1)
    listed = ", ".join(
        f"{candidate.name} {candidate.top1:.1f} %" for candidate in others if candidate is not best
    )
    start = (
        f"the {noun} was uploaded without its normalization, so the architecture's default is used "
        f"({_values(current.normalization)}): {current.top1:.1f} % of the images are right"
    )
    if best is current:
        return f"{start}, the most of the usual normalizations ({listed})"
    rest = f" (others: {listed})" if listed else ""
    return (
        f"{start}. The normalization that fits best is {best.name}, with {best.top1:.1f} %, "
        f"{best.top1 - current.top1:.1f} points more{rest}: if it is right, upload the model with "
        f"{_values(best.normalization)}"
    )


def _usual(
    channels: int, current: Normalization, dataset_normalization: Normalization
) -> list[tuple[str, Normalization]]:
    """Return the normalization in use and the usual others, without repetition."""
    imagenet = _IMAGENET
    if channels == 1:
        mean, std = (sum(values) / 3 for values in (imagenet.mean, imagenet.std))
        imagenet = Normalization(mean=(mean,), std=(std,))
    usual = [
        ("the default", current),
        ("ImageNet's", imagenet),
        ("0.5 for mean and std", Normalization(mean=(0.5,) * channels, std=(0.5,) * channels)),
        ("none", Normalization(mean=(0.0,) * channels, std=(1.0,) * channels)),
        ("the data set's", dataset_normalization),
    ]
    unique: list[tuple[str, Normalization]] = []
    for name, normalization in usual:
        if not any(_is_close(normalization, other) for _, other in unique):
            unique.append((name, normalization))
    return unique


def _is_close(normalization: Normalization, other: Normalization) -> bool:
    pairs = zip((*normalization.mean, *normalization.std), (*other.mean, *other.std), strict=True)
    return all(abs(value - other_value) < 1e-6 for value, other_value in pairs)


def _values(normalization: Normalization) -> str:
    mean, std = (
        [round(value, 6) for value in values] for values in (normalization.mean, normalization.std)
    )
    return f"mean {mean}, std {std}"
