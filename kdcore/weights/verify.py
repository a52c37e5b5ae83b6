"""The ``verify`` command: check an upload, or download published weights; write safetensors."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from kdcore.models import flops
from kdcore.models.factory import build
from kdcore.models.pretrained import PretrainedWeights, load_pretrained
from kdcore.protocol.requests import VerifyRequest
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import UserError, error_detail
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.asset_info import ModelInfo
from kdcore.weights.architecture_search import fitting_targets, infer_architecture
from kdcore.weights.checkpoint_reader import (
    LoadedCheckpoint,
    module_error,
    read_checkpoint,
    read_class_names,
    read_reported_top1,
)
from kdcore.weights.key_differences import Differences, compare
from kdcore.weights.key_mapping import TensorMapping, check_parametrizations, map_tensors
from kdcore.weights.key_renaming import NamedTensor, list_tensors, removal_rules
from kdcore.weights.program_upload import find_program
from kdcore.weights.program_verify import verify_program
from kdcore.weights.safetensors_io import write_model
from kdcore.weights.target_network import BATCH_COUNTER, TargetNetwork, build_target, fit_target

_MAX_LISTED = 20
_MAX_COUNTER = 2**62


def verify(
    request: VerifyRequest, workdir: Path, events: EventWriter, cancellation: CancellationToken
) -> None:
    """Compare a checkpoint with its architecture, check every value, write float32 safetensors.

    A network from a file is written as it is (:mod:`kdcore.weights.program_verify`).
    Without an architecture, or without a number of classes, names and shapes decide. The written
    bytes depend on the weights alone and not on the uploaded format. Raises
    :class:`UserError` ``checkpoint_invalid``, which names every difference, and
    :class:`RunCancelledError`; for published weights the errors of
    :func:`download_weights`.
    """
    if request.pretrained is not None:
        download_weights(request.pretrained, workdir, events, cancellation)
        return
    events.phase("check")
    with tempfile.TemporaryDirectory(dir=workdir, prefix="unpacked-") as folder:
        upload = find_program(
            Path(request.path), request.filename, Path(folder), request.architecture
        )
        if upload is not None:
            verify_program(upload, request, workdir, events)
            return
    _verify_checkpoint(request, workdir, events, cancellation)


def _verify_checkpoint(
    request: VerifyRequest, workdir: Path, events: EventWriter, cancellation: CancellationToken
) -> None:
    checkpoint = read_checkpoint(Path(request.path), name=request.filename, scratch=workdir)
    cancellation.check_cancelled()
    named = list_tensors(checkpoint, request.key_map)
    check_parametrizations(named)
    architecture, notes = request.architecture, checkpoint.notes
    if architecture is None:
        inferred = infer_architecture(checkpoint, named, request.weights)
        architecture, notes = inferred.name, (*notes, *inferred.notes)
    cancellation.check_cancelled()
    reference = build_target(architecture)
    mapping = map_tensors(named, reference, request.weights)
    target = fit_target(reference, mapping.tensors, request.num_classes)
    _check_names(checkpoint, named, mapping, target)
    tensors = _to_plain_tensors(mapping, target, checkpoint.size_bytes)
    cancellation.check_cancelled()
    class_names, class_notes = read_class_names(checkpoint.contents, target.num_classes)
    info = ModelInfo(
        architecture=target.architecture,
        num_classes=target.num_classes,
        in_channels=target.in_channels,
        num_params=sum(target.tensors[name].numel() for name in target.parameters),
        class_names=class_names,
        reported_top1=read_reported_top1(checkpoint.contents),
        warnings=(*notes, *mapping.notes, *class_notes),
    )
    write_model(tensors, info, workdir, events)


def download_weights(
    name: str, workdir: Path, events: EventWriter, cancellation: CancellationToken
) -> None:
    """Download the weights, unless the library has them in its cache, and write safetensors.

    Raises :class:`UserError` ``teacher_load_failed`` for an unknown name and a failed download, and
    :class:`RunCancelledError`.
    """
    events.phase("download")
    pretrained_weights = load_pretrained(name)
    cancellation.check_cancelled()
    tensors = {
        key: value.detach().clone().contiguous()
        for key, value in pretrained_weights.weights.items()
    }
    write_model(
        dict(sorted(tensors.items())), _pretrained_info(name, pretrained_weights), workdir, events
    )


def _pretrained_info(name: str, pretrained_weights: PretrainedWeights) -> ModelInfo:
    with torch.device("meta"):
        network = build(
            pretrained_weights.architecture,
            num_classes=pretrained_weights.num_classes,
            input_size=pretrained_weights.input_size,
        )
    return ModelInfo(
        architecture=pretrained_weights.architecture,
        num_classes=pretrained_weights.num_classes,
        in_channels=len(pretrained_weights.normalization.mean),
        num_params=flops.num_params(network),
        input_size=pretrained_weights.input_size,
        normalization=pretrained_weights.normalization,
        class_names=pretrained_weights.class_names,
        license=pretrained_weights.license,
    )


def _check_names(
    checkpoint: LoadedCheckpoint,
    named: Sequence[NamedTensor],
    mapping: TensorMapping,
    target: TargetNetwork,
) -> None:
    """Raise :class:`UserError` unless names and shapes are the target's; say what mends that."""
    differences = compare(mapping.tensors, mapping.unexpected, target)
    if not differences.items:
        return
    if not mapping.tensors and checkpoint.objects:
        raise module_error(checkpoint.name, checkpoint.objects)
    _check_classes(checkpoint, mapping, target, differences)
    fitting = fitting_targets(named)
    complete = target.required_names <= mapping.tensors.keys()
    if complete and len(differences.items) == len(mapping.unexpected) and not fitting:
        raise _extras_error(checkpoint, named, mapping, differences, target.architecture)
    hint = None
    if fitting:
        alternatives = [f"{key} of {fit.num_classes} classes" for key, (fit, _) in fitting.items()]
        hint = f"its names and shapes match {', '.join(alternatives)}"
    elif differences.rename_hint is not None:
        hint = f"if only the names differ, add {differences.rename_hint}"
    prefix = f" under `{mapping.prefix}`" if mapping.prefix else ""
    raise UserError(
        "checkpoint_invalid",
        f"{checkpoint.name} is not a {target.architecture}: {len(differences.items)} of its "
        f"tensors{prefix} are missing, unexpected or of another shape",
        hint=hint,
        items=differences.items,
        fix_fields=("architecture", "num_classes", "key_map"),
    )


