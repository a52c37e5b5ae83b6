"""Which methods fit a pair of teacher and student, known before anything is trained."""

from dataclasses import dataclass
from typing import Any

from kdcore.spec.base import Spec
from kdcore.spec.catalogue import architectures
from kdcore.spec.methods import METHODS

_MIXING = ("mixup", "cutmix")


class Misfit(Spec):
    """Why a method cannot be used for a pair, and what would help."""

    code: str
    reason: str
    help: str


@dataclass(frozen=True)
class Pair:
    """What decides which methods fit. None where it is not known."""

    student: str | None
    """Name of the student's architecture."""
    teachers: tuple[str, ...] = ()
    """Names of the teachers' architectures."""
    companions: tuple[str, ...] = ()
    """Names of peers' or assistants' architectures: they teach and are taught by the same."""
    teacher_required: bool = True
    """Whether the scheme has no teacher of its own making."""
    augmentations: tuple[str, ...] = ()
    named_taps: bool = False
    """Whether the job names its taps, so that the catalogue's do not count."""

    @property
    def networks(self) -> tuple[str | None, ...]:
        """Everyone's name."""
        return (self.student, *self.companions, *self.teachers)


def misfit(method: str, pair: Pair) -> Misfit | None:
    """What forbids ``method`` for ``pair``, or None where it fits."""
    entry = METHODS[method]
    if method == "supervised":
        return None
    for look in (_teachers, _maps, _pooled, _labels):
        found = look(entry, pair)
        if found is not None:
            return found
    return None


def applicability(pair: Pair) -> dict[str, Misfit | None]:
    """Every method with what forbids it, None where it fits."""
    return {name: misfit(name, pair) for name in METHODS}


def _teachers(entry: Any, pair: Pair) -> Misfit | None:
    if not pair.teachers and pair.teacher_required:
        return Misfit(
            code="teacher_required",
            reason="it learns from a teacher, and there is none",
            help="name a teacher, or choose supervised",
        )
    if entry.one_teacher and len(pair.teachers) > 1:
        return Misfit(
            code="one_teacher",
            reason=f"it compares features with one teacher, and there are {len(pair.teachers)}",
            help="keep one teacher, or choose a method of the group logits",
        )
    return None


def _maps(entry: Any, pair: Pair) -> Misfit | None:
    if "maps" not in entry.needs or pair.named_taps:
        return None
    known = architectures()
    for name in pair.networks:
        if name in known and len(known[name].taps) < max(1, entry.min_maps):
            found = len(known[name].taps)
            return Misfit(
                code="too_few_maps",
                reason=f"it needs {max(1, entry.min_maps)} feature maps or more, "
                f"and {found} were found in {name}",
                help="name taps by their module paths, or choose a method of the group logits",
            )
    return None


def _pooled(entry: Any, pair: Pair) -> Misfit | None:
    known = architectures()
    for name in pair.networks:
        if "pooled" in entry.needs and name in known and not known[name].pooled_features:
            return Misfit(
                code="no_pooled_features",
                reason=f"it needs the vector before the classifier, and {name} has none",
                help="choose a method of the group logits",
            )
    return None


def _labels(entry: Any, pair: Pair) -> Misfit | None:
    mixing = [name for name in pair.augmentations if name in _MIXING]
    if mixing and {"target", "index"} & set(entry.needs):
        return Misfit(
            code="hard_labels_required",
            reason=f"it needs one label per image, and {mixing[0]} gives every image two",
            help=f"leave {mixing[0]} out, or choose a method without labels such as kd",
        )
    return None
