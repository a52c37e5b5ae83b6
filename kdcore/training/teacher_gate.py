"""Check the teachers of a job on the validation images, before training."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from kdcore.data.dataset import MappedDataset
from kdcore.evaluation import teacher_check
from kdcore.evaluation.class_order import LikelyOrder, find_likely_order
from kdcore.evaluation.normalization_check import compare_normalizations, describe_candidates
from kdcore.models.normalized_model import normalization_for_channels
from kdcore.models.teachers import TeacherEnsemble
from kdcore.protocol.requests import ModelFile, RunRequest, TeacherFile
from kdcore.schema.validation.class_matching import ClassMap, is_order_known
from kdcore.training.run_state import RunState


@dataclass(frozen=True)
class TeacherValidation:
    """What the validation images show about the teachers."""

    logits: Tensor | None = None
    """The teachers' mean logits (N, C); None without teachers."""
    warnings: tuple[str, ...] = ()


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
        top1 = teacher_check.count_correct(mean_logits, target).top1
        run_state.events.metrics(0, 0.0, {"teacher/top1": top1}, wall_s=0.0)
    results = [teacher_check.count_correct(logits, target) for logits in teacher_logits]
    orders = _likely_orders(request, data, teacher_logits)
    names = [_name(file) for file in request.teachers]
    notes = _normalization_notes(request, run_state, data, teachers)
    notes += filter(
        None,
        (
            teacher_check.reported_top1_warning(name, result, file.reported_top1)
            for name, result, file in zip(names, results, request.teachers, strict=True)
        ),
    )
    warnings = (*teacher_check.check_teachers(names, results, orders, notes), *notes)
    for warning in warnings:
        run_state.events.log("warning", warning)
    return TeacherValidation(mean_logits, warnings)


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


def _normalization_notes(
    request: RunRequest, run_state: RunState, data: MappedDataset, teachers: TeacherEnsemble
) -> list[str]:
    """Return a sentence for each teacher that was uploaded without its normalization."""
    notes = []
    for file, network in zip(request.teachers, teachers.networks, strict=True):
        if file.normalization_declared:
            continue
        candidates = compare_normalizations(
            network,
            normalization_for_channels(data.info.normalization, file.channels),
            data.images("val"),
            data.targets("val"),
            run_state.check_cancelled,
        )
        notes.append(describe_candidates(f"teacher {_name(file)}", candidates))
    return notes


def _name(file: TeacherFile) -> str:
    return f"{file.architecture} ({file.sha256[:12]})"
