"""Whether the parts of a job fit each other: classes, channels, image size, methods.

Works on what a request refers to, not on a whole valid request: a misfit is told in the same answer
as a temperature of 0.
"""

from collections.abc import Iterator, Sequence

from kdcore.schema.assistant_selection import propose_assistants
from kdcore.schema.catalog import architectures
from kdcore.schema.job import channel_rule
from kdcore.schema.methods import METHODS
from kdcore.schema.schemes import SCHEMES
from kdcore.schema.validation.errors import ValidationIssue
from kdcore.schema.validation.method_compatibility import TeacherStudentPair, find_incompatibility
from kdcore.schema.validation.partial_job import (
    DatasetFacts,
    ModelFacts,
    PartialJob,
    PartialTeacher,
)

__all__ = [
    "DatasetFacts",
    "ModelFacts",
    "PartialJob",
    "compatibility_issues",
    "teacher_student_pair",
]


def compatibility_issues(
    job: PartialJob,
    dataset: DatasetFacts,
    teachers: Sequence[ModelFacts | None],
    init: ModelFacts | None,
    model: ModelFacts | None = None,
) -> list[ValidationIssue]:
    """Every way in which the student, the teachers and the data set do not fit each other.

    ``model`` is what an evaluation measures.
    """
    issues = [*_student_issues(job, dataset), *_init_issues(job, init, dataset)]
    if job.derive and teachers and teachers[0] is not None:
        issues += _derivation_issues(teachers[0].architecture, dataset)
    issues += _model_issues(model, dataset)
    for position, teacher in enumerate(teachers):
        if teacher is not None:
            issues += _teacher_issues(position, job.teachers[position], teacher, dataset)
    issues += _method_issues(job, teacher_student_pair(job, teachers, dataset))
    issues += _assistant_issues(job, teachers)
    for index, name in enumerate(job.scheme_architectures):
        field = "peers" if job.scheme == "mutual" else "assistants"
        issues += _size_issues(f"/scheme/{field}/{index}", name, dataset)
    return issues


def teacher_student_pair(
    job: PartialJob, teachers: Sequence[ModelFacts | None], dataset: DatasetFacts
) -> TeacherStudentPair:
    """What decides which methods fit this job."""
    known = tuple(teacher.architecture for teacher in teachers if teacher is not None)
    # A teacher that was not found is told by itself, and is a teacher all the same.
    names = known + ("",) * (len(job.teachers) - len(known))
    first = known[0] if known else None
    scheme = SCHEMES.get(job.scheme or "")
    return TeacherStudentPair(
        student=first if job.derive else job.architecture,
        teachers=names,
        scheme_architectures=job.scheme_architectures,
        teacher_required=scheme is None or scheme.teacher == "required",
        augmentations=job.augmentations,
        num_student_taps=job.num_student_taps,
        num_teacher_taps=tuple(teacher.num_taps for teacher in job.teachers),
        teachers_teach_student=job.scheme != "teacher_assistant",
        batch_size=_largest_batch(job, dataset),
    )


def _largest_batch(job: PartialJob, dataset: DatasetFacts) -> int:
    images = dataset.num_train + dataset.num_unlabeled
    return images if job.batch_size is None else min(job.batch_size, images)


def _method_issues(job: PartialJob, pair: TeacherStudentPair) -> Iterator[ValidationIssue]:
    methods = job.methods or []
    for position, name in enumerate(methods):
        incompatibility = find_incompatibility(name, pair) if name in METHODS else None
        # Contradictions tell of a missing teacher, once for all methods.
        if incompatibility is not None and incompatibility.code != "teacher_required":
            yield ValidationIssue(
                pointer="/method" if len(methods) == 1 else f"/method/{position}",
                code=incompatibility.code,
                detail=f"{name} does not fit: {incompatibility.reason}; {incompatibility.help}",
            )


def _assistant_issues(
    job: PartialJob, teachers: Sequence[ModelFacts | None]
) -> Iterator[ValidationIssue]:
    known = architectures()
    teacher = teachers[0].architecture if teachers and teachers[0] is not None else ""
    if job.scheme != "teacher_assistant" or job.scheme_architectures or not teacher:
        return
    student = job.architecture
    if job.derive or teacher not in known:
        reason = "sizes of derived networks are not known before they are built"
    elif student in known and not propose_assistants(teacher, student, 1, job.methods or ()):
        reason = (
            f"no architecture of the catalog is between {teacher} and {student} in size and "
            "gives what the methods look at"
        )
    else:
        return
    yield ValidationIssue(
        pointer="/scheme/assistants",
        code="no_assistant",
        detail=f"{reason}; name the assistants, or choose offline",
    )


def _model_issues(model: ModelFacts | None, dataset: DatasetFacts) -> Iterator[ValidationIssue]:
    if model is None:
        return
    if model.num_classes != dataset.num_classes:
        yield ValidationIssue(
            pointer="/model",
            code="classes_mismatch",
            detail=f"the model has {model.num_classes} classes, the data set {dataset.num_classes}",
        )


