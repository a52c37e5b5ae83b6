"""What is kept of a teacher's outputs says what the teacher said."""

import math

import pytest
import torch
from torch import Tensor

from kdcore.methods.base import Outputs
from kdcore.training.teacher_cache.codec import OutputCodec

CLASSES = 40


@pytest.fixture
def logits() -> Tensor:
    drawn: Tensor = 4 * torch.randn(64, CLASSES, generator=torch.Generator().manual_seed(1))
    return drawn


def again(form: OutputCodec, outputs: Outputs) -> Outputs:
    return form.decode(form.encode(outputs))


def test_all_logits_and_features_are_rounded_and_nothing_else(logits: Tensor) -> None:
    pooled = torch.rand(64, 16)
    found = again(OutputCodec(CLASSES, pooled=True), Outputs(logits, pooled))
    assert torch.equal(found.logits, logits.half().float())
    assert found.pooled is not None
    assert torch.equal(found.pooled, pooled.half().float())


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_largest_logits_keep_their_probability(logits: Tensor, temperature: float) -> None:
    form = OutputCodec(CLASSES, top_k=8)
    rows = form.encode(Outputs(logits))
    assert {name: tuple(each.shape) for name, each in rows.items()} == {
        "logits": (64, 8),
        "classes": (64, 8),
        "rest": (64,),
    }
    found = form.decode(rows).logits
    top = logits.topk(8).indices
    assert torch.allclose(found.gather(1, top), logits.gather(1, top), atol=0.02)
    ours, theirs = (each.div(temperature).softmax(dim=1) for each in (found, logits))
    lost = (theirs * (theirs.log() - ours.log())).sum(dim=1)
    assert torch.isfinite(lost).all()
    # As many nats as an even tail can be wrong by, by the share of the tail.
    tail = 1 - theirs.gather(1, top).sum(dim=1)
    assert (lost <= tail * math.log(CLASSES - 8) + 1e-3).all()
    if temperature == 1.0:
        assert torch.allclose(found.logsumexp(dim=1), logits.logsumexp(dim=1), atol=0.02)


def test_a_teacher_that_is_sure_leaves_others_something_finite() -> None:
    sure = torch.zeros(2, CLASSES)
    sure[:, 3] = 1e4
    even = torch.zeros(2, CLASSES)
    for logits in (sure, even):
        found = again(OutputCodec(CLASSES, top_k=2), Outputs(logits)).logits
        assert torch.isfinite(found).all()
        assert torch.equal(found.argmax(dim=1) == 3, logits[:, 3] > 0)
        assert (found.topk(3).values.diff(dim=1) <= 0).all()


def test_features_that_nobody_gave_are_missed() -> None:
    with pytest.raises(ValueError, match="pooled"):
        OutputCodec(CLASSES, pooled=True).encode(Outputs(torch.zeros(1, CLASSES)))
