"""Where a student is wrong, and where it sees another class than its teacher."""

from torch import Tensor
from torch.nn import functional

from kdcore.evaluation import metrics
from kdcore.evaluation.report_builder import Evaluator
from kdcore.schema.report import Disagreement

_MAX_CLASSES = 100
_MAX_IMAGES = 50


def confusion(evaluator: Evaluator, logits: Tensor) -> tuple[tuple[int, ...], ...] | None:
    """Counts (C, C) by true and named class for logits (N, C); None above 100 classes."""
    return metrics.confusion(logits, evaluator.target) if logits.shape[1] <= _MAX_CLASSES else None


def disagreements(
    evaluator: Evaluator, logits: Tensor, teacher: Tensor | None
) -> tuple[Disagreement, ...]:
    """Up to 50 test images, the surest of both first; none without a teacher. Logits are (N, C)."""
    if teacher is None:
        return ()
    ours = functional.softmax(logits.double(), dim=1).max(dim=1)
    theirs = functional.softmax(teacher.double(), dim=1).max(dim=1)
    return tuple(
        Disagreement(
            index=row,
            target=evaluator.classes[int(evaluator.target[row])],
            teacher=evaluator.classes[int(theirs.indices[row])],
            student=evaluator.classes[int(ours.indices[row])],
            teacher_confidence=float(theirs.values[row]),
            student_confidence=float(ours.values[row]),
        )
        for row in metrics.disagreements(logits, teacher, _MAX_IMAGES)
    )
