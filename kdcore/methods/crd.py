"""Contrastive representation distillation: Tian, Krishnan & Isola 2020.

https://arxiv.org/abs/1910.10699
"""

import torch
from torch import Tensor, nn

from kdcore.methods.base import Batch, DataFacts
from kdcore.methods.common.cross_entropy import all_labels, hard_labels
from kdcore.methods.common.full_precision import full_precision
from kdcore.methods.common.linalg import l2_normalize
from kdcore.methods.common.pooled_method import PooledMethod
from kdcore.runtime.errors import UserError
from kdcore.schema.methods.crd import CRD

_EPS = 1e-7


@full_precision
def contrast(scores: Tensor, *, num_samples: int) -> Tensor:
    """-(1/B) Σ_b [log P⁺/(P⁺ + K/N + ε) + Σ_k log (K/N)/(P_k + K/N + ε)], ε = 1e-7.

    ``scores`` are (B, 1 + K) or (B, 1 + K, 1): of the positive first, then of K negatives; N is
    ``num_samples``. It falls as P⁺ rises and the P_k fall, towards K · log(1 + εN/K). Raises
    ``ValueError`` without negatives.
    """
    scores = scores.flatten(1)
    k = scores.shape[1] - 1
    if k < 1:
        raise ValueError(
            "contrast needs one positive and at least one negative score for each sample"
        )
    noise = k / num_samples
    positive = scores[:, 0].clamp_min(torch.finfo(scores.dtype).tiny)
    log_positive = (positive / (positive + noise + _EPS)).log()
    log_negatives = (noise / (scores[:, 1:] + noise + _EPS)).log().sum(dim=1)
    return -(log_positive + log_negatives).mean()


class NegativeSampler(nn.Module):
    """Draws images of other classes, each with the same probability.

    ``targets`` are the labels (N,) of all images. The checkpoint leaves out its buffers, because
    they follow from the data. Raises ``UserError`` (dataset_invalid) if all images have one class.
    """

    order: Tensor  # (N,) sample ids, class by class
    first: Tensor  # (C,) index of the first image of a class in ``order``
    count: Tensor  # (C,) number of its images

    def __init__(self, targets: Tensor, num_classes: int) -> None:
        super().__init__()
        targets = targets.cpu().long()
        count = torch.bincount(targets, minlength=num_classes)
        self.num_samples = len(targets)
        self.min_candidates = self.num_samples - int(count.max())
        """Number of images outside the largest class."""
        if self.min_candidates == 0:
            raise UserError(
                "dataset_invalid",
                "crd compares an image with images of other classes, and all training images have "
                "one class",
                hint="Choose another method, or a data set of two classes or more.",
            )
        for name, value in (
            ("order", targets.argsort(stable=True)),
            ("first", count.cumsum(0) - count),
            ("count", count),
        ):
            self.register_buffer(name, value, persistent=False)

    def sample(self, target: Tensor, num_negatives: int) -> Tensor:
        """Sample ids (B, num_negatives) of other classes than ``target`` (B,), with replacement.

        All images of other classes have the same probability. Uses torch's global generator.
        """
        count, first = self.count[target].unsqueeze(1), self.first[target].unsqueeze(1)
        shape = (len(target), num_negatives)
        # float32 has fewer values between 0 and 1 than some data sets have images.
        uniform = torch.rand(shape, dtype=torch.float64, device=target.device)
        others = self.num_samples - count
        offset = torch.minimum((uniform * others).long(), others - 1)
        # The images of the class are contiguous: skip them.
        return self.order[offset + (offset >= first) * count]


class MemoryBank(nn.Module):
    """The latest embedding of every training image by one network, at unit length."""

    bank: Tensor  # (N, dim)
    scale: Tensor  # () Z, set by the first batch; 0 before it

    def __init__(self, num_samples: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("bank", l2_normalize(torch.randn(num_samples, dim), dim=1))
        self.register_buffer("scale", torch.zeros(()))

    def scores(self, anchors: Tensor, index: Tensor, temperature: float) -> Tensor:
        """exp(anchor · memory / T) / Z of anchors (B, dim) and ids (B, 1 + K): (B, 1 + K)."""
        # Score the full bank, then select: gathering rows first would need dim times the memory.
        raw = ((anchors @ self.bank.T).gather(1, index) / temperature).exp()
        with torch.no_grad():
            first = raw.mean() * len(self.bank)
            self.scale.copy_(torch.where(self.scale > 0, self.scale, first))
        return raw / self.scale.clone()

    @torch.no_grad()
    def update(self, index: Tensor, values: Tensor, momentum: float) -> None:
        """Move the rows ``index`` (B,) towards ``values`` (B, dim)."""
        moved = momentum * self.bank[index] + (1 - momentum) * values
        self.bank[index] = l2_normalize(moved, dim=1)


class CRDMethod(PooledMethod):
    """One term, ``crd``: the student's features against the teacher's memory, and the reverse.

    Negatives are drawn with replacement from images of other classes; their number is at most the
    number of images outside the largest class. Each network has a memory and a linear embedding.
    """

    student_embedding: nn.Module
    teacher_embedding: nn.Module
    student_memory: MemoryBank
    teacher_memory: MemoryBank
    negatives: NegativeSampler

    def __init__(self, params: CRD) -> None:
        super().__init__(params)
        self.params = params
        self._pending: list[tuple[Tensor, Tensor, Tensor]] = []

    def build_embeddings(self, student_dim: int, teacher_dim: int, data: DataFacts) -> None:
        """Raises ``UserError`` (dataset_invalid) for missing labels or a single class."""
        dim = self.params.embedding_dim
        self.negatives = NegativeSampler(all_labels(data, "crd"), data.num_classes)
        self.student_embedding = nn.Linear(student_dim, dim)
        self.teacher_embedding = nn.Linear(teacher_dim, dim)
        self.student_memory = MemoryBank(data.num_samples, dim)
        self.teacher_memory = MemoryBank(data.num_samples, dim)

    def terms(self, student: Tensor, teacher: Tensor, batch: Batch) -> dict[str, Tensor]:
        """``crd`` of pooled features, against the memories of earlier batches."""
        s = l2_normalize(self.student_embedding(student), dim=1)
        t = l2_normalize(self.teacher_embedding(teacher), dim=1)
        num_negatives = min(self.params.negatives, self.negatives.min_candidates)
        drawn = self.negatives.sample(hard_labels(batch, "crd"), num_negatives)
        index = torch.cat([batch.index.unsqueeze(1), drawn], dim=1)  # (B, 1 + K)
        temperature, num_samples = self.params.temperature, self.negatives.num_samples
        by_student = self.teacher_memory.scores(s, index, temperature)
        by_teacher = self.student_memory.scores(t, index, temperature)
        self._pending.append((batch.index, s.detach(), t.detach()))
        return {
            "crd": contrast(by_student, num_samples=num_samples)
            + contrast(by_teacher, num_samples=num_samples)
        }

    def commit_batch(self) -> None:
        """Update both memories."""
        for index, s, t in self._pending:
            self.student_memory.update(index, s, self.params.momentum)
            self.teacher_memory.update(index, t, self.params.momentum)
        self.discard_batch()

    def discard_batch(self) -> None:
        """Forget the batch, so that a retry updates the memories once."""
        self._pending.clear()
