"""Load the data set, the teachers and the initial weights of a job, and check the teachers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdcore.data import dataset
from kdcore.data.dataset import MappedDataset
from kdcore.data.rng import derive_key
from kdcore.evaluation import plausibility
from kdcore.evaluation.class_order import LikelyOrder, find_likely_order
from kdcore.evaluation.normalization_check import (
    PreprocessingTrials,
    describe_candidates,
    find_wrong_normalization,
)
from kdcore.models.factory import select_classes
from kdcore.models.normalized_model import normalization_for_channels
from kdcore.models.programs.program_network import ProgramNetwork
from kdcore.models.teachers import TeacherEnsemble, load_model
from kdcore.protocol.requests import CheckpointFile, ModelFile, RunRequest, TeacherFile
from kdcore.runtime.atomic_files import sha256_of
from kdcore.runtime.errors import UserError
from kdcore.schema.catalog import Normalization
from kdcore.schema.defaults import input_size_warning
from kdcore.schema.job import network_channels
from kdcore.schema.report import Finding
from kdcore.schema.validation.class_matching import ClassMap, class_warning, is_order_known
from kdcore.schemes.base import STUDENT_ROLES
from kdcore.training.checkpoint import load_checkpoint
from kdcore.training.context import JobContext
from kdcore.training.run_state import RunState

_CLASSIFIER_STREAM = 8
"""RNG stream for a classifier that pretrained weights lack."""
WeightsDict = dict[str, Tensor]


class InitialWeights(NamedTuple):
    """Initial weights of the student and the preprocessing that they were trained with."""

    weights: WeightsDict | None
    """None means random weights."""
    normalization: Normalization
    input_size: int | None = None
    """Input side in pixels, if it differs from the data set's."""
    program: ProgramNetwork | None = None
    """The network to evaluate, if a file defines it."""


def load_inputs(
    request: RunRequest, run_state: RunState, workdir: Path, *, log_top1: bool
) -> JobContext:
    """Open the data set and the models, and check that the teachers beat chance.

    ``log_top1`` emits the teachers' validation top-1, which a resumed run has emitted before.
    Raises ``UserError`` for files that do not match their digests, and for useless teachers.
    """
    data = dataset.load_dataset(Path(request.dataset.path))
    if sha256_of(Path(request.dataset.path)) != request.dataset.sha256:
        raise UserError(
            "dataset_invalid", "the data set file differs from the ingested one (digest mismatch)"
        )
    teachers = TeacherEnsemble.from_files(request.teachers, run_state.compute_env.device)
    initial = _select_classes(_initial_weights(request, data, workdir), request, data)
    warnings = _model_warnings(request, run_state, data)
    validation = validate_teachers(request, run_state, data, teachers, log_top1=log_top1)
    return JobContext(
        job=request.job,
        dataset=data,
        teachers=teachers,
        normalization=initial.normalization,
        init_weights=initial.weights,
        input_size=initial.input_size,
        evaluated_program=initial.program,
        dataset_sha256=request.dataset.sha256,
        warnings=(*warnings, *validation.warnings),
        teacher_findings=validation.findings,
        normalization_declared=request.init is None or request.init.normalization_declared,
        is_order_known=is_file_order_known(data, request.init, request.job.student.class_map),
        cache_folder=(
            Path(request.teacher_cache_dir)
            if request.teacher_cache_dir
            else workdir / "teacher_cache"
        ),
        teacher_val_logits=validation.logits,
    )


def _initial_weights(
    request: RunRequest, data: dataset.MappedDataset, workdir: Path
) -> InitialWeights:
    student = request.job.student
    default_normalization = normalization_for_channels(data.info.normalization, student.channels)
    if request.init is not None:
        network = load_model(request.init, "student_incompatible")
        input_size = request.init.input_size
        if isinstance(network, ProgramNetwork):
            return InitialWeights(None, request.init.normalization, input_size, network)
        weights = network.state_dict()
        # A student trains at the data set's size; a model that is only evaluated keeps its size.
        only_evaluates = not request.job.trains and input_size != data.info.image_size
        return InitialWeights(
            weights, request.init.normalization, input_size if only_evaluates else None
        )
    if request.continue_from is not None:
        return _weights_from_checkpoint(request.continue_from)
    if student.init == "pretrained":
        from kdcore.models.pretrained import load_pretrained  # loads torchvision and timm

        # A classifier for other classes has random weights, equal for equal jobs.
        torch.manual_seed(derive_key(request.job.seed, _CLASSIFIER_STREAM))
        pretrained_model = load_pretrained(
            student.architecture,
            num_classes=len(data.info.classes),
            in_channels=network_channels(student.channels, data.info.in_channels),
            input_size=data.info.image_size,
        )
        return InitialWeights(pretrained_model.weights, pretrained_model.normalization)
    return InitialWeights(None, default_normalization)


