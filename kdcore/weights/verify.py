"""The ``verify`` command: an uploaded checkpoint in, the same weights as plain safetensors out."""

from pathlib import Path

import torch
from torch import Tensor

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
    """Open, compare with the architecture, look at every value, write float32 safetensors.

    The written bytes depend on the weights alone, whichever container they came in. Raises
    UserFault ``checkpoint_invalid`` with every difference named, and Stopped; of published weights
    what :func:`kdcore.weights.download.fetch` raises.
    """
    if request.pretrained is not None:
        from kdcore.weights import download  # loads the libraries of models

        download.download_weights(request.pretrained, workdir, events, cancellation)
        return
    events.phase("check")
    path = Path(request.path)
    checkpoint_tensors = read_checkpoint(path)
    cancellation.check_cancelled()
    # The first convolution has the same name for every number of channels and classes.
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


def _to_plain_tensors(
    checkpoint_tensors: dict[str, Tensor], target: key_mapping.TargetNetwork, size_bytes: int
) -> dict[str, Tensor]:
    """Float32 (counters int64) copies in memory of their own, in the order of names."""
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
    """What forbids looking at the values at all."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        return "is not a dense, plain tensor with values"
    if tensor.is_complex() or tensor.is_floating_point() != expected.is_floating_point():
        kind = "floats" if expected.is_floating_point() else "integers"
        return f"holds {tensor.dtype}, where {kind} are expected"
    logical = tensor.numel() * tensor.element_size()
    if logical > min(tensor.untyped_storage().nbytes(), size_bytes):
        return "claims more values than the file holds"
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
