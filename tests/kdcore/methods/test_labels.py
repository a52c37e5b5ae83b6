"""Cross-entropy of labels that are mixed, missing and weighted by class, all at once."""

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


def mixed(target: list[int], share: list[float], partner: list[int] | None = None) -> Batch:
    first = torch.tensor(target)
    second = first.roll(-1, 0) if partner is None else torch.tensor(partner)
    mix = MixedLabels(second, torch.tensor(share, dtype=torch.float64))
    return Batch(first, torch.arange(len(target)), 1, 1, mix)


def loss(labels: LabelLoss, batch: Batch) -> float:
    found = labels.cross_entropy(logits(len(batch.index)), batch)
    assert found is not None
    return float(found)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("target", [[0, 1, 2, 1], [-1, 2], [0, -1, -1, 2], [-1, -1]])
def test_equal_weights_are_no_weights(target: list[int], smoothing: float) -> None:
    batch = mixed(target, [0.3, 0.6, 0.9, 0.5][: len(target)])
    ones = LabelLoss(1.0, smoothing, torch.ones(CLASSES))
    assert loss(ones, batch) == loss(LabelLoss(1.0, smoothing), batch)
    tenfold = LabelLoss(1.0, smoothing, torch.full((CLASSES,), 10.0))
    assert loss(tenfold, batch) == pytest.approx(loss(ones, batch))


def test_both_labels_of_a_view_count_by_their_own_class() -> None:
    weights = torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64)
    batch = mixed([0, 2, -1, 1], [0.3, 0.6, 0.9, 0.5])
    each = -functional.log_softmax(logits(4), dim=1)
    shares = ((0, 2, 0.7), (1, 2, 0.6), (2, 1, 0.1), (3, 1, 0.5))
    expected = sum(share * float(weights[c] * each[row, c]) for row, c, share in shares)
    assert loss(LabelLoss(1.0, 0.0, weights), batch) == pytest.approx(expected / 5)


def test_a_part_of_a_batch_whose_own_labels_do_not_count_stays_finite() -> None:
    weights = torch.tensor([0.0, 1.0, 1.0])
    part = mixed([0, -1], [0.5, 0.5], partner=[0, 2])
    found = loss(LabelLoss(1.0, 0.0, weights), part)
    each = functional.cross_entropy(logits(2)[1:], torch.tensor([2]))
    # Half of one label, over the half of it that counts here.
    assert found == pytest.approx(0.5 * float(each) / 0.5)