def _select_classes(
    initial: InitialWeights, request: RunRequest, data: dataset.MappedDataset
) -> InitialWeights:
    """Put the classes of the initial weights into the data set's order."""
    student = request.job.student
    if initial.weights is None or student.class_map is None:
        return initial
    weights = select_classes(
        initial.weights,
        student.class_map,
        student.network,
        in_channels=network_channels(student.channels, data.info.in_channels),
        input_size=initial.input_size or data.info.image_size,
    )
    return initial._replace(weights=weights)


def _model_warnings(
    request: RunRequest, run_state: RunState, data: dataset.MappedDataset
) -> tuple[str, ...]:
    """Log and return a sentence for each model whose classes or input size may be wrong."""
    classes, student = data.info.classes, request.job.student
    noun = "model" if request.job.kind == "evaluate" else "student's initial model"
    models: list[tuple[str, ModelFile, ClassMap | None]] = [
        ("teacher", file, file.class_map) for file in request.teachers
    ]
    if request.init is not None:
        models.append((noun, request.init, student.class_map))
    sentences = [
        class_warning(noun, classes, file.class_names, file.num_classes, class_map)
        for noun, file, class_map in models
    ]
    sentences += [
        _size_warning(noun, file, data)
        for noun, file, _ in models
        # A student trains at the data set's size, whatever its initial weights have.
        if isinstance(file, TeacherFile) or not request.job.trains
    ]
    warnings = tuple(sentence for sentence in sentences if sentence is not None)
    for warning in warnings:
        run_state.events.log("warning", warning)
    return warnings


def _weights_from_checkpoint(file: CheckpointFile) -> InitialWeights:
    """The first seed's student in an earlier job's checkpoint: in training, or else trained.

    Raises ``UserError`` for a checkpoint that precedes the student, for instance of an assistant.
    """
    path = Path(file.path)
    if not path.is_file() or sha256_of(path) != file.sha256:
        raise UserError(
            "checkpoint_invalid",
            "the checkpoint of the earlier job is missing or corrupt (digest mismatch)",
        )
    state = load_checkpoint(path)
    normalization = Normalization.model_validate(state["normalization"])
    current = state["current"]
    if current is not None and _is_student(current):
        return InitialWeights(current["student_group"]["students"][0]["network"], normalization)
    finished = [result for result in state["results"] if _is_student(result)]
    if not finished:
        raise UserError(
            "checkpoint_invalid",
            "the checkpoint of the earlier job was written before its student's training",
            hint="Continue from a later checkpoint, or from the best one.",
        )
    # There are several only if the scheme has rounds.
    best = max(finished, key=lambda result: float(result["best_val_top1"]))
    return InitialWeights(best["weights"], normalization)


def _is_student(part: dict[str, Any]) -> bool:
    return part["seed_index"] == 0 and part["role"] in STUDENT_ROLES


@dataclass(frozen=True)
class TeacherValidation:
    """What the validation images show about the teachers."""

    logits: Tensor | None = None
    """The teachers' mean logits (N, C); None without teachers."""
    warnings: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    """Measured faults, which the verdict reports."""


