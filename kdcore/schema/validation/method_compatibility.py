"""Which methods fit a pair of teacher and student, known before anything is trained."""

from dataclasses import dataclass
from typing import Any

from kdcore.schema.base import Spec
from kdcore.schema.catalog import architectures
from kdcore.schema.methods import METHODS

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
    student_taps: int = 0
    """How many taps the job names for the student, in place of the catalogue's; 0 names none."""
    teacher_taps: tuple[int, ...] = ()
    """The same of each teacher."""
    adjacent: bool = True
    """Whether teachers teach the student itself: with assistants between them they never meet."""
    batch: int | None = None
    """Images of the largest batch."""

    @property
    def networks(self) -> tuple[str | None, ...]:
        """Everyone's name."""
        return (self.student, *self.companions, *self.teachers)

    @property
    def named_taps(self) -> tuple[int, ...]:
        """How many taps are named for each of them."""
        of_teachers = self.teacher_taps or (0,) * len(self.teachers)
        return (self.student_taps, *(0,) * len(self.companions), *of_teachers)


def misfit(method: str, pair: Pair) -> Misfit | None:
    """What forbids ``method`` for ``pair``, or None where it fits."""
    entry = METHODS[method]
    if method == "supervised":
        return None
    for look in (_teachers, _maps, _paired, _pooled, _labels, _batch):
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
    if "maps" not in entry.needs:
        return None
    known, fewest = architectures(), max(1, entry.min_maps)
    for name, named in zip(pair.networks, pair.named_taps, strict=True):
        found = len(known[name].taps) if name in known else fewest
        if (named or found) < fewest:
            told = f"{named} named for" if named else f"{found} were found in"
            return Misfit(
                code="too_few_maps",
                reason=f"it needs {fewest} feature maps or more, and {told} "
                f"{name or 'a network of the job'}",
                help=f"name {'more ' if named else ''}taps by their module paths, or choose a "
                "method of the group logits",
            )
    return None


def _paired(entry: Any, pair: Pair) -> Misfit | None:
    """A map of the student belongs to one of the teacher: what is named is never left out."""
    if "maps" not in entry.needs or not (pair.adjacent and pair.student_taps):
        return None
    for named in pair.teacher_taps:
        if named not in (0, pair.student_taps):
            return Misfit(
                code="taps_mismatch",
                reason=f"it pairs the maps of student and teacher, and {pair.student_taps} taps "
                f"are named for the student, {named} for the teacher",
                help="name equally many, or let those of one side be found",
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


def _batch(entry: Any, pair: Pair) -> Misfit | None:
    if pair.batch is None or pair.batch >= entry.min_batch:
        return None
    return Misfit(
        code="batch_too_small",
        reason=f"it compares the samples of a batch, and there is {pair.batch} in each",
        help="train on more images at a time, or choose a method of single samples such as kd",
    )
