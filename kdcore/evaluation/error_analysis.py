"""Analyze a student's errors: confusion matrix, disagreements with its teacher."""

from torch import Tensor
from torch.nn import functional

from kdcore.evaluation import metrics
from kdcore.evaluation.report_builder import Evaluator
from kdcore.schema.report import Disagreement

_MAX_CLASSES = 100
_MAX_IMAGES = 50


def confusion(evaluator: Evaluator, logits: Tensor) -> tuple[tuple[int, ...], ...] | None:
    """Return counts (C, C) by true and predicted class; None above 100 classes."""
    return metrics.confusion(logits, evaluator.target) if logits.shape[1] <= _MAX_CLASSES else None


def disagreements(
    evaluator: Evaluator, logits: Tensor, teacher: Tensor | None
) -> tuple[Disagreement, ...]:
    """Return up to 50 test images with different predictions, the most confident first.

    ``logits`` and ``teacher`` are (N, C); without a teacher there are none.
    """
    if teacher is None:
        return ()
    student_top = functional.softmax(logits.double(), dim=1).max(dim=1)
    teacher_top = functional.softmax(teacher.double(), dim=1).max(dim=1)
    return tuple(
        Disagreement(
            index=row,
            target=evaluator.classes[int(evaluator.target[row])],
            teacher=evaluator.classes[int(teacher_top.indices[row])],
            student=evaluator.classes[int(student_top.indices[row])],
            teacher_confidence=float(teacher_top.values[row]),
            student_confidence=float(student_top.values[row]),
        )
        for row in metrics.disagreements(logits, teacher, _MAX_IMAGES)
    )
