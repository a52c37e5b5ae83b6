"""Whether networks are plausible: better than chance, in the right order, not diverged.

Teachers that are no better than chance on the validation split, or in a wrong order, are refused.
Findings warn of students whose training diverged, or that distillation made worse.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kdcore.evaluation.class_order import LikelyOrder
from kdcore.protocol.events import ErrorDetail
from kdcore.runtime.errors import UserError, error_detail
from kdcore.schema.report import Finding

_P_THRESHOLD = 0.001
"""Significance level: a teacher that always predicts the most frequent class passes this often."""
_WEAK_GAIN = 0.1
"""A teacher that corrects a smaller share of the majority class's errors is weak."""
_FAR_BELOW = 20.0
"""Points of accuracy; smaller differences between two data sets are usual."""
HINT = (
    "check that the teacher's normalization is the one of its training, that its classes are in "
    "the data set's order, and that its input size is right"
)
"""What to check of a teacher that is less accurate than expected."""
ORDER_HINT = (
    "set the class_map of fix, or the teacher's class_names; a class_map of 0, 1, 2, ... states "
    "that its classes are in the data set's order"
)


class ChanceTest(NamedTuple):
    """Correct predictions of one teacher on the validation split, compared with chance."""

    num_correct: int
    total: int
    majority_count: int
    """Images of the most frequent class."""

    @property
    def top1(self) -> float:
        """Percent."""
        return 100 * self.num_correct / self.total

    @property
    def p_value(self) -> float:
        """Probability of at least as many hits for the most frequent class alone."""
        from scipy.special import bdtrc  # slow to import, and some runs have no teacher

        return float(bdtrc(self.num_correct - 1, self.total, self.majority_count / self.total))

    @property
    def is_decidable(self) -> bool:
        """Whether a perfect teacher would pass; with very few images it would not."""
        return self._replace(num_correct=self.total).p_value < _P_THRESHOLD

    @property
    def is_chance_level(self) -> bool:
        """Whether the hits are not better than chance at p < 0.001, where that is decidable."""
        return self.is_decidable and self.p_value >= _P_THRESHOLD

    @property
    def is_weak(self) -> bool:
        """Whether the gain over the most frequent class is small, for any number of images."""
        return self.num_correct - self.majority_count < _WEAK_GAIN * (
            self.total - self.majority_count
        )


def count_correct(logits: Tensor, target: Tensor) -> ChanceTest:
    """Count the correct predictions of logits (N, C) for targets (N,)."""
    return ChanceTest(
        num_correct=int((logits.argmax(dim=1) == target).sum()),
        total=len(target),
        majority_count=int(torch.bincount(target).max()),
    )


def check_teachers(
    names: Sequence[str],
    results: Sequence[ChanceTest],
    orders: Mapping[int, LikelyOrder] | None = None,
    notes: Sequence[str] = (),
    reported: Sequence[str] = (),
) -> list[str]:
    """Refuse teachers that are no better than the most frequent class at p < 0.001.

    ``orders`` has, by the index of a teacher whose order of classes is an assumption, the order
    that fits better; such teachers are refused, too. The hint of a refusal has the sentences
    ``reported``, and those of ``notes`` if another order does not explain it. Returns warnings for
    weak teachers. Raises :class:`UserError` ``teacher_load_failed``, which names all refused
    teachers, with their class maps as a fix.
    """
    orders = orders or {}
    bad: dict[str, ErrorDetail] = {}
    warnings = []
    for index, (name, result) in enumerate(zip(names, results, strict=True)):
        summary = _summarize(result)
        if index in orders:
            reason = (
                f"the teacher {name} (/teachers/{index}) probably has its classes in another order "
                "than the data set"
            )
            bad[reason] = error_detail(name, orders[index].sentence)
        elif not result.is_decidable:
            warnings.append(f"too few validation images to judge the teacher {name}: {summary}")
        elif result.is_chance_level:
            reason = f"the teacher {name} (/teachers/{index}) is no better than chance"
            bad[reason] = error_detail(name, summary)
        elif result.is_weak:
            warnings.append(f"the teacher {name} is weak: {summary}. {HINT}")
    if bad:
        hints = [HINT, *notes] if len(bad) > len(orders) else []
        hints += [sentence.removesuffix(f". {HINT}") for sentence in reported]
        raise _refusal(bad, orders, hints)
    return warnings


