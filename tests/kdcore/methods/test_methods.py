"""Every method as the training loop uses it: different shapes, saved, loaded and summed."""

import io
from typing import get_args

import pytest
import torch
from torch import Tensor

from kdcore.methods import create_method
from kdcore.methods.base import Batch, DataFacts, Method, MixedLabels, Outputs
from kdcore.methods.common.cross_entropy import LabelLoss
from kdcore.methods.common.feature_map_method import FeatureMapMethod
from kdcore.methods.common.objective import Objective
from kdcore.runtime.errors import UserError
from kdcore.schema.methods import METHODS, Need, as_methods
from tests.kdcore.methods.inputs import (
    FACTS,
    NUM_SAMPLES,
    TARGETS,
    TEACHER_METHODS,
    batch,
    build_method,
    outputs,
    params,
    student,
    teacher,
)

for_all_methods = pytest.mark.parametrize("name", TEACHER_METHODS)
VARIANTS = [
    ("fitnet", {"two_stage": False, "tap": 0}),
    ("fitnet", {"tap": 2}),
    ("attention", {"form": "paper"}),
    ("correlation", {"form": "gaussian"}),
    ("correlation", {"embedding_dim": 8}),
    ("fsp", {"between": "ends"}),
    ("kd", {"logit_standardization": True}),
    ("dkd", {"logit_standardization": True}),
    ("dist", {"logit_standardization": True}),
    ("batch_logits", {"logit_standardization": True}),
    ("crd", {"negatives": 3}),
]


def total_loss(method: Method, terms: dict[str, Tensor], epoch: int = 30) -> Tensor:
    return torch.stack([method.weight_of(name, epoch) * term for name, term in terms.items()]).sum()


def assert_teaches(method: Method, s: Outputs, t: Outputs) -> dict[str, Tensor]:
    """Return the terms, which must be finite scalars with finite gradients for the student only."""
    terms: dict[str, Tensor] = method(s, t, batch(size=len(s.logits)))
    total_loss(method, terms).backward()
    assert all(x is None or x.grad is None for x in (t.logits, t.pooled, *t.maps))
    reached = [x.grad for x in (s.logits, s.pooled, *s.maps) if x is not None]
    reached = [grad for grad in reached if grad is not None]
    assert all(term.shape == () and bool(term.isfinite()) for term in terms.values())
    assert reached
    assert any(bool(grad.any()) for grad in reached)
    trained = [p.grad for p in method.parameters() if p.grad is not None]
    assert all(bool(grad.isfinite().all()) for grad in [*reached, *trained])
    return terms


@for_all_methods
def test_method_teaches_student_of_other_shapes(name: str) -> None:
    terms = assert_teaches(build_method(name), student(), teacher())
    assert all(term == name or term.startswith(f"{name}_") for term in terms)


@pytest.mark.parametrize(("name", "fields"), VARIANTS, ids=str)
def test_method_teaches_with_options(name: str, fields: dict[str, object]) -> None:
    assert_teaches(build_method(name, **fields), student(), teacher())


@for_all_methods
def test_all_parameters_get_gradients(name: str) -> None:
    method = build_method(name)
    total_loss(method, method(student(), teacher(), batch())).backward()
    assert all(parameter.grad is not None for parameter in method.parameters())


@for_all_methods
@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_extreme_outputs_give_finite_loss(name: str, scale: float) -> None:
    method, s = build_method(name), student(scale=scale)
    loss = total_loss(method, method(s, teacher(scale=scale), batch()))
    loss.backward()
    assert bool(loss.isfinite())
    grads = [x.grad for x in (s.logits, s.pooled, *s.maps, *method.parameters()) if x is not None]
    assert all(grad is None or bool(grad.isfinite().all()) for grad in grads)


@for_all_methods
def test_half_precision_is_raised_to_float32(name: str) -> None:
    def half(full: Outputs) -> Outputs:
        assert full.pooled is not None
        maps = [x.detach().bfloat16() for x in full.maps]
        return Outputs(full.logits.detach().bfloat16(), full.pooled.detach().bfloat16(), maps)

    with torch.autocast("cpu", torch.bfloat16):
        terms = build_method(name)(half(student()), half(teacher()), batch())
    exact = build_method(name)(student(), teacher(), batch())
    assert all(term.dtype == torch.float32 for term in terms.values())
    for term, value in terms.items():
        assert value.item() == pytest.approx(exact[term].item(), rel=0.1)


