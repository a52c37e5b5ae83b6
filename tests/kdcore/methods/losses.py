"""Every pure loss with its golden value, computed with the method's reference implementation."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from kdcore.methods.attention import attention, attention_distance
from kdcore.methods.batch_logits import batch_logits
from kdcore.methods.correlation import correlation, gaussian
from kdcore.methods.crd import contrast
from kdcore.methods.dist import dist
from kdcore.methods.dkd import dkd
from kdcore.methods.factor_transfer import factor
from kdcore.methods.fitnet import hint
from kdcore.methods.fsp import fsp
from kdcore.methods.kd import kd, standardize
from kdcore.methods.logit_matching import logit_matching
from kdcore.methods.nst import nst
from kdcore.methods.pkt import pkt
from kdcore.methods.reviewkd import hierarchical
from kdcore.methods.rkd import angle, distance
from kdcore.methods.similarity import similarity
from kdcore.methods.vid import log_scale_of, vid
from tests.kdcore.methods import inputs as i


class Case(NamedTuple):
    """A loss of the student's and the teacher's tensors."""

    loss: Callable[..., Tensor]
    student: tuple[Tensor, ...]
    teacher: tuple[Tensor, ...]
    golden: float | None = None
    """None where no reference implementation exists."""
    least: float | None = 0.0
    """Smallest value, where student equals teacher; None where it has none."""

    def of(self, student: tuple[Tensor, ...], teacher: tuple[Tensor, ...]) -> Tensor:
        return self.loss(*student, *teacher)


def _dkd(alpha: float, beta: float) -> Callable[..., Tensor]:
    return lambda s, t: dkd(s, t, i.TARGET[: len(s)], alpha=alpha, beta=beta, temperature=4)


def _vid(mean: Tensor, target: Tensor) -> Tensor:
    scale = torch.full((mean.shape[1],), log_scale_of(5.0, eps=1e-5), dtype=mean.dtype)
    return vid(mean, scale, target, eps=1e-5)


def _fsp(s1: Tensor, s2: Tensor, t1: Tensor, t2: Tensor) -> Tensor:
    return fsp((s1, s2), (t1, t2))


_LOGITS = (i.STUDENT_LOGITS,), (i.TEACHER_LOGITS,)
_MAPS = (i.STUDENT_MAP,), (i.TEACHER_MAP,)
_POOLED = (i.STUDENT_POOLED,), (i.TEACHER_POOLED,)

CASES = {
    "kd T=1": Case(lambda s, t: kd(s, t, temperature=1), *_LOGITS, 2.457224016),
    "kd T=4": Case(lambda s, t: kd(s, t, temperature=4), *_LOGITS, 6.481297584),
    "kd standardized T=2": Case(
        lambda s, t: kd(standardize(s), standardize(t), temperature=2), *_LOGITS, 0.8153963776
    ),
    "logit_matching": Case(logit_matching, *_LOGITS),
    "dkd": Case(_dkd(1, 8), *_LOGITS, 53.67269954),
    "dkd first part": Case(_dkd(1, 0), *_LOGITS, 0.5602877109),
    "dkd second part": Case(_dkd(0, 1), *_LOGITS, 6.639051479),
    "dist T=1": Case(
        lambda s, t: dist(s, t, beta=1, gamma=1, temperature=1), *_LOGITS, 1.877028082
    ),
    "dist T=4": Case(
        lambda s, t: dist(s, t, beta=1, gamma=1, temperature=4), *_LOGITS, 30.76530681
    ),
    "batch_logits class": Case(
        lambda s, t: batch_logits(s, t, temperature=4)[0], *_LOGITS, 0.005353388762
    ),
    "batch_logits sample": Case(
        lambda s, t: batch_logits(s, t, temperature=4)[1], *_LOGITS, 0.01275562374
    ),
    "fitnet": Case(hint, *_MAPS, 0.5079314473),
    "attention": Case(attention, *_MAPS, 0.0002877501957),
    "attention unsquared": Case(attention_distance, *_MAPS),
    "factor_transfer": Case(factor, *_MAPS, 0.02529713438),
    "fsp": Case(
        _fsp, (i.STUDENT_MAP, i.STUDENT_DEEP), (i.TEACHER_MAP, i.TEACHER_DEEP), 0.02215844074
    ),
    "nst": Case(nst, *_MAPS, 0.1224002234),
    "vid": Case(_vid, *_MAPS, 0.855512100944, least=0.8047189562),  # ½ log 5
    "reviewkd": Case(lambda s, t: hierarchical([s], [t]), *_MAPS, 0.3037334838),
    "rkd.distance": Case(distance, *_POOLED, 0.1083434419),
    "rkd.angle": Case(angle, *_POOLED, 0.1190842137),
    "similarity": Case(similarity, *_MAPS, 0.09228471837),
    "pkt": Case(pkt, *_POOLED, 0.007237853564),
    "correlation": Case(correlation, *_POOLED, 5.018391447),
    "correlation gaussian": Case(lambda s, t: gaussian(s, t, gamma=0.4), *_POOLED),
    "crd": Case(lambda x: contrast(x, num_samples=50), (i.SCORES,), (), 23.11703728, least=None),
}
