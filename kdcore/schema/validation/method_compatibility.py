"""Which methods are compatible with a pair of teacher and student, known before training."""

from dataclasses import dataclass

from kdcore.schema.augmentation import MIXING
from kdcore.schema.base import FrozenModel
from kdcore.schema.catalog import PROGRAM_FORMATS, architectures
from kdcore.schema.methods import METHODS, MethodParams

TAPS_REQUIRED = "taps_required"
"""Code where a teacher from a file needs the names of its outputs."""


class Incompatibility(FrozenModel):
    """Why a method cannot be used for a pair, and what would help."""

    code: str
    reason: str
    help: str


@dataclass(frozen=True)
class TeacherStudentPair:
    """What decides which methods are compatible. None where it is not known."""

    student: str | None
    """Name of the student's architecture."""
    teachers: tuple[str, ...] = ()
    """Names of the teachers' architectures."""
    scheme_architectures: tuple[str, ...] = ()
    """Names of the architectures of peers or assistants: the methods apply to them, too."""
    teacher_required: bool = True
    """Whether the scheme trains no teachers itself."""
    augmentations: tuple[str, ...] = ()
    num_student_taps: int = 0
    """Number of taps that the job names for the student; 0 uses the catalog's taps."""
    num_teacher_taps: tuple[int, ...] = ()
    """The same for each teacher."""
    teachers_meet_student: bool = True
    """Whether the teachers teach the student itself, and not only assistants."""
    batch_size: int | None = None
    """Images of the largest batch."""

    @property
    def networks(self) -> tuple[str | None, ...]:
        """Architectures of all networks: student, networks of the scheme, teachers."""
        return (self.student, *self.scheme_architectures, *self.teachers)

    @property
    def num_taps(self) -> tuple[int, ...]:
        """Number of taps that the job names for each of them."""
        of_teachers = self.num_teacher_taps or (0,) * len(self.teachers)
        return (self.num_student_taps, *(0,) * len(self.scheme_architectures), *of_teachers)


def find_incompatibility(method: str, pair: TeacherStudentPair) -> Incompatibility | None:
    """Why ``method`` cannot be used for ``pair``; None where it is compatible."""
    entry = METHODS[method]
    if not entry.uses_teacher:
        return None
    for check in (
        _check_teachers,
        _check_outputs,
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
    """Every method with the reason why it cannot be used, None where it is compatible."""
    return {name: find_incompatibility(name, pair) for name in METHODS}


def _check_teachers(entry: type[MethodParams], pair: TeacherStudentPair) -> Incompatibility | None:
    if not pair.teachers and pair.teacher_required:
        return Incompatibility(
            code="teacher_required",
            reason="it learns from a teacher, and the job has none",
            help="name a teacher, or choose supervised",
        )
    if entry.one_teacher and len(pair.teachers) > 1:
        return Incompatibility(
            code="one_teacher",
            reason=f"it compares features with one teacher, and the job has {len(pair.teachers)}",
            help="name one teacher, or choose a method of the group logits",
        )
    return None


def _check_maps(entry: type[MethodParams], pair: TeacherStudentPair) -> Incompatibility | None:
    if "maps" not in entry.needs:
        return None
    known_architectures, fewest = architectures(), max(1, entry.min_maps)
    for name, num_named in zip(pair.networks, pair.num_taps, strict=True):
        num_maps = len(known_architectures[name].taps) if name in known_architectures else fewest
        if (num_named or num_maps) < fewest:
            network = name or "a network of the job"
            count = (
                f"the job names {num_named} for" if num_named else f"the catalog has {num_maps} of"
            )
            return Incompatibility(
                code="too_few_maps",
                reason=f"it needs {fewest} feature maps or more, and {count} {network}",
                help=f"name {'more ' if num_named else ''}taps by their module paths, or choose a "
                "method of the group logits",
            )
    return None


def _check_outputs(entry: type[MethodParams], pair: TeacherStudentPair) -> Incompatibility | None:
    """A teacher from a file has no feature layers that could be detected."""
    num_taps = pair.num_teacher_taps or (0,) * len(pair.teachers)
    for name, num_named in zip(pair.teachers, num_taps, strict=True):
        if "maps" in entry.needs and name in PROGRAM_FORMATS and not num_named:
            return Incompatibility(
                code=TAPS_REQUIRED,
                reason=f"it compares feature maps, and of a teacher from a file ({name}) only the "
                "outputs that the job names are read",
                help="name outputs of shape (batch, channels, height, width) as `taps` of the "
                "teacher, or choose a method of the group logits",
            )
    return None


def _check_tap_pairing(
    entry: type[MethodParams], pair: TeacherStudentPair
) -> Incompatibility | None:
    """Maps are compared in pairs, so both networks need the same number of named taps."""
    if "maps" not in entry.needs or not (pair.teachers_meet_student and pair.num_student_taps):
        return None
    for num_teacher_taps in pair.num_teacher_taps:
        if num_teacher_taps not in (0, pair.num_student_taps):
            return Incompatibility(
                code="taps_mismatch",
                reason="it pairs the maps of student and teacher, and the job names "
                f"{pair.num_student_taps} taps for the student and {num_teacher_taps} for the "
                "teacher",
                help="name the same number for both, or leave out the taps of one network",
            )
    return None


def _check_pooled(entry: type[MethodParams], pair: TeacherStudentPair) -> Incompatibility | None:
    known = architectures()
    for name in pair.networks:
        from_file = name in PROGRAM_FORMATS
        has_none = name in known and not known[name].pooled_features
        if "pooled" in entry.needs and (from_file or has_none):
            network = f"a teacher from a file ({name})" if from_file else name
            return Incompatibility(
                code="no_pooled_features",
                reason=f"it needs the vector before the classifier, and {network} has none",
                help="choose a method of the group logits",
            )
    return None


def _check_labels(entry: type[MethodParams], pair: TeacherStudentPair) -> Incompatibility | None:
    mixing = [name for name in pair.augmentations if name in MIXING]
    if mixing and {"target", "index"} & set(entry.needs):
        return Incompatibility(
            code="hard_labels_required",
            reason=f"it needs one label per image, and {mixing[0]} gives every image two",
            help=f"remove {mixing[0]}, or choose a method without labels such as kd",
        )
    return None


def _check_batch(entry: type[MethodParams], pair: TeacherStudentPair) -> Incompatibility | None:
    if pair.batch_size is None or pair.batch_size >= entry.min_batch:
        return None
    return Incompatibility(
        code="batch_too_small",
        reason=f"it compares the samples of a batch, and each batch has {pair.batch_size}",
        help="train on larger batches, or choose a method of single samples such as kd",
    )
