"""Weights that give methods their share of the gradient."""

import pytest

from kdcore.methods.common.weight_plan import MeasuredMethod, WeightPlan
from kdcore.schema.methods import METHODS, MethodParams

STEPS = 200
AFTER_WARMUP = 21


class Falling(MethodParams):
    default_label_weight = 0.1
    target_share = 0.6
    weight_decay_end = 0.25
    min_label_share = 0.2
    type: str = "falling"


class Constant(Falling):
    weight_decay_end = 1.0


class BesideLabels(Constant):
    default_label_weight = 1.0


def build_plan(*methods: MethodParams, label_weight: float | None = None) -> WeightPlan:
    """A plan of methods whose gradients are half as large as that of the labels."""
    plan = WeightPlan({str(index): m for index, m in enumerate(methods)}, label_weight, STEPS)
    assert not plan.is_measured
    plan.measured = {name: MeasuredMethod(2.0, {f"term{name}": 3.0}) for name in plan.methods}
    assert plan.is_measured
    return plan


def test_shares_sum_to_one() -> None:
    plan = build_plan(Falling(), Constant())
    for step in (1, AFTER_WARMUP, STEPS):
        shares = [plan.method_weight(name, step) / 2.0 for name in plan.methods]
        assert plan.label_weight(step) + sum(shares) == pytest.approx(1)


def test_labels_keep_their_published_weight_of_one() -> None:
    plan = build_plan(BesideLabels())
    assert plan.label_weight(AFTER_WARMUP) == pytest.approx(1)
    assert plan.method_weight("0", AFTER_WARMUP) == pytest.approx(2.0 * 0.6 / 0.4)


def test_share_rises_in_warmup_and_then_falls_to_its_end() -> None:
    plan = build_plan(Falling())
    weights = [plan.method_weight("0", step) for step in range(1, STEPS + 1)]
    assert weights[: AFTER_WARMUP - 1] == sorted(weights[: AFTER_WARMUP - 1])
    assert weights[0] < 0.1 * weights[AFTER_WARMUP - 1]
    assert weights[AFTER_WARMUP - 1] == pytest.approx(2.0 * 0.6)
    assert weights[AFTER_WARMUP - 1 :] == sorted(weights[AFTER_WARMUP - 1 :], reverse=True)
    assert weights[-1] == pytest.approx(0.25 * 2.0 * 0.6)


def test_labels_keep_their_smallest_share_beside_several_methods() -> None:
    plan = build_plan(Constant(), Constant())
    assert plan.label_weight(AFTER_WARMUP) == pytest.approx(0.2)
    assert plan.method_weight("0", AFTER_WARMUP) == pytest.approx(2.0 * 0.4)


def test_label_weight_of_the_job_is_used_without_floor_and_decay() -> None:
    plan = build_plan(Falling(), label_weight=0.5)
    for step in (1, AFTER_WARMUP, STEPS):
        assert plan.label_weight(step) == 0.5
        # A share of 0.6 beside labels with 0.4.
        assert plan.method_weight("0", step) == pytest.approx(2.0 * 0.5 * 0.6 / 0.4)
    alone = build_plan(Falling(), Falling(), label_weight=0.0)
    assert alone.label_weight(STEPS) == 0
    assert alone.method_weight("0", STEPS) == pytest.approx(2.0 / 2)


def test_methods_that_are_not_in_a_stage_have_no_share_in_it() -> None:
    plan = build_plan(Falling(), BesideLabels())
    assert plan.label_weight(STEPS, []) == 1.0
    alone = build_plan(BesideLabels())
    weights = plan.method_weight("1", STEPS, ["1"]), alone.method_weight("0", STEPS)
    # Both plans have another target share, because labels keep the smallest one.
    assert weights == pytest.approx((2.0 * 0.4 / 0.6, 2.0 * 0.6 / 0.4))


def test_initial_weights_are_those_of_the_terms() -> None:
    weights = build_plan(Falling()).initial_weights()
    assert weights == pytest.approx({"term0": 3.0 * 2.0 * 0.6, "cross_entropy": 0.4})
    assert WeightPlan({}, 1.0, STEPS).initial_weights() == {}


def test_state_is_restored() -> None:
    plan, other = build_plan(Falling()), WeightPlan({"0": Falling()}, None, STEPS)
    other.load_state_dict(plan.state_dict())
    assert other.initial_weights() == plan.initial_weights()


def test_every_method_states_possible_shares() -> None:
    for name, params in METHODS.items():
        assert 0 < params.target_share <= 1 - params.min_label_share < 1, name
        assert 0 <= params.weight_decay_end <= 1, name
