"""Load the data set, the teachers and the initial weights of a job, and check the teachers."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdcore.data import dataset
from kdcore.data.rng import derive_key
from kdcore.models.factory import select_classes
from kdcore.models.normalized_model import normalization_for_channels
from kdcore.models.teachers import TeacherEnsemble, load_model
from kdcore.protocol.requests import CheckpointFile, ModelFile, RunRequest
from kdcore.runtime.errors import UserError
from kdcore.runtime.files import sha256_of
from kdcore.schema.catalog import Normalization
from kdcore.schema.job import network_channels
from kdcore.schema.validation.class_matching import ClassMap, class_warning
from kdcore.schemes.base import STUDENT_ROLES
from kdcore.training.checkpoint import load_checkpoint
from kdcore.training.context import JobContext
from kdcore.training.run_state import RunState
from kdcore.training.teacher_gate import is_file_order_known, validate_teachers

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
    warnings = _class_warnings(request, run_state, data)
    validation = validate_teachers(request, run_state, data, teachers, log_top1=log_top1)
    return JobContext(
        job=request.job,
        dataset=data,
        teachers=teachers,
        normalization=initial.normalization,
        init_weights=initial.weights,
        input_size=initial.input_size,
        dataset_sha256=request.dataset.sha256,
        warnings=(*warnings, *validation.warnings),
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
        weights = load_model(request.init, "student_incompatible").state_dict()
        input_size = request.init.input_size
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


def _class_warnings(
    request: RunRequest, run_state: RunState, data: dataset.MappedDataset
) -> tuple[str, ...]:
    """Log and return a sentence for each model whose class names differ from the data set's."""
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
