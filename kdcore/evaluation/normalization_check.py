"""Compare the usual normalizations, for a network whose normalization is not declared.

The result is a sentence or a finding. No normalization is applied because of it.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from kdcore.evaluation.class_order import gain_p_value
from kdcore.evaluation.plausibility import ChanceTest, count_correct
from kdcore.models.normalized_model import NormalizedModel
from kdcore.models.predict_logits import predict
from kdcore.schema.catalog import Normalization
from kdcore.schema.report import Finding

_MAX_IMAGES = 2000
"""Images on which the normalizations are compared; of more, an even selection."""
_P_THRESHOLD = 0.001
"""Significance level of the sign test between two normalizations."""
_MIN_GAIN = 2.0
"""Smallest gain of another normalization, in points; a smaller one is no reason to change it."""
_IMAGENET = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class NormalizationTrial(NamedTuple):
    """A normalization, and which images are right with it."""

    name: str
    normalization: Normalization
    hits: Tensor  # (N,) bool
    result: ChanceTest

    @property
    def top1(self) -> float:
        """Percent."""
        return self.result.top1


class PreprocessingTrials(NamedTuple):
    """Measures a network with its own preprocessing and with the usual other one."""

    network: NormalizedModel
    dataset_normalization: Normalization
    """The data set's, for the network's channels."""
    images: Tensor  # (N, C, H, W) uint8
    target: Tensor  # (N,)
    check_cancelled: Callable[[], None]

    def compare_normalizations(self) -> list[NormalizationTrial]:
        """Return the accuracy with the network's normalization, then with the usual other ones.

        The usual ones are none, 0.5 for mean and deviation, ImageNet's, and the data set's.
        """
        return self._compare(self.network.input_size)

    def describe_input_size(self, size: int) -> str | None:
        """Return a sentence about the accuracy at another input size, or None if it cannot run."""
        try:
            candidates = self._compare(size)
        except (RuntimeError, AssertionError, ValueError):  # networks of one size raise these
            return None
        best = max(candidates, key=lambda candidate: candidate.top1)
        sentence = f"At {size} pixels {best.top1:.1f} % of {best.result.total} images are right"
        if best.result.is_chance_level:
            return f"{sentence}, which is no better than chance"
        return (
            f"{sentence} with the normalization {_values(best.normalization)}: if that is right, "
            f"declare input_size {size} and this normalization"
        )

    def _compare(self, input_size: int | None) -> list[NormalizationTrial]:
        rows = torch.linspace(0, len(self.images) - 1, min(len(self.images), _MAX_IMAGES)).long()
        images, target, network = self.images[rows], self.target[rows], self.network
        device, channels = network.mean.device, network.mean.numel()
        current = Normalization(
            mean=tuple(network.mean.flatten().tolist()), std=tuple(network.std.flatten().tolist())
        )
        class_map = None if network.class_map is None else network.class_map.tolist()
        candidates = []
        for name, normalization in _usual(channels, current, self.dataset_normalization):
            tried = NormalizedModel(
                network.network, normalization, input_size, network.channels, class_map
            )
            logits = predict(
                tried.to(device).eval(), images, device=device, check_cancelled=self.check_cancelled
            )
            hits = logits.argmax(dim=1) == target
            candidates.append(
                NormalizationTrial(name, normalization, hits, count_correct(logits, target))
            )
        return candidates


def find_better(candidates: list[NormalizationTrial]) -> NormalizationTrial | None:
    """Return the best normalization if it is clearly better than the first one, which is in use.

    Clearly better means better than chance, two points or more, and p < 0.001 in a sign test on
    the images where the two differ.
    """
    current = candidates[0]
    best = max(candidates, key=lambda candidate: candidate.top1)
    if best.result.is_chance_level or best.top1 - current.top1 < _MIN_GAIN:
        return None
    return best if gain_p_value(best.hits, current.hits) < _P_THRESHOLD else None


def find_wrong_normalization(noun: str, candidates: list[NormalizationTrial]) -> Finding | None:
    """Return a finding about a network whose default normalization is clearly not the best."""
    current, best = candidates[0], find_better(candidates)
    if best is None:
        return None
    return Finding(
        code="wrong_normalization",
        message=f"the normalization of the {noun} is probably wrong: {current.top1:.1f} % of "
        f"{current.result.total} images are right with the architecture's default "
        f"({_values(current.normalization)}), and {best.top1:.1f} % with {best.name} "
        f"({_values(best.normalization)})",
        cause="no normalization is declared, and the default is not that of the training",
        hint=_declare(best.normalization),
    )


def describe_candidates(noun: str, candidates: list[NormalizationTrial]) -> str:
    """Return a sentence about all normalizations; the first one is in use."""
    current, *others = candidates
    best = find_better(candidates)
    listed = ", ".join(
        f"{candidate.name} {candidate.top1:.1f} %" for candidate in others if candidate is not best
    )
    start = (
        f"no normalization of the {noun} is declared, so the architecture's default is used "
        f"({_values(current.normalization)}): {current.top1:.1f} % of {current.result.total} "
        "images are right"
    )
    if best is not None:
        rest = f" (others: {listed})" if listed else ""
        return (
            f"{start}. The normalization that fits best is {best.name}, with {best.top1:.1f} %, "
            f"{best.top1 - current.top1:.1f} points more{rest}: if it is right, "
            f"{_declare(best.normalization)}"
        )
    if all(candidate.result.is_chance_level for candidate in candidates):
        return f"{start}, and no usual normalization is better than chance ({listed})"
    return f"{start}; no other usual normalization is clearly better ({listed})"


def _declare(normalization: Normalization) -> str:
    return (
        f"declare the normalization {_values(normalization)}: in the service, create the model "
        "again with it; in a recipe or in Python, set the network's field normalization"
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