def reported_top1_warning(name: str, result: ChanceTest, reported_top1: float | None) -> str | None:
    """Return a sentence about a teacher that is far below its reported accuracy, or None."""
    if reported_top1 is None or result.top1 > reported_top1 - _FAR_BELOW:
        return None
    return (
        f"the teacher {name} is far below its reported accuracy of {reported_top1:.1f} %: "
        f"{_summarize(result)}. {HINT}"
    )


def _summarize(result: ChanceTest) -> str:
    return (
        f"{result.top1:.1f} % of {result.total} validation images are right; the most frequent "
        f"class alone gives {100 * result.majority_count / result.total:.1f} %"
    )


def _refusal(
    bad: Mapping[str, ErrorDetail], orders: Mapping[int, LikelyOrder], hints: Sequence[str]
) -> UserError:
    """Return the error with one sentence for each refused teacher, by its reason."""
    sentences = [f"{reason}: {detail.detail}" for reason, detail in bad.items()]
    if len(bad) > 1 and orders:
        sentences.append(f"likely_class_order is that of /teachers/{next(iter(orders))}")
    fix = [
        {"op": "add", "path": f"/teachers/{index}/class_map", "value": list(order.class_map)}
        for index, order in orders.items()
    ]
    return UserError(
        "teacher_load_failed",
        ". ".join(sentences),
        hint=". ".join([*([ORDER_HINT] if orders else []), *hints]),
        items=list(bad.values()),
        fix=fix or None,
        likely_class_order=next((order.class_map for order in orders.values()), None),
    )


MAX_RISE = 100
"""A validation loss that rose by this factor has diverged. Overfitting raises it far less."""
_FEW_EPOCHS = 10
"""Trainings below this number of epochs are probably too short for a student at chance."""
_P_CHANCE = 0.05
"""Significance level: a student that always predicts the most frequent class passes this often."""
_Z_HARM = 1.64
"""Standard errors of the paired difference of top-1 beyond which it is not chance (95 %)."""


class TrainingCourse(NamedTuple):
    """Settings of a training, and how it went."""

    epochs: int
    best_epoch: int
    lr: float
    label_weight: float
    lowest_val_loss: float | None = None
    """None for a training of a version that did not record it."""
    last_val_loss: float | None = None
    largest_term: str | None = None
    """The term of the loss with the largest weighted value at the end."""


class StudentLogits(NamedTuple):
    """Test logits (N, C) of the students and of their baselines, seed by seed, and the targets."""

    students: Sequence[Tensor]
    baselines: Sequence[Tensor]
    """Empty without baselines."""
    target: Tensor  # (N,)


def find_issues(
    course: TrainingCourse,
    tested: StudentLogits,
    teacher_top1: float | None,
    teacher_findings: Sequence[Finding] = (),
) -> tuple[Finding, ...]:
    """What a user should know before using the student; ``teacher_top1`` is in percent.

    ``teacher_findings`` are measured faults of the teachers. They come first, because they explain
    harm.
    """
    divergence = _find_divergence(course, tested)
    earlier = [*teacher_findings, *([] if divergence is None else [divergence])]
    harm = _find_harm(course, tested, teacher_top1, earlier)
    return (*earlier, *([] if harm is None else [harm]))


def _find_divergence(course: TrainingCourse, tested: StudentLogits) -> Finding | None:
    num_classes = tested.students[0].shape[1]
    lower = (
        f"lower training.optimizer.lr ({course.lr:g}), for instance to {course.lr / 10:g}, or the "
        f"weight of the largest term of the loss{_quote(course.largest_term)}, or set "
        "training.clip_grad_norm"
    )
    cause = "the learning rate, or the weight of a term of the loss, is too high"
    last, guess_loss = course.last_val_loss, math.log(num_classes)
    if last is not None and _has_risen(last, course.lowest_val_loss, guess_loss):
        change = (
            f"rose from {course.lowest_val_loss:.3g} to {last:.3g}"
            if course.lowest_val_loss is not None and math.isfinite(last)
            else "is not finite"
        )
        message = f"the training diverged: the validation loss {change}"
        return Finding(code="diverged", message=message, cause=cause, hint=lower)
    chance = count_correct(tested.students[0], tested.target)
    if not _is_chance(chance):
        return None
    if last is not None and last > MAX_RISE * guess_loss:
        message = (
            f"the training diverged: the validation loss is {last:.3g}, that of a guess "
            f"{guess_loss:.3g}, and top-1 {chance.top1:.1f} %"
        )
        return Finding(code="diverged", message=message, cause=cause, hint=lower)
    return _chance_finding(course, chance, cause, lower)


