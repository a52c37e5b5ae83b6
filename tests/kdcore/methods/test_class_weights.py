"""Class weights, missing labels and peers in the losses of a student."""

import pytest
import torch
from torch.nn import functional

from kdcore.methods import create_method
from kdcore.methods.base import Batch, Outputs
from kdcore.methods.common.class_weights import class_weights
from kdcore.methods.common.cross_entropy import LabelLoss
from kdcore.methods.common.objective import Objective
from kdcore.schema.methods import as_methods


def test_balanced_weights_are_inverse_to_the_class_counts() -> None:
    targets = torch.tensor([0, 0, 0, 1, -1, -1])
    weights = class_weights("balanced", targets, 3)
    assert weights is not None
    # N / (C * N_c) over the four labeled images; an empty class counts as one image.
    assert weights.tolist() == pytest.approx([4 / 9, 4 / 3, 4 / 3])


def test_weights_are_optional_and_explicit_ones_are_used() -> None:
    targets = torch.tensor([0, 1])
    assert class_weights(None, targets, 2) is None
    weights = class_weights((1.0, 3.0), targets, 2)
    assert weights is not None
    assert weights.tolist() == [1.0, 3.0]


def test_a_class_of_weight_zero_adds_no_loss_even_with_smoothing() -> None:
    logits = torch.randn(2, 2, generator=torch.Generator().manual_seed(1))
    labels = LabelLoss(1.0, 0.1, torch.tensor([0.0, 1.0]))
    loss = labels.cross_entropy(logits, Batch(torch.tensor([0, 0]), torch.arange(2), 1, 1))
    assert loss is not None
    assert float(loss) == 0.0


def test_weighted_and_missing_labels_match_pytorch() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    target = torch.tensor([0, 1, -1, 2, -1])
    weights = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    loss = LabelLoss(1.0, 0.2, weights).cross_entropy(logits, Batch(target, torch.arange(5), 1, 1))
    expected = functional.cross_entropy(
        logits, target, weights, ignore_index=-1, label_smoothing=0.2
    )
    assert loss is not None
    assert float(loss) == pytest.approx(float(expected))
    no_labels = Batch(torch.full((5,), -1), torch.arange(5), 1, 1)
    loss = LabelLoss(1.0).cross_entropy(logits, no_labels)
    assert loss is not None
    assert float(loss) == 0.0


def test_the_peer_loss_is_the_divergence_of_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    student, peer = (torch.randn(6, 5, generator=generator) for _ in range(2))
    objective = Objective([create_method(*as_methods("kd"))], LabelLoss(0.0), [1.0], 1)
    objective.methods[0].temperature = 1.0
    loss = objective(Outputs(student), [Outputs(peer)], Batch(None, torch.arange(6), 1, 1))
    p, q = functional.softmax(peer, 1), functional.softmax(student, 1)
    expected = (p * (p.log() - q.log())).sum(1).mean()
    assert float(loss.terms["kd"]) == pytest.approx(float(expected), rel=1e-5)
