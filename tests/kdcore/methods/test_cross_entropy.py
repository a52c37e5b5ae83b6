"""Cross-entropy of labels that are mixed, missing and weighted by class at the same time."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from kdcore.methods.base import Batch, MixedLabels
from kdcore.methods.common.cross_entropy import LabelLoss

CLASSES = 3


def logits(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, CLASSES, generator=generator, dtype=torch.float64)


def mixed_batch(target: list[int], share: list[float], partner: list[int] | None = None) -> Batch:
    first = torch.tensor(target)
    second = first.roll(-1, 0) if partner is None else torch.tensor(partner)
    mix = MixedLabels(second, torch.tensor(share, dtype=torch.float64))
    return Batch(first, torch.arange(len(target)), 1, 1, mix)


def loss(labels: LabelLoss, batch: Batch) -> float:
    value = labels.cross_entropy(logits(len(batch.index)), batch)
    assert value is not None
    return float(value)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("target", [[0, 1, 2, 1], [-1, 2], [0, -1, -1, 2], [-1, -1]])
def test_equal_class_weights_change_nothing(target: list[int], smoothing: float) -> None:
    batch = mixed_batch(target, [0.3, 0.6, 0.9, 0.5][: len(target)])
    ones = LabelLoss(1.0, smoothing, torch.ones(CLASSES))
    assert loss(ones, batch) == loss(LabelLoss(1.0, smoothing), batch)
    tenfold = LabelLoss(1.0, smoothing, torch.full((CLASSES,), 10.0))
    assert loss(tenfold, batch) == pytest.approx(loss(ones, batch))


def test_both_labels_of_mixed_view_are_weighted_by_class() -> None:
    weights = torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64)
    batch = mixed_batch([0, 2, -1, 1], [0.3, 0.6, 0.9, 0.5])
    losses = -functional.log_softmax(logits(4), dim=1)
    shares = ((0, 2, 0.7), (1, 2, 0.6), (2, 1, 0.1), (3, 1, 0.5))
    expected = sum(share * float(weights[c] * losses[row, c]) for row, c, share in shares)
    assert loss(LabelLoss(1.0, 0.0, weights), batch) == pytest.approx(expected / 5)


def test_part_of_batch_without_counted_labels_stays_finite() -> None:
    weights = torch.tensor([0.0, 1.0, 1.0])
    part = mixed_batch([0, -1], [0.5, 0.5], partner=[0, 2])
    value = loss(LabelLoss(1.0, 0.0, weights), part)
    partner_loss = functional.cross_entropy(logits(2)[1:], torch.tensor([2]))
    # Half of one label, divided by the half of its weight.
    assert value == pytest.approx(0.5 * float(partner_loss) / 0.5)
