"""Rules between a job and what it refers to: classes, channels, image size, methods."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from kdcore.schema.asset_info import DatasetFacts, ModelFacts
from kdcore.schema.augmentation import as_augmentations
from kdcore.schema.catalog import PROGRAM_FORMATS, architectures
from kdcore.schema.job import BUILT_IN_INITS, Student, Teacher, channel_rule
from kdcore.schema.schemes import SchemeNetworks
from kdcore.schema.validation.class_matching import list_names, match_classes
from kdcore.schema.validation.cross_field import Job, intact_methods
from kdcore.schema.validation.errors import ValidationIssue
from kdcore.schema.validation.method_compatibility import (
    TAPS_REQUIRED,
    TeacherStudentPair,
    find_incompatibility,
)


class JobAssets(NamedTuple):
    """The data set and the models that a job refers to. None for a model that is not usable."""

    dataset: DatasetFacts
    teachers: tuple[ModelFacts | None, ...] = ()
    """One for each teacher of the job."""
    init: ModelFacts | None = None
    """The model that the student starts from."""
    model: ModelFacts | None = None
    """The model that an evaluation measures."""

    @property
    def first_teacher(self) -> str | None:
        """Architecture of the first teacher."""
        first = self.teachers[0] if self.teachers else None
        return None if first is None else first.architecture


class CompatibilityRule(NamedTuple):
    """What must hold between fields of a job and its assets."""

    reads: tuple[str, ...]
    """Pointers of the fields it reads: the rule is skipped where one of them is invalid."""
    issues: Callable[[Job, JobAssets], Iterator[ValidationIssue]]


def teacher_student_pair(job: Job, assets: JobAssets) -> TeacherStudentPair:
    """What decides which methods are compatible with this job."""
    spec, scheme = job.spec, job.spec.scheme
    student = spec.student or Student()
    images = assets.dataset.num_train + assets.dataset.num_unlabeled
    augmentations = as_augmentations(spec.training.augmentation)
    name = assets.first_teacher if student.derive else student.architecture
    return TeacherStudentPair(
        # A network from a file has its own issue as a student.
        student=None if name in PROGRAM_FORMATS else name,
        # A teacher that is not usable has its own issue but still counts as a teacher.
        teachers=tuple("" if facts is None else facts.architecture for facts in assets.teachers),
        scheme_architectures=scheme.networks,
        teacher_required=scheme.teacher == "required",
        augmentations=tuple(augmentation.type for augmentation in augmentations),
        num_student_taps=len(student.taps or ()),
        num_teacher_taps=tuple(len(teacher.taps or ()) for teacher in spec.teachers),
        teachers_meet_student=scheme.teachers_meet_student,
        batch_size=min(spec.training.batch_size, images),
    )


def _method_issues(job: Job, assets: JobAssets) -> Iterator[ValidationIssue]:
    pair = teacher_student_pair(job, assets)
    for pointer, method in intact_methods(job):
        incompatibility = find_incompatibility(method.type, pair)
        # A rule between fields reports a missing teacher, once for all methods.
        if incompatibility is not None and incompatibility.code != "teacher_required":
            yield ValidationIssue(
                pointer=_taps_pointer(job, assets)
                if incompatibility.code == TAPS_REQUIRED
                else pointer,
                code=incompatibility.code,
                detail=f"method {method.type} is incompatible with this job: "
                f"{incompatibility.reason}; {incompatibility.help}",
            )


def _taps_pointer(job: Job, assets: JobAssets) -> str:
    """The field of the first teacher from a file that names none of its outputs."""
    position = next(
        position
        for position, (teacher, facts) in enumerate(
            zip(job.spec.teachers, assets.teachers, strict=True)
        )
        if facts is not None and facts.architecture in PROGRAM_FORMATS and not teacher.taps
    )
    return f"/teachers/{job.index('/teachers', position)}/taps"


def _scheme_issues(job: Job, assets: JobAssets) -> Iterator[ValidationIssue]:
    student, scheme = job.spec.student or Student(), job.spec.scheme
    if scheme.networks_field and not job.is_intact(f"/scheme/{scheme.networks_field}"):
        return
    yield from scheme.issues(
        SchemeNetworks(
            student=student.architecture,
            teacher=assets.first_teacher,
            methods=tuple(method.type for _, method in intact_methods(job)),
            student_is_derived=student.derive is not None,
            student_has_taps=student.taps is not None,
        )
    )


def _scheme_network_issues(job: Job, assets: JobAssets) -> Iterator[ValidationIssue]:
    scheme = job.spec.scheme
    for position, name in enumerate(scheme.networks):
        list_pointer = f"/scheme/{scheme.networks_field}"
        pointer = f"{list_pointer}/{job.index(list_pointer, position)}"
        yield from _size_issues(pointer, name, assets.dataset)


def _model_issues(job: Job, assets: JobAssets) -> Iterator[ValidationIssue]:
    model, dataset = assets.model, assets.dataset
    if model is not None and not has_classes(model, dataset):
        yield ValidationIssue(
            pointer="/model",
            code="classes_mismatch",
            detail=f"the model has {model.num_classes} classes, the data set {dataset.num_classes}"
            f"{_missing_names(model, dataset)}: choose a model that has the data set's classes",
        )


def _num_classes_issues(job: Job, assets: JobAssets) -> Iterator[ValidationIssue]:
    num_classes = (job.spec.student or Student()).num_classes
    if num_classes not in (None, assets.dataset.num_classes):
        pointer = "/student/num_classes"
        yield ValidationIssue(
            pointer=pointer,
            code="classes_mismatch",
            detail=f"the data set has {assets.dataset.num_classes} classes, and num_classes is "
            f"{num_classes}: leave num_classes out",
            fix=[{"op": "replace", "path": pointer, "value": assets.dataset.num_classes}],
        )


def _student_size_issues(job: Job, assets: JobAssets) -> Iterator[ValidationIssue]:
    student = job.spec.student or Student()
    yield from _size_issues("/student/architecture", student.architecture, assets.dataset)


def _pretrained_issues(job: Job, assets: JobAssets) -> Iterator[ValidationIssue]:
    student = job.spec.student or Student()
    entry = architectures().get(student.architecture or "")
    if student.init == "pretrained" and (student.derive or (entry and not entry.pretrained)):
        yield ValidationIssue(
            pointer="/student/init",
            code="no_pretrained_weights",
            detail="no pretrained weights are available for this network: set init to random, or "
            "to the id of a model",
            fix=[{"op": "replace", "path": "/student/init", "value": "random"}],
        )


def _class_weights_issues(job: Job, assets: JobAssets) -> Iterator[ValidationIssue]:
    weights, num_classes = job.spec.training.class_weights, assets.dataset.num_classes
    if isinstance(weights, tuple) and len(weights) != num_classes:
        yield ValidationIssue(
            pointer="/training/class_weights",
            code="classes_mismatch",
            detail=f"the job has {len(weights)} class weights, and the data set {num_classes} "
            "classes: give one weight for each class, or `balanced`",
        )


def _student_channels_issues(job: Job, assets: JobAssets) -> Iterator[ValidationIssue]:
    rule = (job.spec.student or Student()).channels
    expected = "repeat" if assets.dataset.in_channels == 1 else "luminance"
    if rule is not None and rule != expected:
        yield _channel_rule_issue("/student/channels", rule, assets.dataset)


def _size_issues(
    pointer: str, architecture: str | None, dataset: DatasetFacts
) -> Iterator[ValidationIssue]:
    entry = architectures().get(architecture or "")
    if entry and dataset.image_size < entry.min_input_size:
        yield ValidationIssue(
            pointer=pointer,
            code="input_too_small",
            detail=f"{entry.name} needs images of {entry.min_input_size} pixels or more, and the "
            f"data set has {dataset.image_size}: choose another architecture, or larger images",
        )


def _derivation_issues(job: Job, assets: JobAssets) -> Iterator[ValidationIssue]:
    teacher = assets.first_teacher
    if teacher is None or not (job.spec.student or Student()).derive:
        return
    if teacher in PROGRAM_FORMATS:
        yield ValidationIssue(
            pointer="/student/derive",
            code="program_as_student",
            detail=f"the teacher is a network from a file ({teacher}), which is never trained or "
            "changed: name the student's architecture",
        )
    elif teacher not in architectures():
        yield ValidationIssue(
            pointer="/student/derive",
            code="derived_twice",
            detail=f"the teacher is {teacher}, which is derived itself: choose a teacher of a "
            "catalog architecture, or name the student's architecture",
        )
    yield from _size_issues("/student/derive", teacher, assets.dataset)


def _teacher_issues(job: Job, assets: JobAssets) -> Iterator[ValidationIssue]:
    for position, (teacher, facts) in enumerate(
        zip(job.spec.teachers, assets.teachers, strict=True)
    ):
        prefix = f"/teachers/{job.index('/teachers', position)}"
        if facts is not None and job.is_intact(f"{prefix}/class_map"):
            yield from _class_issues(prefix, teacher, facts, assets.dataset)
        if facts is not None and job.is_intact(f"{prefix}/channels"):
            yield from _channel_issues(prefix, teacher, facts, assets.dataset)
        if facts is not None and job.is_intact(f"{prefix}/taps"):
            yield from _output_issues(prefix, teacher, facts)


def _output_issues(prefix: str, teacher: Teacher, facts: ModelFacts) -> Iterator[ValidationIssue]:
    """Issues of outputs that a teacher from a file does not have, or that are no maps."""
    if facts.outputs is None:
        return
    maps = [name for name, shape in facts.outputs.items() if len(shape) == 3]
    listed = f"its maps are: {', '.join(maps[:20])}" if maps else "it has none: leave taps out"
    for position, name in enumerate(teacher.taps or ()):
        if name in maps:
            continue
        shape = facts.outputs.get(name)
        actual = "has no such output" if shape is None else f"has it with shape {list(shape)}"
        yield ValidationIssue(
            pointer=f"{prefix}/taps/{position}",
            code="no_such_output",
            detail=f"taps of a teacher from a file name its outputs of shape (channels, height, "
            f"width) for one image, and it {actual}; {listed}",
        )


def _precision_issues(job: Job, assets: JobAssets) -> Iterator[ValidationIssue]:
    formats = [facts.architecture for facts in assets.teachers if facts is not None]
    if job.spec.training.teacher_precision == "int8" and set(formats) & set(PROGRAM_FORMATS):
        yield ValidationIssue(
            pointer="/training/teacher_precision",
            code="int8_unavailable",
            detail="a teacher from a file runs as the file says and is not quantized: choose same "
            "or auto",
            fix=[{"op": "replace", "path": "/training/teacher_precision", "value": "auto"}],
        )


def _class_issues(
    prefix: str, teacher: Teacher, facts: ModelFacts, dataset: DatasetFacts
) -> Iterator[ValidationIssue]:
    class_map = teacher.class_map
    if class_map is None:
        if has_classes(facts, dataset):
            return
        pointer, detail = (
            f"{prefix}/{teacher.reference_field}",
            (
                f"the teacher has {facts.num_classes} classes, the data set {dataset.num_classes}"
                f"{_missing_names(facts, dataset)}: choose a teacher that has these classes, or "
                "add a class_map"
            ),
        )
    elif len(class_map) != dataset.num_classes:
        pointer, detail = (
            f"{prefix}/class_map",
            (
                f"class_map names {len(class_map)} classes of the teacher, and the data set has "
                f"{dataset.num_classes}: name one for each, in the data set's order"
            ),
        )
    elif max(class_map) >= facts.num_classes or len(set(class_map)) < len(class_map):
        pointer, detail = (
            f"{prefix}/class_map",
            (f"class_map must name different classes from 0 to {facts.num_classes - 1}"),
        )
    else:
        return
    yield ValidationIssue(pointer=pointer, code="classes_mismatch", detail=detail)


def has_classes(model: ModelFacts, dataset: DatasetFacts) -> bool:
    """Whether the model has as many classes as the data set, or all of them by name."""
    match = match_classes(dataset.classes, model.class_names, model.num_classes)
    return model.num_classes == dataset.num_classes or (match is not None and match.is_complete)


def _missing_names(model: ModelFacts, dataset: DatasetFacts) -> str:
    match = match_classes(dataset.classes, model.class_names, model.num_classes)
    return "" if match is None else f", and it has none named {list_names(match.unmatched)}"


def _channel_issues(
    prefix: str, teacher: Teacher, facts: ModelFacts, dataset: DatasetFacts
) -> Iterator[ValidationIssue]:
    rule = channel_rule(dataset.in_channels, facts.in_channels)
    if teacher.channels == rule:
        return
    if rule is not None:
        yield ValidationIssue(
            pointer=f"{prefix}/{teacher.reference_field}",
            code="channels_mismatch",
            detail=f"the teacher takes {facts.in_channels} channels, the images have "
            f"{dataset.in_channels}: choose a teacher for such images, or set channels to {rule}",
            fix=[{"op": "add", "path": f"{prefix}/channels", "value": rule}],
        )
    elif teacher.channels is not None:
        yield _channel_rule_issue(f"{prefix}/channels", teacher.channels, dataset)


def _channel_rule_issue(pointer: str, rule: str, dataset: DatasetFacts) -> ValidationIssue:
    return ValidationIssue(
        pointer=pointer,
        code="channels_mismatch",
        detail=f"{rule} does not convert images of {dataset.in_channels} channels to the channels "
        "of this network: leave it out",
        fix=[{"op": "remove", "path": pointer}],
    )


def _init_issues(job: Job, assets: JobAssets) -> Iterator[ValidationIssue]:
    init, dataset, student = assets.init, assets.dataset, job.spec.student or Student()
    if init is None or not (student.derive or student.architecture):
        return
    if init.architecture in PROGRAM_FORMATS:
        yield ValidationIssue(
            pointer="/student/init",
            code="program_as_student",
            detail=f"the model is a network from a file ({init.architecture}), which teaches and "
            "is never trained: choose a model of the student's architecture, or random",
            fix=[{"op": "replace", "path": "/student/init", "value": "random"}],
        )
        return
    # A rule changes the network's channels from 1 to 3, or from 3 to 1.
    channels = dataset.in_channels if student.channels is None else 4 - dataset.in_channels
    # The network of a derived student is known only after the job is resolved.
    name = init.architecture if student.derive else student.architecture
    expected = (name, dataset.num_classes, channels)
    num_classes = dataset.num_classes if has_classes(init, dataset) else init.num_classes
    if (init.architecture, num_classes, init.in_channels) != expected:
        yield ValidationIssue(
            pointer="/from" if student.init in BUILT_IN_INITS else "/student/init",
            code="init_mismatch",
            detail=f"the model is {init.architecture} with {init.num_classes} classes and "
            f"{init.in_channels} channels, the student is {expected[0]} with {expected[1]} classes "
            f"and {expected[2]} channels: choose a model of the student's network",
        )


COMPATIBILITY_RULES = (
    CompatibilityRule(("/student/num_classes",), _num_classes_issues),
    CompatibilityRule(("/student/architecture",), _student_size_issues),
    CompatibilityRule(
        ("/student/init", "/student/derive", "/student/architecture"), _pretrained_issues
    ),
    CompatibilityRule(("/training/class_weights",), _class_weights_issues),
    CompatibilityRule(("/student/channels",), _student_channels_issues),
    CompatibilityRule(
        ("/student/architecture", "/student/derive", "/student/channels"), _init_issues
    ),
    CompatibilityRule(("/student/derive",), _derivation_issues),
    CompatibilityRule(("/model",), _model_issues),
    CompatibilityRule((), _teacher_issues),
    CompatibilityRule(("/training/teacher_precision",), _precision_issues),
    CompatibilityRule(("/student/taps",), _method_issues),
    CompatibilityRule(("/scheme",), _scheme_issues),
    CompatibilityRule(("/scheme",), _scheme_network_issues),
)
