"""Whether the parts of a job fit each other: classes, channels, image size, methods.

Works on what a request refers to, not on a whole valid request: a misfit is told in the same answer
as a temperature of 0.
"""

from collections.abc import Iterator, Sequence

from kdcore.schema.assistant_selection import propose
from kdcore.schema.catalog import architectures
from kdcore.schema.job import rule_between
from kdcore.schema.methods import METHODS
from kdcore.schema.schemes import SCHEMES
from kdcore.schema.validation.errors import Fault
from kdcore.schema.validation.method_compatibility import Pair, misfit
from kdcore.schema.validation.partial_job import DatasetFacts, ModelFacts, References, TeacherAsked

__all__ = ["DatasetFacts", "ModelFacts", "References", "misfits", "pair_of"]


def misfits(
    asked: References,
    dataset: DatasetFacts,
    teachers: Sequence[ModelFacts | None],
    init: ModelFacts | None,
    model: ModelFacts | None = None,
) -> list[Fault]:
    """Every way in which the student, the teachers and the data set do not fit each other.

    ``model`` is what an evaluation measures.
    """
    faults = [*_student_faults(asked, dataset), *_init_faults(asked, init, dataset)]
    if asked.derive and teachers and teachers[0] is not None:
        faults += _derivation_faults(teachers[0].architecture, dataset)
    faults += _model_faults(model, dataset)
    for position, teacher in enumerate(teachers):
        if teacher is not None:
            faults += _teacher_faults(position, asked.teachers[position], teacher, dataset)
    faults += _method_faults(asked, pair_of(asked, teachers, dataset))
    faults += _assistant_faults(asked, teachers)
    for place, name in enumerate(asked.companions):
        field = "peers" if asked.scheme == "mutual" else "assistants"
        faults += _size_faults(f"/scheme/{field}/{place}", name, dataset)
    return faults


def pair_of(
    asked: References, teachers: Sequence[ModelFacts | None], dataset: DatasetFacts
) -> Pair:
    """What decides which methods fit this job."""
    known = tuple(teacher.architecture for teacher in teachers if teacher is not None)
    # A teacher that was not found is told by itself, and is a teacher all the same.
    names = known + ("",) * (len(asked.teachers) - len(known))
    first = known[0] if known else None
    scheme = SCHEMES.get(asked.scheme or "")
    return Pair(
        student=first if asked.derive else asked.architecture,
        teachers=names,
        companions=asked.companions,
        teacher_required=scheme is None or scheme.teacher == "required",
        augmentations=asked.augmentations,
        student_taps=asked.student_taps,
        teacher_taps=tuple(teacher.taps for teacher in asked.teachers),
        adjacent=asked.scheme != "teacher_assistant",
        batch=_largest_batch(asked, dataset),
    )


def _largest_batch(asked: References, dataset: DatasetFacts) -> int:
    images = dataset.num_train + dataset.num_unlabelled
    return images if asked.batch_size is None else min(asked.batch_size, images)


def _method_faults(asked: References, pair: Pair) -> Iterator[Fault]:
    listed = asked.methods or []
    for position, name in enumerate(listed):
        found = misfit(name, pair) if name in METHODS else None
        # Contradictions tell of a missing teacher, once for all methods.
        if found is not None and found.code != "teacher_required":
            yield Fault(
                pointer="/method" if len(listed) == 1 else f"/method/{position}",
                code=found.code,
                detail=f"{name} does not fit: {found.reason}; {found.help}",
            )


def _assistant_faults(asked: References, teachers: Sequence[ModelFacts | None]) -> Iterator[Fault]:
    known = architectures()
    teacher = teachers[0].architecture if teachers and teachers[0] is not None else ""
    if asked.scheme != "teacher_assistant" or asked.companions or not teacher:
        return
    student = asked.architecture
    if asked.derive or teacher not in known:
        reason = "sizes of derived networks are not known before they are built"
    elif student in known and not propose(teacher, student, 1, asked.methods or ()):
        reason = (
            f"no architecture of the catalogue is between {teacher} and {student} in size and "
            "gives what the methods look at"
        )
    else:
        return
    yield Fault(
        pointer="/scheme/assistants",
        code="no_assistant",
        detail=f"{reason}; name the assistants, or choose offline",
    )


def _model_faults(model: ModelFacts | None, dataset: DatasetFacts) -> Iterator[Fault]:
    if model is None:
        return
    if model.num_classes != dataset.num_classes:
        yield Fault(
            pointer="/model",
            code="classes_mismatch",
            detail=f"the model has {model.num_classes} classes, the data set {dataset.num_classes}",
        )