def _check_classes(
    checkpoint: LoadedCheckpoint,
    mapping: TensorMapping,
    target: TargetNetwork,
    differences: Differences,
) -> None:
    """Raise :class:`UserError` if nothing but the number of classes differs."""
    other = fit_target(target, mapping.tensors, None)
    if other.num_classes == target.num_classes:
        return
    if not compare(mapping.tensors, mapping.unexpected, other).items:
        raise UserError(
            "checkpoint_invalid",
            f"{checkpoint.name} is a {target.architecture} of {other.num_classes} classes, not of "
            f"{target.num_classes}",
            hint=f"set num_classes to {other.num_classes}, or leave it out",
            items=differences.items,
            fix_fields=("num_classes",),
        )


def _extras_error(
    checkpoint: LoadedCheckpoint,
    named: Sequence[NamedTensor],
    mapping: TensorMapping,
    differences: Differences,
    architecture: str,
) -> UserError:
    names = sorted(mapping.unexpected)
    listed = ", ".join(names[:_MAX_LISTED])
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    used = {entry.path for entry in mapping.entries}
    extras = [e for e in named if e.name in mapping.unexpected and e.path not in used]
    rules = removal_rules(extras, mapping.entries)
    return UserError(
        "checkpoint_invalid",
        f"{checkpoint.name} has every tensor of a {architecture}, and {len(names)} others, which "
        f"may change its outputs: {listed}{more}",
        hint="if the network does not need them, leave them out with "
        f"{rules or 'key_map, whose empty new names leave tensors out'}",
        items=differences.items,
        fix_fields=("architecture", "key_map"),
    )


def _to_plain_tensors(
    mapping: TensorMapping, target: TargetNetwork, size_bytes: int
) -> dict[str, Tensor]:
    """Return float32 copies (counters int64), sorted by name."""
    plain: dict[str, Tensor] = {}
    problems = []
    for name, expected in sorted(target.tensors.items()):
        tensor = mapping.tensors.get(name)
        if name.endswith(BATCH_COUNTER):
            plain[name] = _to_counter(tensor)
            continue
        if tensor is None:
            raise KeyError(name)
        problem = _container_problem(tensor, expected, size_bytes)
        if problem is None:
            plain[name] = tensor.detach().to(expected.dtype, copy=True).contiguous()
            problem = _value_problem(name, plain[name])
        if problem is not None:
            problems.append(error_detail(name, problem))
    if problems:
        raise UserError(
            "checkpoint_invalid",
            f"{len(problems)} tensors of the checkpoint cannot be used",
            items=problems,
            fix_fields=("weights",) if mapping.has_alternative else (),
        )
    return plain


def _to_counter(tensor: Tensor | None) -> Tensor:
    """Return the counter of a batch norm as an int64 scalar; 0 if it has no usable value.

    Averaged weights have fractions, and some files have shape (1,). No output depends on it.
    """
    zero = torch.zeros((), dtype=torch.int64)
    if tensor is None or tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        return zero
    if tensor.is_complex() or tensor.numel() != 1:
        return zero
    value = float(tensor)
    return zero + int(value) if 0 <= value < _MAX_COUNTER else zero


def _container_problem(tensor: Tensor, expected: Tensor, size_bytes: int) -> str | None:
    """Return why the values cannot be read, or None."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        return "is not a plain, dense tensor with values"
    if tensor.is_complex() or tensor.is_floating_point() != expected.is_floating_point():
        kind = "floats" if expected.is_floating_point() else "integers"
        return f"has type {tensor.dtype}; {kind} are expected"
    logical = tensor.numel() * tensor.element_size()
    if logical > min(tensor.untyped_storage().nbytes(), size_bytes):
        return "has more values than the file contains"
    return None


def _value_problem(name: str, tensor: Tensor) -> str | None:
    if not tensor.is_floating_point():
        return None
    broken = tensor.numel() - int(torch.isfinite(tensor).sum())
    if broken:
        return f"has {broken} values that are infinite or not a number"
    if name.endswith("running_var") and bool((tensor < 0).any()):
        return "has negative variances"
    return None
