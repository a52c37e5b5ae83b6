"""Memory banks and negative samples of crd."""

import math

import pytest
import torch
from pydantic import ValidationError

from kdcore.methods.base import Batch, Outputs
from kdcore.methods.common.linalg import l2_normalize
from kdcore.methods.crd import CRDMethod, NegativeSampler, contrast
from tests.kdcore.methods.inputs import NUM_SAMPLES, TARGETS, batch, build_method, student, teacher


def build_crd(**fields: object) -> CRDMethod:
    method = build_method("crd", **fields)
    assert isinstance(method, CRDMethod)
    return method


def test_negatives_are_uniform_over_other_classes() -> None:
    torch.manual_seed(3)
    shuffled = TARGETS[torch.randperm(NUM_SAMPLES)]
    drawn = NegativeSampler(shuffled, 5).sample(torch.arange(4), 20_000)
    assert drawn.shape == (4, 20_000)
    for label in range(4):
        counts = torch.bincount(drawn[label], minlength=NUM_SAMPLES)
        others = shuffled != label
        assert int(counts[~others].sum()) == 0
        expected = 20_000 / int(others.sum())
        assert float((counts[others] - expected).abs().max()) < 6 * math.sqrt(expected)


def test_negatives_follow_global_seed() -> None:
    negatives = NegativeSampler(TARGETS, 4)
    torch.manual_seed(5)
    first = negatives.sample(torch.tensor([0, 1]), 9)
    torch.manual_seed(5)
    assert torch.equal(first, negatives.sample(torch.tensor([0, 1]), 9))
    assert not torch.equal(first, negatives.sample(torch.tensor([0, 1]), 9))


def test_largest_class_limits_number_of_negatives() -> None:
    assert build_crd().negatives.min_candidates == NUM_SAMPLES - 25


def test_class_of_one_image_has_all_other_images_as_negatives() -> None:
    targets = torch.tensor([0, 0, 0, 1, 2, 2])
    drawn = NegativeSampler(targets, 3).sample(torch.tensor([1]), 5_000)
    assert set(drawn[0].tolist()) == {0, 1, 2, 4, 5}
    assert 3 in NegativeSampler(targets, 3).sample(torch.tensor([0]), 5_000)[0].tolist()


def test_loss_is_sum_over_both_anchors() -> None:
    method, s, t = build_crd(negatives=3), student(), teacher()
    banks = method.student_memory.bank.clone(), method.teacher_memory.bank.clone()
    torch.manual_seed(1)
    loss = method(s, t, batch())["crd"]
    torch.manual_seed(1)
    current = batch()
    assert current.target is not None
    assert s.pooled is not None
    assert t.pooled is not None
    drawn = method.negatives.sample(current.target, 3)
    ids = torch.cat([current.index[:, None], drawn], dim=1)
    embedded = method.student_embedding(s.pooled), method.teacher_embedding(t.pooled)
    anchors = [l2_normalize(x, 1).detach() for x in embedded]
    expected = 0.0
    for anchor, bank in zip(anchors, reversed(banks), strict=True):
        raw = ((anchor[:, None] * bank[ids]).sum(2) / 0.07).exp()  # (B, 1 + K)
        expected += float(contrast(raw / (raw.mean() * NUM_SAMPLES), num_samples=NUM_SAMPLES))
    torch.testing.assert_close(loss.item(), expected, rtol=1e-5, atol=0)


def test_memory_update_uses_momentum_and_unit_length() -> None:
    method, s, t = build_crd(), student(), teacher()
    before, ids = method.student_memory.bank.clone(), batch().index
    method(s, t, batch())
    method.commit_batch()
    assert s.pooled is not None
    embedded = l2_normalize(method.student_embedding(s.pooled), 1)
    after = method.student_memory.bank
    torch.testing.assert_close(after[ids], l2_normalize(0.5 * before[ids] + 0.5 * embedded, 1))
    rest = torch.ones(NUM_SAMPLES, dtype=torch.bool).index_fill(0, ids, False)
    assert torch.equal(after[rest], before[rest])
    torch.testing.assert_close(after.norm(dim=1), torch.ones(NUM_SAMPLES))
    assert not after.requires_grad


def test_retried_batch_updates_memories_once() -> None:
    method, s, t = build_crd(), student(), teacher()
    before, ids = method.student_memory.bank.clone(), batch().index
    method(s, t, batch())
    method.discard_batch()  # as after running out of memory
    for part in (slice(0, 2), slice(2, 6)):
        part_s, part_t = (
            Outputs(x.logits[part], None if x.pooled is None else x.pooled[part]) for x in (s, t)
        )
        full = batch()
        assert full.target is not None
        method(part_s, part_t, Batch(full.target[part], full.index[part], 1, 1))
        assert torch.equal(method.student_memory.bank, before)
    method.commit_batch()
    assert s.pooled is not None
    embedded = l2_normalize(method.student_embedding(s.pooled), 1)
    moved = l2_normalize(0.5 * before[ids] + 0.5 * embedded, 1)
    torch.testing.assert_close(method.student_memory.bank[ids], moved)
    once = method.student_memory.bank.clone()
    method.commit_batch()
    assert torch.equal(method.student_memory.bank, once)


def test_lowest_temperature_gives_finite_scores() -> None:
    memory = build_crd().student_memory
    index = torch.arange(NUM_SAMPLES).expand(2, -1)
    anchors = memory.bank[:2].clone()
    lowest = 0.02
    with pytest.raises(ValidationError):
        build_crd(temperature=lowest - 1e-4)
    assert bool(memory.scores(anchors, index, lowest).isfinite().all())


def test_first_batch_fixes_scale() -> None:
    method = build_crd()
    method(student(), teacher(), batch(1))
    first = method.student_memory.scale.clone()
    assert float(first) > 0
    method(student(scale=3), teacher(scale=2), batch(2))
    assert torch.equal(method.student_memory.scale, first)


def test_state_dict_holds_memories_without_sampler() -> None:
    names = set(build_crd().state_dict())
    assert {"student_memory.bank", "teacher_memory.bank", "teacher_memory.scale"} <= names
    assert not any(name.startswith("negatives") for name in names)