def _chance_finding(course: TrainingCourse, chance: ChanceTest, cause: str, lower: str) -> Finding:
    """The finding about a student that learned nothing; a short training cannot tell why."""
    causes = [f"the training is too short ({_count_epochs(course)})", cause]
    hints = ["train for more epochs", lower]
    if course.epochs < _FEW_EPOCHS:
        hints[1] = f"if that does not help, {lower}"
    else:
        causes.reverse()
        hints.reverse()
    return Finding(
        code="no_better_than_chance",
        message=f"the student is no better than the majority class: top-1 {chance.top1:.1f} %, "
        "and the most frequent class alone gives "
        f"{100 * chance.majority_count / chance.total:.1f} %",
        cause=", or ".join(causes),
        hint=", or ".join(hints) if course.epochs >= _FEW_EPOCHS else "; ".join(hints),
    )


def _count_epochs(course: TrainingCourse) -> str:
    return "1 epoch" if course.epochs == 1 else f"{course.epochs} epochs"


def _quote(term: str | None) -> str:
    return f" ({term})" if term else ""


def _has_risen(last: float, lowest: float | None, guess_loss: float) -> bool:
    """Whether the loss rose by ``MAX_RISE``, and is as far above that of a uniform guess."""
    if not math.isfinite(last):
        return True
    return lowest is not None and last > MAX_RISE * max(lowest, guess_loss)


def _is_chance(hits: ChanceTest) -> bool:
    if hits.num_correct <= hits.majority_count:
        return True
    best = hits._replace(num_correct=hits.total)
    return best.p_value < _P_CHANCE <= hits.p_value


def _find_harm(
    course: TrainingCourse,
    tested: StudentLogits,
    teacher_top1: float | None,
    earlier: Sequence[Finding],
) -> Finding | None:
    if not tested.baselines or not _is_worse(tested):
        return None
    student, baseline = (
        sum(count_correct(logits, tested.target).top1 for logits in group) / len(group)
        for group in (tested.students, tested.baselines)
    )
    teacher = "" if teacher_top1 is None else f"; the teacher has {teacher_top1:.1f} %"
    message = (
        f"distillation made the student worse: top-1 {student:.1f} %, {baseline:.1f} % without "
        f"distillation{teacher}"
    )
    cause, hint = _explain_by_finding(earlier) or _explain_harm(course, teacher_top1, baseline)
    return Finding(code="worse_than_baseline", message=message, cause=cause, hint=hint)


def _is_worse(tested: StudentLogits) -> bool:
    """McNemar's test over all seeds: whether images are lost by more than chance explains."""
    lost = won = 0
    for student, baseline in zip(tested.students, tested.baselines, strict=True):
        right, expected = (logits.argmax(dim=1) == tested.target for logits in (student, baseline))
        lost += int(torch.count_nonzero(expected & ~right))
        won += int(torch.count_nonzero(right & ~expected))
    return lost > won and (lost - won) / math.sqrt(lost + won) > _Z_HARM


_EXPLANATIONS = {
    "wrong_normalization": (
        "the teacher's normalization is probably wrong",
        "declare the right normalization of the teacher first",
    ),
    "diverged": ("the training diverged", "make the training converge first, as described there"),
    "no_better_than_chance": (
        "the student is no better than the majority class",
        "let the student learn more first, as described there",
    ),
}
"""By the code of an earlier finding: the likely cause of harm and what to try."""


def _explain_by_finding(earlier: Sequence[Finding]) -> tuple[str, str] | None:
    return _EXPLANATIONS.get(earlier[0].code) if earlier else None


def _explain_harm(
    course: TrainingCourse, teacher_top1: float | None, baseline_top1: float
) -> tuple[str, str]:
    """The likely cause and what to try."""
    more_labels = f"raise label_weight ({course.label_weight:g}), or lower the weight of the method"
    if teacher_top1 is not None and teacher_top1 <= baseline_top1:
        cause = "the teacher is no better than the student without distillation"
        return cause, "use a better teacher, or train with the method supervised"
    if course.best_epoch >= course.epochs:
        cause = "the student still improved in the last epoch: learning from a teacher takes longer"
        return cause, f"train for more than {_count_epochs(course)}, or {more_labels}"
    return "the teacher's term outweighs the labels", f"{more_labels}, or try another temperature"
