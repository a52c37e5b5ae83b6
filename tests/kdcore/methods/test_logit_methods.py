"""Golden values (computed outside of this project), gradients and extremes of the logit methods."""

from typing import Literal

import pytest
import torch
from torch import Tensor

from kdcore.methods import create_method
from kdcore.methods.base import Batch, Method, Outputs, Stage
from kdcore.methods.common.cross_entropy import LabelLoss
from kdcore.methods.common.objective import Objective, stage_at
from kdcore.methods.common.teacher_ensemble import mean_logits
from kdcore.methods.kd import kd, standardize
from kdcore.methods.logit_matching import logit_matching
from kdcore.schema.methods import MethodParams, as_methods
from kdcore.schema.methods.kd import KD
from kdcore.schema.methods.logit_matching import LogitMatching
from kdcore.schema.methods.supervised import Supervised


def sine_values(a: float, b: float, k: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return (k * torch.sin(a * torch.arange(80, dtype=torch.float64) + b)).view(8, 10).to(dtype)


S, T = sine_values(0.7, 0.1, 3), sine_values(0.5, 0.3, 5)
TARGET = 3 * torch.arange(8) % 10
BATCH = Batch(TARGET, torch.arange(8), epoch=1, step=1)


@pytest.mark.parametrize(("temperature", "golden"), [(1.0, 2.457224016), (4.0, 6.481297584)])
def test_kd_equals_reference(temperature: float, golden: float) -> None:
    assert float(kd(S, T, temperature=temperature)) == pytest.approx(golden, rel=1e-7)
    loss = kd(S.float(), T.float(), temperature=temperature)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(golden, rel=1e-4)


def test_standardized_kd_equals_reference() -> None:
    loss = kd(standardize(S), standardize(T), temperature=2)
    assert float(loss) == pytest.approx(0.8153963776, rel=1e-7)
    method = create_method(KD(type="kd", temperature=2, logit_standardization=True))
    assert float(method(Outputs(S), Outputs(T), BATCH)["kd"]) == pytest.approx(0.8153963776)


def test_logit_matching_is_mean_over_batch_and_classes() -> None:
    expected = sum((a - b) ** 2 for a, b in zip(S.flatten(), T.flatten(), strict=True)) / 80
    assert float(logit_matching(S, T)) == pytest.approx(float(expected), rel=1e-12)
    method = create_method(LogitMatching(type="logit_matching", logit_standardization=True))
    term = method(Outputs(S), Outputs(T), BATCH)["logit_matching"]
    assert float(term) == pytest.approx(float(logit_matching(standardize(S), standardize(T))))


def test_gradients_equal_finite_differences() -> None:
    s = S.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: kd(z, T, temperature=4), (s,))
    assert torch.autograd.gradcheck(lambda z: logit_matching(z, T), (s,))
    assert torch.autograd.gradcheck(standardize, (s,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1e4, 0.0])
def test_extreme_logits_stay_finite(dtype: torch.dtype, scale: float) -> None:
    s = (scale * S.sign()).to(dtype).requires_grad_()
    t = (-scale * T.sign()).to(dtype)
    loss = (
        kd(s, t, temperature=1)
        + logit_matching(s, t)
        + kd(standardize(s), standardize(t), temperature=1)
        + kd(s, mean_logits([t, -t], [1, 3], 1.0), temperature=1)
    )
    loss.backward()
    assert loss.dtype == torch.float32
    assert bool(loss.detach().isfinite())
    assert s.grad is not None
    assert bool(s.grad.isfinite().all())


def test_teachers_are_averaged_at_temperature() -> None:
    other = sine_values(0.9, 0.2, 4)
    combined = mean_logits([T, other], [1, 3], 4.0)
    mean = 0.25 * (T / 4).softmax(1) + 0.75 * (other / 4).softmax(1)
    torch.testing.assert_close((combined / 4).softmax(1), mean)


def test_teacher_gets_no_gradient() -> None:
    t = T.clone().requires_grad_()
    create_method(KD(type="kd"))(Outputs(S.clone().requires_grad_()), Outputs(t), BATCH)[
        "kd"
    ].backward()
    assert t.grad is None


def test_objective_weighs_terms() -> None:
    methods = [create_method(p) for p in (*as_methods("kd"), *as_methods("logit_matching"))]
    loss = Objective(methods, LabelLoss(0.1), [1.0], 1)(Outputs(S), [Outputs(T)], BATCH)
    assert set(loss.terms) == {"cross_entropy", "kd", "logit_matching"}
    expected = 0.1 * loss.terms["cross_entropy"] + 0.9 * 6.481297584 + logit_matching(S, T)
    assert float(loss.total) == pytest.approx(float(expected), rel=1e-7)
    assert not Objective(
        [create_method(*as_methods("supervised"))], LabelLoss(1), [], 1
    ).uses_teacher


class Staged(Method):
    """Trains only the term ``adapter`` in the first half."""

    def stages(self) -> tuple[Stage, ...]:
        return (Stage(0.5, frozenset({"adapter"})), Stage(0.5))

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        return {"adapter": student.logits.mean()}


def test_stage_selects_terms() -> None:
    objective = Objective([Staged(Supervised(type="supervised"))], LabelLoss(1.0), [], 4)
    terms = [
        set(objective(Outputs(S), [], Batch(TARGET, TARGET, 1, step)).terms) for step in (2, 3)
    ]
    assert terms == [{"adapter"}, {"adapter", "cross_entropy"}]
    assert stage_at((Stage(0.5), Stage(0.5)), 1, 1).share == 0.5


class Misnamed(MethodParams):
    """Parameters whose name belongs to a file without a method."""

    type: Literal["common"] = "common"
    group = "logits"
    needs = ("logits",)
    when_to_use = "Never."
    formula = "0"


def test_file_without_method_is_refused() -> None:
    with pytest.raises(TypeError, match=r"common defines 0 subclasses of Method"):
        create_method(Misnamed())
