"""Detect a network whose classes are in another order than the data set's, from its predictions.

Needed only for networks without class names; other networks are matched by name.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kdcore.data.class_labels import order_class_names

_P_THRESHOLD = 0.001
"""Significance level of the sign test between two orders."""
_MIN_GAIN = 0.1
"""Smallest gain of another order, as a share of the images."""
_MIN_FITTED_TOP1 = 60.0
"""A confusion matrix counts as nearly a permutation from this accuracy in percent on, or where its
order doubles the accuracy."""
_MAX_CLASSES = 2000
"""Above this number, the assignment of classes to logits takes too long."""


class LikelyOrder(NamedTuple):
    """Another order of a network's classes that fits the images clearly better."""

    class_map: tuple[int, ...]
    """The network's class for each class of the data set."""
    description: str
    top1: float
    """Percent in the data set's order."""
    other_top1: float
    """Percent in this order."""
    num_images: int

    @property
    def sentence(self) -> str:
        """Both accuracies as a sentence."""
        return (
            f"{self.top1:.1f} % of {self.num_images} images are right in the data set's order of "
            f"classes, and {self.other_top1:.1f} % {self.description}"
        )


def find_likely_order(logits: Tensor, target: Tensor, classes: Sequence[str]) -> LikelyOrder | None:
    """Return an order of the classes that fits clearly better than the data set's, or None.

    ``logits`` are (N, C), ``target`` (N,). Two orders compete first: names sorted as text, as
    torchvision's ImageFolder sorts them, and names sorted as numbers. Else the order comes from the
    confusion matrix, if it is nearly a permutation: the order is fitted on one half of the images
    and counted on the other half. Clearly better means at least ten points, and p < 0.001 in a sign
    test on the images where the two orders differ.
    """
    hits = logits.argmax(dim=1) == target
    for description, class_map in _sorted_orders(classes).items():
        other_hits = logits[:, list(class_map)].argmax(dim=1) == target
        if _is_clearly_better(other_hits, hits):
            return _likely_order(class_map, description, other_hits, hits)
    if len(classes) > _MAX_CLASSES:
        return None
    fitted_hits = _cross_fitted_hits(logits, target)
    needed = min(_MIN_FITTED_TOP1, 2 * _percent(hits))
    if not _is_clearly_better(fitted_hits, hits) or _percent(fitted_hits) < needed:
        return None
    class_map = _fit_class_map(logits, target)
    return _likely_order(class_map, "in the order of likely_class_order", fitted_hits, hits)


def _likely_order(
    class_map: tuple[int, ...], description: str, other_hits: Tensor, hits: Tensor
) -> LikelyOrder:
    return LikelyOrder(class_map, description, _percent(hits), _percent(other_hits), len(hits))


def _sorted_orders(classes: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the class maps of the usual orders that differ from the order of ``classes``."""
    orders = {
        "if its classes are sorted as text (torchvision's ImageFolder)": sorted(classes),
        "if its classes are sorted as numbers": list(order_class_names(classes)),
    }
    maps: dict[str, tuple[int, ...]] = {}
    for description, names in orders.items():
        index_of = {name: index for index, name in enumerate(names)}
        class_map = tuple(index_of[name] for name in classes)
        if names != list(classes) and class_map not in maps.values():
            maps[description] = class_map
    return maps


def _is_clearly_better(other_hits: Tensor, hits: Tensor) -> bool:
    """Compare two orders by a one-sided sign test; hits are (N,) bool."""
    if int(other_hits.sum()) - int(hits.sum()) < max(1, _MIN_GAIN * len(hits)):
        return False
    return gain_p_value(other_hits, hits) < _P_THRESHOLD


def gain_p_value(other_hits: Tensor, hits: Tensor) -> float:
    """Return the p-value of a one-sided sign test that ``other_hits`` has more hits; (N,) bool."""
    from scipy.special import bdtrc  # slow to import, and some runs have no teacher

    gained, lost = int((other_hits & ~hits).sum()), int((hits & ~other_hits).sum())
    return float(bdtrc(gained - 1, gained + lost, 0.5)) if gained else 1.0


def _cross_fitted_hits(logits: Tensor, target: Tensor) -> Tensor:
    """Return which images are right (N,) in the order that the other half of the images gives."""
    half = torch.empty(len(target), dtype=torch.long)
    by_class = target.argsort(stable=True)
    half[by_class] = torch.arange(len(target)) % 2  # halves have the same classes
    hits = torch.empty(len(target), dtype=torch.bool)
    for fitted, counted in ((half == 0, half == 1), (half == 1, half == 0)):
        class_map = list(_fit_class_map(logits[fitted], target[fitted]))
        hits[counted] = logits[counted][:, class_map].argmax(dim=1) == target[counted]
    return hits


def _fit_class_map(logits: Tensor, target: Tensor) -> tuple[int, ...]:
    """Return the one-to-one class map with the most correct predictions.

    On ties the data set's order wins.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import

    num_classes = logits.shape[1]
    cells = target * num_classes + logits.argmax(dim=1)
    counts = torch.bincount(cells, minlength=num_classes**2).view(num_classes, num_classes)
    score = counts.double() + torch.eye(num_classes, dtype=torch.float64) / (2 * num_classes)
    _, columns = linear_sum_assignment(score.numpy(), maximize=True)
    return tuple(int(column) for column in columns)


def _percent(hits: Tensor) -> float:
    return 100 * int(hits.sum()) / len(hits)