def _student_issues(job: PartialJob, dataset: DatasetFacts) -> Iterator[ValidationIssue]:
    if job.num_classes not in (None, dataset.num_classes):
        pointer = "/student/num_classes"
        yield ValidationIssue(
            pointer=pointer,
            code="classes_mismatch",
            detail=f"the data set has {dataset.num_classes} classes, the student is asked for "
            f"{job.num_classes}",
            fix=[{"op": "replace", "path": pointer, "value": dataset.num_classes}],
        )
    yield from _size_issues("/student/architecture", job.architecture or "", dataset)
    entry = architectures().get(job.architecture or "")
    if job.pretrained and (job.derive or (entry and not entry.pretrained)):
        yield ValidationIssue(
            pointer="/student/init",
            code="no_pretrained_weights",
            detail="nobody publishes weights of this network; leave init out, or name a model to "
            "start from",
            fix=[{"op": "replace", "path": "/student/init", "value": "random"}],
        )
    if job.num_class_weights not in (None, dataset.num_classes):
        yield ValidationIssue(
            pointer="/training/class_weights",
            code="classes_mismatch",
            detail=f"there are {job.num_class_weights} class weights for a data set of "
            f"{dataset.num_classes} classes; give one each, or `balanced`",
        )
    if job.student_channels and job.student_channels != _rule_from(dataset):
        yield _unneeded_rule_issue("/student/channels", job.student_channels, dataset)


def _size_issues(
    pointer: str, architecture: str, dataset: DatasetFacts
) -> Iterator[ValidationIssue]:
    entry = architectures().get(architecture)
    if entry and dataset.image_size < entry.min_input_size:
        yield ValidationIssue(
            pointer=pointer,
            code="input_too_small",
            detail=f"{entry.name} needs images of {entry.min_input_size} pixels or more, "
            f"the data set has {dataset.image_size}",
        )


def _derivation_issues(teacher: str, dataset: DatasetFacts) -> Iterator[ValidationIssue]:
    if teacher not in architectures():
        yield ValidationIssue(
            pointer="/student/derive",
            code="derived_twice",
            detail=f"the teacher is {teacher}, which is derived itself; derive from a teacher of "
            "the catalog's architectures, or name the student's",
        )
    yield from _size_issues("/student/derive", teacher, dataset)


def _teacher_issues(
    position: int, job_teacher: PartialTeacher, teacher: ModelFacts, dataset: DatasetFacts
) -> Iterator[ValidationIssue]:
    prefix = f"/teachers/{position}"
    if job_teacher.class_map is not None:
        yield from _class_map_issues(f"{prefix}/class_map", job_teacher.class_map, teacher, dataset)
    elif teacher.num_classes != dataset.num_classes:
        yield ValidationIssue(
            pointer=f"{prefix}/model",
            code="classes_mismatch",
            detail=f"the teacher knows {teacher.num_classes} classes, the data set has "
            f"{dataset.num_classes}; choose a teacher of the same classes, or give a class_map",
        )
    rule = channel_rule(dataset.in_channels, teacher.in_channels)
    if job_teacher.channels != rule and rule is not None:
        yield ValidationIssue(
            pointer=f"{prefix}/model",
            code="channels_mismatch",
            detail=f"the teacher takes {teacher.in_channels} channels, the images have "
            f"{dataset.in_channels}; choose a teacher for such images, or set channels to {rule}",
            fix=[{"op": "add", "path": f"{prefix}/channels", "value": rule}],
        )
    elif job_teacher.channels and job_teacher.channels != rule:
        yield _unneeded_rule_issue(f"{prefix}/channels", job_teacher.channels, dataset)


def _class_map_issues(
    pointer: str, class_map: tuple[int, ...], teacher: ModelFacts, dataset: DatasetFacts
) -> Iterator[ValidationIssue]:
    if len(class_map) != dataset.num_classes:
        yield ValidationIssue(
            pointer=pointer,
            code="classes_mismatch",
            detail=f"names {len(class_map)} of the teacher's classes for the data set's "
            f"{dataset.num_classes}; give one for each, in the data set's order",
        )
    elif max(class_map) >= teacher.num_classes or len(set(class_map)) < len(class_map):
        yield ValidationIssue(
            pointer=pointer,
            code="classes_mismatch",
            detail=f"must name different classes from 0 to {teacher.num_classes - 1}",
        )


def _rule_from(dataset: DatasetFacts) -> str:
    return "repeat" if dataset.in_channels == 1 else "luminance"


def _unneeded_rule_issue(pointer: str, rule: str, dataset: DatasetFacts) -> ValidationIssue:
    return ValidationIssue(
        pointer=pointer,
        code="channels_mismatch",
        detail=f"{rule} does not lead from images of {dataset.in_channels} channels to this "
        "network: leave it out",
        fix=[{"op": "remove", "path": pointer}],
    )


def _init_issues(
    job: PartialJob, init: ModelFacts | None, dataset: DatasetFacts
) -> list[ValidationIssue]:
    if init is None:
        return []
    # By rule the student's network is of other channels than the images.
    channels = dataset.in_channels if job.student_channels is None else 4 - dataset.in_channels
    # What a derived student's network is shows when it is resolved.
    name = init.architecture if job.derive else job.architecture
    expected = (name, dataset.num_classes, channels)
    if (init.architecture, init.num_classes, init.in_channels) == expected:
        return []
    return [
        ValidationIssue(
            pointer="/student/init",
            code="init_mismatch",
            detail=f"the model is {init.architecture} with {init.num_classes} classes and "
            f"{init.in_channels} channels; the student is {expected[0]} with {expected[1]} classes "
            f"and {expected[2]} channels",
        )
    ]
