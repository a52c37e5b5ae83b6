"""Where a student is wrong, and where it sees another class than its teacher."""

from torch import Tensor
from torch.nn import functional

from kdcore.evaluation import metrics
from kdcore.evaluation.report_builder import TestBench
from kdcore.schema.report import Disagreement

_MOST_CLASSES = 100
_MOST_IMAGES = 50


def confusion(bench: TestBench, logits: Tensor) -> tuple[tuple[int, ...], ...] | None:
    """Counts (C, C) by true and named class for logits (N, C); None above 100 classes."""
    return metrics.confusion(logits, bench.target) if logits.shape[1] <= _MOST_CLASSES else None


def disagreements(
    bench: TestBench, logits: Tensor, teacher: Tensor | None
) -> tuple[Disagreement, ...]:
    """Up to 50 test images, the surest of both first; none without a teacher. Logits are (N, C)."""
    if teacher is None:
        return ()
    ours = functional.softmax(logits.double(), dim=1).max(dim=1)
    theirs = functional.softmax(teacher.double(), dim=1).max(dim=1)
    return tuple(
        Disagreement(
            index=row,
            target=bench.classes[int(bench.target[row])],
            teacher=bench.classes[int(theirs.indices[row])],
            student=bench.classes[int(ours.indices[row])],
            teacher_confidence=float(theirs.values[row]),
            student_confidence=float(ours.values[row]),
        )
        for row in metrics.disagreements(logits, teacher, _MOST_IMAGES)
    )
