"""The ``verify`` command: check an upload, or download published weights; write safetensors."""

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
from kdcore.weights import key_mapping
from kdcore.weights.checkpoint_reader import read_checkpoint
from kdcore.weights.safetensors_io import write_model


def verify(
    request: VerifyRequest, workdir: Path, events: EventWriter, cancellation: CancellationToken
) -> None:
    """Compare a checkpoint with its architecture, check every value, write float32 safetensors.

    The written bytes depend on the weights alone and not on the uploaded format. Raises
    :class:`UserError` ``checkpoint_invalid``, which names every difference, and
    :class:`RunCancelledError`; for published weights the errors of
    :func:`download_weights`.
    """
    if request.pretrained is not None:
        download_weights(request.pretrained, workdir, events, cancellation)
        return
    events.phase("check")
    path = Path(request.path)
    checkpoint_tensors = read_checkpoint(path)
    cancellation.check_cancelled()
    # The names do not depend on the numbers of channels and classes.
    names = key_mapping.target_network(request.architecture, request.num_classes, {}).tensors
    checkpoint_tensors = key_mapping.strip_prefixes(checkpoint_tensors, names)
    target = key_mapping.target_network(
        request.architecture, request.num_classes, checkpoint_tensors
    )
    key_mapping.check_tensors(checkpoint_tensors, target)
    tensors = _to_plain_tensors(checkpoint_tensors, target, path.stat().st_size)
    cancellation.check_cancelled()
    info = ModelInfo(
        architecture=target.architecture,
        num_classes=target.num_classes,
        in_channels=target.in_channels,
        num_params=sum(target.tensors[name].numel() for name in target.parameters),
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


def _to_plain_tensors(
    checkpoint_tensors: dict[str, Tensor], target: key_mapping.TargetNetwork, size_bytes: int
) -> dict[str, Tensor]:
    """Return float32 copies (counters int64), sorted by name."""
    plain: dict[str, Tensor] = {}
    problems = []
    for name, expected in sorted(target.tensors.items()):
        if name not in checkpoint_tensors:
            plain[name] = torch.zeros((), dtype=torch.int64)
            continue
        problem = _container_problem(checkpoint_tensors[name], expected, size_bytes)
        if problem is None:
            plain[name] = (
                checkpoint_tensors[name].detach().to(expected.dtype, copy=True).contiguous()
            )
            problem = _value_problem(name, plain[name])
        if problem is not None:
            problems.append(error_detail(name, problem))
    if problems:
        raise UserError(
            "checkpoint_invalid",
            f"{len(problems)} tensors of the checkpoint cannot be used",
            items=problems,
        )
    return plain


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