@for_all_methods
def test_method_teaches_student_of_equal_shapes(name: str) -> None:
    def same(seed: int) -> Outputs:
        return outputs(seed, 12, (4, 8, 8), (6, 4, 4))

    assert_teaches(build_method(name, same(1), same(1)), same(1), same(2))


@for_all_methods
def test_loaded_state_gives_identical_losses(name: str) -> None:
    first, second = build_method(name), create_method(params(name))
    torch.manual_seed(99)
    second.build(student(2), teacher(2), FACTS)
    steps(first, range(1, 4))
    saved = io.BytesIO()
    torch.save(first.state_dict(), saved)
    saved.seek(0)
    second.load_state_dict(torch.load(saved, weights_only=True))
    assert steps(first, range(4, 7)) == steps(second, range(4, 7))
    for first_value, second_value in zip(
        first.state_dict().values(), second.state_dict().values(), strict=True
    ):
        assert torch.equal(first_value, second_value)


def steps(method: Method, numbers: range) -> list[float]:
    """Losses of some steps, seeded by the number of the step as in the training loop."""
    losses = []
    for step in numbers:
        torch.manual_seed(step)
        method.zero_grad()
        s = outputs(step, 12, (4, 8, 8), (6, 4, 4), (12, 2, 2))
        t = outputs(100 + step, 20, (5, 4, 16), (10, 8, 8), (20, 3, 3))
        loss = total_loss(method, method(s, t, batch(step)))
        loss.backward()
        method.commit_batch()
        with torch.no_grad():
            for parameter in method.parameters():
                parameter -= 0.01 * parameter.grad
        losses.append(loss.item())
    return losses


def test_sum_of_methods_has_one_metric_per_term() -> None:
    names = [name for name in TEACHER_METHODS if name not in ("fitnet", "factor_transfer")]
    methods = [create_method(params(name)) for name in names]
    objective = Objective(methods, LabelLoss(0.1), [1.0], 10)
    objective.build(student(2), [teacher(2)], FACTS)
    loss = objective(student(), [teacher()], batch())
    assert {"cross_entropy", "rkd_angle", "batch_logits_class", "crd"} <= set(loss.terms)
    assert len(loss.terms) == len(names) + 3
    terms = [method(student(), teacher(), batch()) for method in methods]
    assert len(set().union(*terms)) == sum(map(len, terms))
    loss.total.backward()
    assert bool(loss.total.isfinite())


@for_all_methods
def test_method_matches_its_catalog_entry(name: str) -> None:
    entry, method = METHODS[name], build_method(name)
    assert set(entry.needs) == method.needs <= set(get_args(Need))
    assert entry.min_maps == (method.min_maps if isinstance(method, FeatureMapMethod) else 0)
    assert entry.one_teacher == (entry.group in ("features", "relations"))
    assert params(name).weight == method.weight
    if entry.min_batch > 1:
        with pytest.raises(ValueError, match="batch of 1"):
            method(student(1), teacher(1), batch(size=1))
    else:
        lone = method(student(1), teacher(1), batch(size=1))
        assert all(bool(term.isfinite()) for term in lone.values())


def test_default_weights() -> None:
    assert {name: params(name).weight for name in TEACHER_METHODS} == {
        "kd": 0.9,
        "logit_matching": 1,
        "dkd": 1,
        "dist": 2,
        "batch_logits": 1,
        "fitnet": 100,
        "attention": 1000,
        "factor_transfer": 200,
        "fsp": 50,
        "nst": 50,
        "vid": 1,
        "reviewkd": 5,
        "rkd": 1,
        "similarity": 3000,
        "pkt": 30000,
        "correlation": 0.02,
        "crd": 0.8,
    }
    rkd = build_method("rkd", weight=2)
    assert (rkd.weight_of("rkd_distance", 1), rkd.weight_of("rkd_angle", 1)) == (50, 100)
    assert params("attention", form="paper").resolved_weight == 2
    assert build_method("attention", form="paper").weight == 2
    assert params("attention", form="paper", weight=7).weight == 7


