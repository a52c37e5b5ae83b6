"""Trace a forward pass: the modules that it calls, in order, and their outputs."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class ModuleCall(NamedTuple):
    """One call of a module."""

    path: str
    module: nn.Module
    output: Any
    version: int
    """Version of the output tensor when the module returned it; in-place changes raise it."""
    is_passthrough: bool
    """Whether the module returned its unchanged input."""

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of a map (B, C, H, W); None for other outputs."""
        if isinstance(self.output, Tensor) and self.output.ndim == 4:
            return self.output.shape[2], self.output.shape[3]
        return None

    @property
    def modified_in_place(self) -> bool:
        """Whether a later module changed the output in place."""
        return isinstance(self.output, Tensor) and self.output._version != self.version


def trace_calls(network: nn.Module, image: Tensor) -> tuple[list[ModuleCall], Tensor]:
    """Run one forward pass in eval mode; return its calls, in the order of their end, and logits.

    The network's mode is restored.
    """
    names = {module: path for path, module in network.named_modules() if path}
    calls: list[ModuleCall] = []
    versions: dict[str, int] = {}

    def pre_hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            versions[names[module]] = inputs[0]._version

    def post_hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        version = output._version if isinstance(output, Tensor) else 0
        path = names[module]
        passed = bool(inputs) and inputs[0] is output and versions.get(path) == version
        calls.append(ModuleCall(path, module, output, version, passed))

    handles = [module.register_forward_pre_hook(pre_hook) for module in names]
    handles += [module.register_forward_hook(post_hook) for module in names]
    modes = {module: module.training for module in network.modules()}
    try:
        with torch.no_grad():
            logits = network.eval()(image)
    finally:
        for module, training in modes.items():
            module.training = training
        for handle in handles:
            handle.remove()
    return calls, logits
