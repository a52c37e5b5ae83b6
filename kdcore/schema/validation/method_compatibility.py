"""Which methods fit a pair of teacher and student, known before anything is trained."""

from dataclasses import dataclass
from typing import Any

from kdcore.schema.base import FrozenModel
from kdcore.schema.catalog import architectures
from kdcore.schema.methods import METHODS

_MIXING = ("mixup", "cutmix")


class Incompatibility(FrozenModel):
    """Why a method cannot be used for a pair, and what would help."""

    code: str
    reason: str
    help: str


@dataclass(frozen=True)
class TeacherStudentPair:
    """What decides which methods fit. None where it is not known."""

    student: str | None
    """Name of the student's architecture."""
    teachers: tuple[str, ...] = ()
    """Names of the teachers' architectures."""
    scheme_architectures: tuple[str, ...] = ()
    """Names of peers' or assistants' architectures: they teach and are taught by the same."""
    teacher_required: bool = True
    """Whether the scheme has no teacher of its own making."""
    augmentations: tuple[str, ...] = ()
    num_student_taps: int = 0
    """How many taps the job names for the student, in place of the catalog's; 0 names none."""
    num_teacher_taps: tuple[int, ...] = ()
    """The same of each teacher."""
    teachers_teach_student: bool = True
    """Whether teachers teach the student itself: with assistants between them they never meet."""
    batch_size: int | None = None
    """Images of the largest batch."""

    @property
    def networks(self) -> tuple[str | None, ...]:
        """Everyone's name."""
        return (self.student, *self.scheme_architectures, *self.teachers)

    @property
    def num_taps(self) -> tuple[int, ...]:
        """How many taps are named for each of them."""
        of_teachers = self.num_teacher_taps or (0,) * len(self.teachers)
        return (self.num_student_taps, *(0,) * len(self.scheme_architectures), *of_teachers)


def find_incompatibility(method: str, pair: TeacherStudentPair) -> Incompatibility | None:
    """What forbids ``method`` for ``pair``, or None where it fits."""
    entry = METHODS[method]
    if method == "supervised":
        return None
    for check in (
        _check_teachers,
        _check_maps,
        _check_tap_pairing,
        _check_pooled,
        _check_labels,
        _check_batch,
    ):
        incompatibility = check(entry, pair)
        if incompatibility is not None:
            return incompatibility
    return None


def find_incompatibilities(pair: TeacherStudentPair) -> dict[str, Incompatibility | None]:
    """Every method with what forbids it, None where it fits."""
    return {name: find_incompatibility(name, pair) for name in METHODS}


def _check_teachers(entry: Any, pair: TeacherStudentPair) -> Incompatibility | None:
    if not pair.teachers and pair.teacher_required:
        return Incompatibility(
            code="teacher_required",
            reason="it learns from a teacher, and there is none",
            help="name a teacher, or choose supervised",
        )
    if entry.one_teacher and len(pair.teachers) > 1:
        return Incompatibility(
            code="one_teacher",
            reason=f"it compares features with one teacher, and there are {len(pair.teachers)}",
            help="keep one teacher, or choose a method of the group logits",
        )
    return None


def _check_maps(entry: Any, pair: TeacherStudentPair) -> Incompatibility | None:
    if "maps" not in entry.needs:
        return None
    known_architectures, fewest = architectures(), max(1, entry.min_maps)
    for name, num_named in zip(pair.networks, pair.num_taps, strict=True):
        num_maps = len(known_architectures[name].taps) if name in known_architectures else fewest
        if (num_named or num_maps) < fewest:
            description = f"{num_named} named for" if num_named else f"{num_maps} were found in"
            return Incompatibility(
                code="too_few_maps",
                reason=f"it needs {fewest} feature maps or more, and {description} "
                f"{name or 'a network of the job'}",
                help=f"name {'more ' if num_named else ''}taps by their module paths, or choose a "
                "method of the group logits",
            )
    return None


def _check_tap_pairing(entry: Any, pair: TeacherStudentPair) -> Incompatibility | None:
    """A map of the student belongs to one of the teacher: what is named is never left out."""
    if "maps" not in entry.needs or not (pair.teachers_teach_student and pair.num_student_taps):
        return None
    for num_teacher_taps in pair.num_teacher_taps:
        if num_teacher_taps not in (0, pair.num_student_taps):
            return Incompatibility(
                code="taps_mismatch",
                reason=f"it pairs the maps of student and teacher, and {pair.num_student_taps} "
                f"taps are named for the student, {num_teacher_taps} for the teacher",
                help="name equally many, or let those of one side be found",
            )
    return None


def _check_pooled(entry: Any, pair: TeacherStudentPair) -> Incompatibility | None:
    known = architectures()
    for name in pair.networks:
        if "pooled" in entry.needs and name in known and not known[name].pooled_features:
            return Incompatibility(
                code="no_pooled_features",
                reason=f"it needs the vector before the classifier, and {name} has none",
                help="choose a method of the group logits",
            )
    return None


def _check_labels(entry: Any, pair: TeacherStudentPair) -> Incompatibility | None:
    mixing = [name for name in pair.augmentations if name in _MIXING]
    if mixing and {"target", "index"} & set(entry.needs):
        return Incompatibility(
            code="hard_labels_required",
            reason=f"it needs one label per image, and {mixing[0]} gives every image two",
            help=f"leave {mixing[0]} out, or choose a method without labels such as kd",
        )
    return None


def _check_batch(entry: Any, pair: TeacherStudentPair) -> Incompatibility | None:
    if pair.batch_size is None or pair.batch_size >= entry.min_batch:
        return None
    return Incompatibility(
        code="batch_too_small",
        reason=f"it compares the samples of a batch, and there is {pair.batch_size} in each",
        help="train on more images at a time, or choose a method of single samples such as kd",
    )
