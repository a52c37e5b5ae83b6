"""Make a network cheaper for inference: batch norms folded into convolutions, bfloat16 weights."""

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kdcore.models.normalized_model import NormalizedModel

_TOLERANCE = 1e-3
"""Largest permitted difference of a logit after folding, relative to the largest logit."""


class Bf16Model(nn.Module):
    """A network with bfloat16 weights that takes and returns float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.to(torch.bfloat16)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, num_classes) float32 of images (B, C, H, W)."""
        logits: Tensor = self.network(images.to(torch.bfloat16))
        return logits.float()


def fuse_for_inference(teacher: NormalizedModel, probe: Tensor) -> NormalizedModel:
    """Return a copy of ``teacher`` for inference in bfloat16, with batch norms folded.

    ``probe`` (B, C, H, W) are views to check the folded network: a network that cannot be traced,
    or whose logits change, is not folded.
    """
    inference_copy = copy.deepcopy(teacher)
    images = teacher.prepare(probe)
    with torch.inference_mode(), torch.autocast(images.device.type, enabled=False):
        reference_logits = teacher.network(images)
        network = fold_batch_norms(inference_copy.network)
        if network is not None and not _close_enough(network(images), reference_logits):
            network = None
    inference_copy.network = Bf16Model(network or inference_copy.network)
    inference_copy.network.to(memory_format=torch.channels_last)
    return inference_copy.requires_grad_(requires_grad=False).eval()


def _close_enough(logits: Tensor, reference: Tensor) -> bool:
    return bool((logits - reference).abs().max() <= _TOLERANCE * reference.abs().max())


def fold_batch_norms(network: nn.Module) -> nn.Module | None:
    """Return a copy whose batch norms are folded into the convolutions; None if not traceable."""
    try:
        traced = fx.symbolic_trace(network)
    except Exception:  # noqa: BLE001 - any forward may raise anything for a proxy
        return None
    modules: dict[str, Any] = dict(traced.named_modules())
    used = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    for node in list(traced.graph.nodes):
        before: Any = node.args[0] if node.args else None
        if not (
            _is_module(modules, node, nn.BatchNorm2d) and _is_module(modules, before, nn.Conv2d)
        ):
            continue
        if len(before.users) > 1 or used[before.target] > 1 or used[node.target] > 1:
            continue
        fused = fuse_conv_bn_eval(modules[before.target], modules[node.target])
        traced.set_submodule(before.target, fused)
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _is_module(modules: dict[str, Any], node: Any, kind: type[nn.Module]) -> bool:
    known = isinstance(node, fx.Node) and node.op == "call_module"
    return known and isinstance(modules[node.target], kind)
