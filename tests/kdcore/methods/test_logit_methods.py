"""Golden values (made outside of this project), gradients and extremes of the logit methods."""

import pytest
import torch
from torch import Tensor

from kdcore.methods import registry
from kdcore.methods.base import Batch, Method, Outputs, Stage
from kdcore.methods.common.cross_entropy import LabelLoss
from kdcore.methods.common.objective import Objective, stage_at
from kdcore.methods.common.teacher_ensemble import mean_logits
from kdcore.methods.kd import kd, standardize
from kdcore.methods.logit_matching import logit_matching
from kdcore.schema.methods import as_methods
from kdcore.schema.methods.kd import KD
from kdcore.schema.methods.logit_matching import LogitMatching


def g(a: float, b: float, k: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return (k * torch.sin(a * torch.arange(80, dtype=torch.float64) + b)).view(8, 10).to(dtype)


S, T = g(0.7, 0.1, 3), g(0.5, 0.3, 5)
TARGET = 3 * torch.arange(8) % 10
BATCH = Batch(TARGET, torch.arange(8), epoch=1, step=1)


@pytest.mark.parametrize(("temperature", "golden"), [(1.0, 2.457224016), (4.0, 6.481297584)])
def test_kd_is_the_reference(temperature: float, golden: float) -> None:
    assert float(kd(S, T, temperature=temperature)) == pytest.approx(golden, rel=1e-7)
    loss = kd(S.float(), T.float(), temperature=temperature)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(golden, rel=1e-4)


def test_standardized_kd_is_the_reference() -> None:
    loss = kd(standardize(S), standardize(T), temperature=2)
    assert float(loss) == pytest.approx(0.8153963776, rel=1e-7)
    method = registry.create_method(KD(type="kd", temperature=2, logit_standardization=True))
    assert float(method(Outputs(S), Outputs(T), BATCH)["kd"]) == pytest.approx(0.8153963776)


def test_logit_matching_is_the_mean_over_batch_and_classes() -> None:
    by_hand = sum((a - b) ** 2 for a, b in zip(S.flatten(), T.flatten(), strict=True)) / 80
    assert float(logit_matching(S, T)) == pytest.approx(float(by_hand), rel=1e-12)
    method = registry.create_method(
        LogitMatching(type="logit_matching", logit_standardization=True)
    )
    term = method(Outputs(S), Outputs(T), BATCH)["logit_matching"]
    assert float(term) == pytest.approx(float(logit_matching(standardize(S), standardize(T))))


def test_gradients() -> None:
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


def test_several_teachers_are_their_weighted_mean_at_the_temperature() -> None:
    other = g(0.9, 0.2, 4)
    seen = mean_logits([T, other], [1, 3], 4.0)
    mean = 0.25 * (T / 4).softmax(1) + 0.75 * (other / 4).softmax(1)
    torch.testing.assert_close((seen / 4).softmax(1), mean)


def test_no_gradient_reaches_the_teacher() -> None:
    t = T.clone().requires_grad_()
    registry.create_method(KD(type="kd"))(Outputs(S.clone().requires_grad_()), Outputs(t), BATCH)[
        "kd"
    ].backward()
    assert t.grad is None


def test_the_objective_weights_the_terms() -> None:
    methods = [
        registry.create_method(p) for p in (*as_methods("kd"), *as_methods("logit_matching"))
    ]
    loss = Objective(methods, LabelLoss(0.1), [1.0], 1)(Outputs(S), [Outputs(T)], BATCH)
    assert set(loss.terms) == {"cross_entropy", "kd", "logit_matching"}
    by_hand = 0.1 * loss.terms["cross_entropy"] + 0.9 * 6.481297584 + logit_matching(S, T)
    assert float(loss.total) == pytest.approx(float(by_hand), rel=1e-7)
    assert not Objective(
        [registry.create_method(*as_methods("supervised"))], LabelLoss(1), [], 1
    ).uses_teacher


class Staged(Method):
    """Trains on its own term alone for the first half."""

    taught = False

    def stages(self) -> tuple[Stage, ...]:
        return (Stage(0.5, frozenset({"own"})), Stage(0.5))

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        return {"own": student.logits.mean()}


def test_stages_choose_the_terms() -> None:
    objective = Objective([Staged()], LabelLoss(1.0), [], 4)
    terms = [
        set(objective(Outputs(S), [], Batch(TARGET, TARGET, 1, step)).terms) for step in (2, 3)
    ]
    assert terms == [{"own"}, {"own", "cross_entropy"}]
    assert stage_at((Stage(0.5), Stage(0.5)), 1, 1).share == 0.5


def test_the_registry_is_loud_about_a_taken_name() -> None:
    registry.create_method(KD(type="kd"))
    with pytest.raises(ValueError, match="taken"):
        registry.register("kd")(Staged)
