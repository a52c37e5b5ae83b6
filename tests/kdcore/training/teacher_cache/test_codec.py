"""OutputCodec: cached outputs are close to the teacher's."""

import math

import pytest
import torch
from torch import Tensor

from kdcore.methods.base import Outputs
from kdcore.training.teacher_cache.codec import OutputCodec, exceeds_half, has_overflowed

CLASSES = 40


@pytest.fixture
def logits() -> Tensor:
    drawn: Tensor = 4 * torch.randn(64, CLASSES, generator=torch.Generator().manual_seed(1))
    return drawn


def round_trip(codec: OutputCodec, outputs: Outputs) -> Outputs:
    return codec.decode(codec.encode(outputs))


def test_logits_and_pooled_features_are_rounded_to_float16(logits: Tensor) -> None:
    pooled = torch.rand(64, 16)
    decoded = round_trip(OutputCodec(CLASSES, pooled=True), Outputs(logits, pooled))
    assert torch.equal(decoded.logits, logits.half().float())
    assert decoded.pooled is not None
    assert torch.equal(decoded.pooled, pooled.half().float())


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_largest_logits_keep_their_probability(logits: Tensor, temperature: float) -> None:
    codec = OutputCodec(CLASSES, top_k=8)
    rows = codec.encode(Outputs(logits))
    assert {name: tuple(tensor.shape) for name, tensor in rows.items()} == {
        "logits": (64, 8),
        "classes": (64, 8),
        "rest": (64,),
    }
    decoded = codec.decode(rows).logits
    top = logits.topk(8).indices
    assert torch.allclose(decoded.gather(1, top), logits.gather(1, top), atol=0.02)
    decoded_p, exact_p = (z.div(temperature).softmax(dim=1) for z in (decoded, logits))
    kl = (exact_p * (exact_p.log() - decoded_p.log())).sum(dim=1)
    assert torch.isfinite(kl).all()
    # The tail is spread evenly: at worst that costs log(tail classes) nats, times its probability.
    tail = 1 - exact_p.gather(1, top).sum(dim=1)
    assert (kl <= tail * math.log(CLASSES - 8) + 1e-3).all()
    if temperature == 1.0:
        assert torch.allclose(decoded.logsumexp(dim=1), logits.logsumexp(dim=1), atol=0.02)


def test_extreme_logits_stay_finite_and_ordered() -> None:
    confident = torch.zeros(2, CLASSES)
    confident[:, 3] = 1e4
    uniform = torch.zeros(2, CLASSES)
    for logits in (confident, uniform):
        decoded = round_trip(OutputCodec(CLASSES, top_k=2), Outputs(logits)).logits
        assert torch.isfinite(decoded).all()
        assert torch.equal(decoded.argmax(dim=1) == 3, logits[:, 3] > 0)
        assert (decoded.topk(3).values.diff(dim=1) <= 0).all()


def test_missing_pooled_features_raise_an_error() -> None:
    with pytest.raises(ValueError, match="no pooled features"):
        OutputCodec(CLASSES, pooled=True).encode(Outputs(torch.zeros(1, CLASSES)))


@pytest.mark.parametrize("top_k", [None, 8])
def test_outputs_beyond_float16_stay_exact(logits: Tensor, top_k: int | None) -> None:
    wide = 1e5 * logits
    codec = OutputCodec(CLASSES, top_k=top_k, pooled=True)
    tensors = codec.encode(Outputs(wide, 1e5 * torch.rand(64, 16)))
    assert tensors["logits"].dtype == tensors["pooled"].dtype == torch.float32
    decoded = codec.decode(tensors)
    top = wide.topk(8).indices
    assert torch.equal(decoded.logits.gather(1, top), wide.gather(1, top))
    assert torch.isfinite(decoded.logits).all()
    assert exceeds_half(tensors)
    assert not has_overflowed(tensors)


def test_float16_is_used_up_to_its_largest_value() -> None:
    codec = OutputCodec(2)
    for value, dtype in ((65504.0, torch.float16), (65536.0, torch.float32)):
        assert codec.encode(Outputs(torch.tensor([[value, 0.0]])))["logits"].dtype == dtype
    assert has_overflowed({"logits": torch.tensor([1e6]).half()})
