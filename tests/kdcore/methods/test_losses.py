"""Every pure loss: golden value, gradient, extreme inputs, smallest value, refused inputs."""

import math

import pytest
import torch
from torch import Tensor

from kdcore.methods.attention import attention
from kdcore.methods.correlation import correlation, gaussian
from kdcore.methods.crd import contrast
from kdcore.methods.dist import dist
from kdcore.methods.dkd import dkd
from kdcore.methods.factor_transfer import factor
from kdcore.methods.fitnet import hint
from kdcore.methods.fsp import fsp
from kdcore.methods.nst import nst, nst_by_channels, nst_by_positions
from kdcore.methods.pkt import pkt
from kdcore.methods.reviewkd import hierarchical
from kdcore.methods.rkd import angle, distance
from kdcore.methods.similarity import similarity
from kdcore.methods.vid import log_scale_of, vid
from tests.kdcore.methods import inputs as i
from tests.kdcore.methods.losses import CASES, Case

Tensors = tuple[Tensor, ...]
for_all_cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def cast(tensors: Tensors, dtype: torch.dtype, scale: float = 1.0) -> Tensors:
    return tuple((scale * x).to(dtype) for x in tensors)


def small(tensors: Tensors) -> Tensors:
    """Corners of 3 images, because the time of gradcheck grows with the number of values."""
    return tuple(x[:3, :3, :2, :2] if x.ndim == 4 else x[:3] for x in tensors)


def assert_finite(case: Case, student: Tensors, teacher: Tensors) -> tuple[Tensor, list[Tensor]]:
    """Return the loss and its gradients, which must be finite."""
    leaves = [x.detach().requires_grad_() for x in student]
    loss = case.of(tuple(leaves), teacher)
    gradients = list(torch.autograd.grad(loss, leaves))
    assert bool(loss.isfinite())
    assert all(bool(grad.isfinite().all()) for grad in gradients)
    return loss.detach(), gradients


@for_all_cases
def test_loss_equals_reference(case: Case) -> None:
    if case.golden is not None:
        assert float(case.of(case.student, case.teacher)) == pytest.approx(case.golden, rel=1e-7)
        loss = case.of(cast(case.student, torch.float32), cast(case.teacher, torch.float32))
        assert loss.dtype == torch.float32
        assert float(loss) == pytest.approx(case.golden, rel=1e-4)


@for_all_cases
def test_gradient_equals_finite_differences(case: Case) -> None:
    student = tuple(x.detach().clone().requires_grad_() for x in small(case.student))
    teacher = small(case.teacher)
    assert torch.autograd.gradcheck(lambda *s: case.of(s, teacher), student)


@for_all_cases
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1e4, 1.0, 1e-4, 0.0])
def test_extreme_inputs_give_finite_loss(case: Case, dtype: torch.dtype, scale: float) -> None:
    student, teacher = cast(case.student, dtype, scale), cast(case.teacher, dtype, scale)
    if dtype == torch.float16 and scale > 1:
        # Gradients of degree 3 exceed float16; a gradient scaler would handle them.
        assert bool(case.of(student, teacher).isfinite())
        return
    loss, gradients = assert_finite(case, student, teacher)
    assert loss.dtype == torch.float32
    # Losses of degree 4 have gradients of degree 3; near 0 none may explode.
    assert all(float(grad.abs().max()) < (1e14 if scale > 1 else 1e5) for grad in gradients)
    if scale == 1e4 and case.golden is not None:
        assert_finite(case, tuple(x.sign() * scale for x in student), tuple(-x for x in teacher))


@for_all_cases
def test_equal_rows_and_zeros_give_finite_gradients(case: Case) -> None:
    alike = tuple(x[:1].expand_as(x) for x in cast(case.student, torch.float32))
    zeros = tuple(torch.zeros_like(x) for x in alike)
    teacher = cast(case.teacher, torch.float32)
    assert_finite(case, alike, teacher)
    assert_finite(case, zeros, teacher)
    assert_finite(case, alike, tuple(x[:1].expand_as(x) for x in teacher))


@for_all_cases
def test_loss_is_least_where_student_equals_teacher(case: Case) -> None:
    if case.least is not None:
        equal, gradients = assert_finite(case, case.teacher, case.teacher)
        # The constant in its norms keeps DIST slightly above 0.
        assert float(equal) == pytest.approx(case.least, abs=1e-5)
        assert float(case.of(case.student, case.teacher)) > case.least + 1e-6
        assert all(float(grad.abs().max()) < 1e-5 for grad in gradients)