def test_dkd_warms_up_from_first_epoch() -> None:
    dkd = build_method("dkd")
    assert [dkd.weight_of("dkd", epoch) for epoch in (1, 10, 20, 21)] == [
        0.05,
        0.5,
        1,
        1,
    ]
    assert build_method("dkd", warmup_epochs=4).weight_of("dkd", 1) == 0.25
    assert build_method("dkd", warmup_epochs=0).weight_of("dkd", 1) == 1


@pytest.mark.parametrize("name", ["fitnet", "factor_transfer"])
def test_two_stages_train_different_terms(name: str) -> None:
    early = {"fitnet": {"fitnet_hint"}, "factor_transfer": {"factor_transfer_paraphraser"}}[name]
    late = {"fitnet": {"fitnet_kd"}, "factor_transfer": {"factor_transfer"}}[name]
    objective = Objective([build_method(name)], LabelLoss(1.0), [1.0], 10)
    terms = [set(objective(student(), [teacher()], batch(step)).terms) for step in (1, 3, 10)]
    assert terms[0] == early
    assert terms[1] == terms[2] == late | {"cross_entropy"}
    s = student()
    objective(s, [teacher()], batch(1)).total.backward()
    untouched = s.logits.grad is None and s.maps[-1].grad is None
    assert untouched  # up to the hint, or not at all


def test_paraphraser_gets_no_gradient_in_second_stage() -> None:
    method = build_method("factor_transfer")
    objective = Objective([method], LabelLoss(1.0), [1.0], 10)
    objective(student(), [teacher()], batch(9)).total.backward()
    trained = {name for name, p in method.named_parameters() if p.grad is not None}
    assert trained
    assert all(name.startswith("translator") for name in trained)


def test_build_refuses_incompatible_outputs_and_labels() -> None:
    flat = outputs(1, 12, (4, 8, 8)), outputs(2, 20, (5, 8, 8))
    with pytest.raises(UserError, match="2 feature map") as few:
        build_method("fsp", *flat)
    assert few.value.code == "student_incompatible"
    with pytest.raises(UserError, match="tap is 3, and this pair has the feature maps 0 to 2"):
        build_method("fitnet", tap=3)
    for name in ("dkd", "crd"):
        for targets in (None, TARGETS.where(TARGETS != 2, -1)):
            method = create_method(params(name))
            with pytest.raises(UserError, match="label for every training image"):
                method.build(student(2), teacher(2), DataFacts(NUM_SAMPLES, 4, targets))
    method = create_method(params("crd"))
    with pytest.raises(UserError, match="one class"):
        method.build(student(2), teacher(2), DataFacts(NUM_SAMPLES, 4, torch.zeros(40).long()))


@pytest.mark.parametrize("name", ["dkd", "crd"])
def test_method_refuses_mixed_and_missing_labels(name: str) -> None:
    plain = batch()
    assert plain.target is not None
    mix = MixedLabels(plain.target, torch.full((6,), 0.7))
    for refused in (
        Batch(plain.target, plain.index, 1, 1, mix=mix),
        Batch(None, plain.index, 1, 1),
    ):
        with pytest.raises(UserError, match="one true label"):
            build_method(name)(student(), teacher(), refused)


def test_paraphraser_statistics_stay_fixed_in_second_stage() -> None:
    method = create_method(*as_methods("factor_transfer"))
    generator = torch.Generator().manual_seed(0)
    s, t = (torch.randn(4, 6, 5, 5, generator=generator) for _ in range(2))
    s_outputs, t_outputs = (Outputs(torch.zeros(4, 3), maps=(x,)) for x in (s, t))
    method.build(s_outputs, t_outputs, DataFacts(4, 3, None))
    objective = Objective([method], LabelLoss(0.0), [1.0], 10)
    for step, moves in ((1, True), (5, False)):
        before = {n: b.clone() for n, b in method.paraphraser.named_buffers()}
        objective(s_outputs, [t_outputs], Batch(None, torch.arange(4), 1, step))
        after = dict(method.paraphraser.named_buffers())
        assert any(not torch.equal(before[n], after[n]) for n in before) == moves
