"""Networks that only answer, made cheaper: batch normalization folded, weights in bfloat16."""

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kdcore.models.normalized_model import NormalizedModel

_TOLERANCE = 1e-3
"""Largest difference of folded answers, as a share of the largest answer."""


class Bf16Model(nn.Module):
    """A network whose weights are bfloat16: takes and returns float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.to(torch.bfloat16)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, num_classes), float32, of images (B, C, H, W)."""
        logits: Tensor = self.network(images.to(torch.bfloat16))
        return logits.float()


def fuse_for_inference(teacher: NormalizedModel, probe: Tensor) -> NormalizedModel:
    """A frozen network's answers in bfloat16; the network itself is left as it is.

    ``probe`` (B, C, H, W) are views by which folding is checked: what cannot be traced, or answers
    otherwise when it is folded, is not folded.
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


def _close_enough(ours: Tensor, theirs: Tensor) -> bool:
    return bool((ours - theirs).abs().max() <= _TOLERANCE * theirs.abs().max())


def fold_batch_norms(network: nn.Module) -> nn.Module | None:
    """A copy without the batch normalizations that follow a convolution; None if it is opaque."""
    try:
        traced = fx.symbolic_trace(network)
    except Exception:  # noqa: BLE001 - whatever a stranger's forward makes of a proxy
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