def validate_teachers(
    request: RunRequest,
    run_state: RunState,
    data: MappedDataset,
    teachers: TeacherEnsemble,
    *,
    log_top1: bool,
) -> TeacherValidation:
    """Measure the teachers on the validation split, log warnings, and refuse useless teachers.

    ``log_top1`` emits the top-1 of the ensemble. Raises ``UserError``.
    """
    if not teachers.networks:
        return TeacherValidation()
    target = data.targets("val")
    teacher_logits = teachers.logits(
        data.images("val"),
        device=run_state.compute_env.device,
        check_cancelled=run_state.check_cancelled,
        autocast=run_state.compute_env.autocast(),
    )
    mean_logits = teachers.mean(teacher_logits)
    if log_top1:
        top1 = plausibility.count_correct(mean_logits, target).top1
        run_state.events.metrics(0, 0.0, {"teacher/top1": top1}, wall_s=0.0)
    results = [plausibility.count_correct(logits, target) for logits in teacher_logits]
    orders = _likely_orders(request, data, teacher_logits)
    names = [_name(file) for file in request.teachers]
    preprocessing = _check_preprocessing(request, run_state, data, teachers, results)
    reported = _reported_top1_warnings(request, names, results)
    warnings = (
        *plausibility.check_teachers(names, results, orders, preprocessing.sentences, reported),
        *preprocessing.warnings,
        *reported,
    )
    findings = tuple(preprocessing.findings)
    for warning in (*warnings, *(finding.sentence for finding in findings)):
        run_state.events.log("warning", warning)
    return TeacherValidation(mean_logits, warnings, findings)


def _reported_top1_warnings(
    request: RunRequest, names: Sequence[str], results: Sequence[plausibility.ChanceTest]
) -> list[str]:
    return [
        warning
        for name, result, file in zip(names, results, request.teachers, strict=True)
        if (warning := plausibility.reported_top1_warning(name, result, file.reported_top1))
    ]


def is_file_order_known(
    data: MappedDataset, file: ModelFile | None, class_map: ClassMap | None
) -> bool:
    """Whether names or a class map decide the order of a file's classes; True without a file."""
    return file is None or is_order_known(
        data.info.classes, file.class_names, file.num_classes, class_map
    )


def _likely_orders(
    request: RunRequest, data: MappedDataset, teacher_logits: Sequence[Tensor]
) -> dict[int, LikelyOrder]:
    """Return the likelier orders of teachers without a known order of classes, by their index."""
    target, classes = data.targets("val"), data.info.classes
    return {
        index: order
        for index, (file, logits) in enumerate(zip(request.teachers, teacher_logits, strict=True))
        if not is_file_order_known(data, file, file.class_map)
        and (order := find_likely_order(logits, target, classes)) is not None
    }


class _PreprocessingCheck(NamedTuple):
    """What trials with other normalizations and input sizes show about the teachers."""

    sentences: list[str]
    """Everything that was measured or assumed, for the hint of a refusal."""
    warnings: list[str]
    """The part of ``sentences`` that no finding repeats."""
    findings: list[Finding]


def _check_preprocessing(
    request: RunRequest,
    run_state: RunState,
    data: MappedDataset,
    teachers: TeacherEnsemble,
    results: Sequence[plausibility.ChanceTest],
) -> _PreprocessingCheck:
    """Try the usual preprocessing for teachers whose normalization or size is not declared."""
    check = _PreprocessingCheck([], [], [])
    for file, network, result in zip(request.teachers, teachers.networks, results, strict=True):
        noun = f"teacher {_name(file)}"
        trials = PreprocessingTrials(
            network,
            normalization_for_channels(data.info.normalization, file.channels),
            data.images("val"),
            data.targets("val"),
            run_state.check_cancelled,
        )
        if not file.normalization_declared:
            candidates = trials.compare_normalizations()
            finding = find_wrong_normalization(noun, candidates)
            check.sentences.append(describe_candidates(noun, candidates))
            if finding is None:
                check.warnings.append(check.sentences[-1])
            else:
                check.findings.append(finding)
        size_warning = _size_warning(noun, file, data)
        if size_warning is not None and result.is_chance_level:
            other_size = trials.describe_input_size(data.info.image_size)
            check.sentences.append(". ".join(filter(None, (size_warning, other_size))))
    return check


def _size_warning(noun: str, file: ModelFile, data: MappedDataset) -> str | None:
    size = None if file.input_size_declared else file.input_size
    return input_size_warning(noun, size, data.info.image_size)


def _name(file: TeacherFile) -> str:
    return f"{file.architecture} ({file.sha256[:12]})"