def _student_faults(asked: References, dataset: DatasetFacts) -> Iterator[Fault]:
    if asked.num_classes not in (None, dataset.num_classes):
        pointer = "/student/num_classes"
        yield Fault(
            pointer=pointer,
            code="classes_mismatch",
            detail=f"the data set has {dataset.num_classes} classes, the student is asked for "
            f"{asked.num_classes}",
            fix=[{"op": "replace", "path": pointer, "value": dataset.num_classes}],
        )
    yield from _size_faults("/student/architecture", asked.architecture or "", dataset)
    entry = architectures().get(asked.architecture or "")
    if asked.pretrained and (asked.derive or (entry and not entry.pretrained)):
        yield Fault(
            pointer="/student/init",
            code="no_published_weights",
            detail="nobody publishes weights of this network; leave init out, or name a model to "
            "start from",
            fix=[{"op": "replace", "path": "/student/init", "value": "random"}],
        )
    if asked.class_weights not in (None, dataset.num_classes):
        yield Fault(
            pointer="/training/class_weights",
            code="classes_mismatch",
            detail=f"there are {asked.class_weights} class weights for a data set of "
            f"{dataset.num_classes} classes; give one each, or `balanced`",
        )
    if asked.student_channels and asked.student_channels != _rule_from(dataset):
        yield _useless_rule("/student/channels", asked.student_channels, dataset)


def _size_faults(pointer: str, architecture: str, dataset: DatasetFacts) -> Iterator[Fault]:
    entry = architectures().get(architecture)
    if entry and dataset.image_size < entry.min_input_size:
        yield Fault(
            pointer=pointer,
            code="input_too_small",
            detail=f"{entry.name} needs images of {entry.min_input_size} pixels or more, "
            f"the data set has {dataset.image_size}",
        )


def _derivation_faults(teacher: str, dataset: DatasetFacts) -> Iterator[Fault]:
    if teacher not in architectures():
        yield Fault(
            pointer="/student/derive",
            code="derived_twice",
            detail=f"the teacher is {teacher}, which is derived itself; derive from a teacher of "
            "the catalogue's architectures, or name the student's",
        )
    yield from _size_faults("/student/derive", teacher, dataset)


def _teacher_faults(
    position: int, asked: TeacherAsked, teacher: ModelFacts, dataset: DatasetFacts
) -> Iterator[Fault]:
    here = f"/teachers/{position}"
    if asked.class_map is not None:
        yield from _class_map_faults(f"{here}/class_map", asked.class_map, teacher, dataset)
    elif teacher.num_classes != dataset.num_classes:
        yield Fault(
            pointer=f"{here}/model",
            code="classes_mismatch",
            detail=f"the teacher knows {teacher.num_classes} classes, the data set has "
            f"{dataset.num_classes}; choose a teacher of the same classes, or give a class_map",
        )
    rule = rule_between(dataset.in_channels, teacher.in_channels)
    if asked.channels != rule and rule is not None:
        yield Fault(
            pointer=f"{here}/model",
            code="channels_mismatch",
            detail=f"the teacher takes {teacher.in_channels} channels, the images have "
            f"{dataset.in_channels}; choose a teacher for such images, or set channels to {rule}",
            fix=[{"op": "add", "path": f"{here}/channels", "value": rule}],
        )
    elif asked.channels and asked.channels != rule:
        yield _useless_rule(f"{here}/channels", asked.channels, dataset)


def _class_map_faults(
    pointer: str, class_map: tuple[int, ...], teacher: ModelFacts, dataset: DatasetFacts
) -> Iterator[Fault]:
    if len(class_map) != dataset.num_classes:
        yield Fault(
            pointer=pointer,
            code="classes_mismatch",
            detail=f"names {len(class_map)} of the teacher's classes for the data set's "
            f"{dataset.num_classes}; give one for each, in the data set's order",
        )
    elif max(class_map) >= teacher.num_classes or len(set(class_map)) < len(class_map):
        yield Fault(
            pointer=pointer,
            code="classes_mismatch",
            detail=f"must name different classes from 0 to {teacher.num_classes - 1}",
        )


def _rule_from(dataset: DatasetFacts) -> str:
    return "repeat" if dataset.in_channels == 1 else "luminance"


def _useless_rule(pointer: str, rule: str, dataset: DatasetFacts) -> Fault:
    return Fault(
        pointer=pointer,
        code="channels_mismatch",
        detail=f"{rule} does not lead from images of {dataset.in_channels} channels to this "
        "network: leave it out",
        fix=[{"op": "remove", "path": pointer}],
    )


def _init_faults(asked: References, init: ModelFacts | None, dataset: DatasetFacts) -> list[Fault]:
    if init is None:
        return []
    # By rule the student's network is of other channels than the images.
    channels = dataset.in_channels if asked.student_channels is None else 4 - dataset.in_channels
    # What a derived student's network is shows when it is resolved.
    name = init.architecture if asked.derive else asked.architecture
    wanted = (name, dataset.num_classes, channels)
    if (init.architecture, init.num_classes, init.in_channels) == wanted:
        return []
    return [
        Fault(
            pointer="/student/init",
            code="init_mismatch",
            detail=f"the model is {init.architecture} with {init.num_classes} classes and "
            f"{init.in_channels} channels; the student is {wanted[0]} with {wanted[1]} classes "
            f"and {wanted[2]} channels",
        )
    ]