@for_all_cases
def test_autocast_does_not_change_loss(case: Case) -> None:
    student, teacher = cast(case.student, torch.float32), cast(case.teacher, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = case.of(student, teacher)
    assert torch.equal(inside, case.of(student, teacher))


@for_all_cases
def test_memory_format_does_not_change_loss(case: Case) -> None:
    def last(tensors: Tensors) -> Tensors:
        form = torch.channels_last
        return tuple(x.to(memory_format=form) if x.ndim == 4 else x for x in tensors)

    channels_last = case.of(last(case.student), last(case.teacher))
    torch.testing.assert_close(channels_last, case.of(case.student, case.teacher))


@pytest.mark.parametrize("loss", [distance, angle, pkt, correlation], ids=lambda f: f.__name__)
def test_loss_refuses_batch_of_one(loss: object) -> None:
    with pytest.raises(ValueError, match="batch of 1; use batches of two or more"):
        loss(i.STUDENT_POOLED[:1], i.TEACHER_POOLED[:1])


def test_loss_with_options_refuses_batch_of_one() -> None:
    with pytest.raises(ValueError, match="batch of 1"):
        dist(i.STUDENT_LOGITS[:1], i.TEACHER_LOGITS[:1], beta=1, gamma=1, temperature=1)
    with pytest.raises(ValueError, match="batch of 1"):
        gaussian(i.STUDENT_POOLED[:1], i.TEACHER_POOLED[:1], gamma=1)
    with pytest.raises(ValueError, match="batch of 1"):
        similarity(i.STUDENT_MAP[:1], i.TEACHER_MAP[:1])


def test_loss_refuses_different_shapes() -> None:
    shallow, deep = i.STUDENT_MAP, i.TEACHER_DEEP
    with pytest.raises(ValueError, match="regressor"):
        hint(shallow, deep)
    with pytest.raises(ValueError, match="translator"):
        factor(shallow, deep)
    with pytest.raises(ValueError, match="adapter"):
        fsp((shallow, shallow), (shallow, deep))
    with pytest.raises(ValueError, match="the prediction is"):
        vid(shallow, torch.zeros(16), deep, eps=1e-5)
    with pytest.raises(ValueError, match="levels must match"):
        hierarchical([shallow], [shallow, deep])
    with pytest.raises(ValueError, match="embedding"):
        correlation(i.STUDENT_POOLED, i.TEACHER_POOLED[:, :5])
    with pytest.raises(ValueError, match="negative"):
        contrast(i.SCORES[:, :1], num_samples=50)


def test_dkd_of_confident_student_is_exact() -> None:
    """In float32 at 100 times the logits, where log(softmax) is infinite."""
    s, t = 100 * i.STUDENT_LOGITS, 100 * i.TEACHER_LOGITS
    exact = dkd(s, t, i.TARGET, alpha=1, beta=8, temperature=4)
    single = dkd(s.float(), t.float(), i.TARGET, alpha=1, beta=8, temperature=4)
    assert float(single) == pytest.approx(float(exact), rel=1e-4)


def test_dkd_of_two_classes_equals_first_part() -> None:
    s, t, target = i.STUDENT_LOGITS[:, :2], i.TEACHER_LOGITS[:, :2], i.TARGET % 2
    total = dkd(s, t, target, alpha=1, beta=8, temperature=4)
    assert float(total) == float(dkd(s, t, target, alpha=1, beta=0, temperature=4)) > 0


@pytest.mark.parametrize("label", [-1, 10])
def test_dkd_refuses_missing_label(label: int) -> None:
    target = torch.where(torch.arange(8) == 3, label, i.TARGET)
    with pytest.raises(ValueError, match="label from 0 to 9 for every image"):
        dkd(i.STUDENT_LOGITS, i.TEACHER_LOGITS, target, alpha=1, beta=8, temperature=4)


def test_contrast_approaches_documented_minimum() -> None:
    scores = torch.cat([torch.full((2, 1), 1e30), torch.zeros(2, 16)], dim=1).double()
    least = 16 * math.log(1 + 1e-7 * 50 / 16)
    assert float(contrast(scores, num_samples=50)) == pytest.approx(least, rel=1e-6)
    assert float(contrast(scores.flip(1), num_samples=50)) > 100


def test_nst_by_positions_equals_nst_by_channels() -> None:
    s, t = torch.randn(3, 5, 7).double(), torch.randn(3, 9, 7).double()
    torch.testing.assert_close(nst_by_positions(s, t), nst_by_channels(s, t))
    wide = i.sine_values((2, 40, 3, 3), 0.3, 0.1, 1)
    assert float(nst(wide, 3 * wide)) == pytest.approx(0, abs=1e-12)


def test_relation_losses_ignore_scale_and_rotation() -> None:
    s = i.STUDENT_POOLED
    rotated = s @ torch.linalg.qr(torch.randn(32, 32).double()).Q
    for loss in (distance, angle, pkt):
        assert float(loss(s, 3 * rotated)) == pytest.approx(0, abs=1e-6)
    assert float(similarity(i.STUDENT_MAP, 2 * i.STUDENT_MAP)) == pytest.approx(0, abs=1e-12)


def test_larger_map_is_pooled_to_smaller() -> None:
    big = i.STUDENT_MAP
    half = torch.nn.functional.avg_pool2d(big, 2)
    assert float(attention(big, half)) == pytest.approx(0, abs=1e-12)
    assert float(factor(half, big)) == pytest.approx(0, abs=1e-12)
    assert float(nst(big, half)) == pytest.approx(0, abs=1e-12)


def test_log_scale_gives_initial_variance_of_vid() -> None:
    for variance in (2e-4, 5.0, 1e3):
        scale = torch.tensor(log_scale_of(variance, eps=1e-5), dtype=torch.float64)
        variance_of_scale = torch.nn.functional.softplus(scale) + 1e-5
        assert float(variance_of_scale) == pytest.approx(variance, rel=1e-6)
