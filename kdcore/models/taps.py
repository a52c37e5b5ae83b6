"""Feature maps and pooled features of a network that knows nothing of them: taken by hooks."""

from collections import Counter
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class TappedOutputs(NamedTuple):
    """What a network gave for one batch."""

    logits: Tensor
    """(B, num_classes)"""
    pooled: Tensor
    """(B, D), the vector that the classifier saw."""
    maps: list[Tensor]
    """[(B, C_i, H_i, W_i)], one per tap, shallow to deep."""


class Points(NamedTuple):
    """Where to tap a network: module paths."""

    maps: tuple[str, ...]
    shapes: tuple[tuple[int, int, int], ...]
    """(C, H, W) of each map at the input that :func:`find` was given."""
    classifier: str
    """The last linear layer; its input is the pooled vector."""


def find(network: nn.Module, image: Tensor) -> Points:
    """Find the last map of each spatial stage: where the next module shrinks height and width.

    ``image`` is (1, C, H, W) and may be on the meta device. Modules that a forward pass calls more
    than once cannot be tapped, nor can maps of one pixel, which are pooled features already.
    """
    last: dict[tuple[int, int], tuple[str, int]] = {}
    calls: Counter[str] = Counter()
    linear: list[str] = []
    names = {module: name for name, module in network.named_modules() if name}

    def note(module: nn.Module, _inputs: Any, output: Any) -> None:
        name = names[module]
        calls[name] += 1
        if isinstance(module, nn.Linear):
            linear.append(name)
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2:] != (1, 1):
            last[output.shape[2], output.shape[3]] = (name, output.shape[1])

    handles = [module.register_forward_hook(note) for module in names]
    was_training = network.training
    try:
        with torch.no_grad():
            network.eval()(image)
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    if not linear:
        raise ValueError(f"{type(network).__name__} has no linear classifier to tap")
    stages = [(name, (c, *size)) for size, (name, c) in last.items() if calls[name] == 1]
    return Points(
        maps=tuple(name for name, _ in stages),
        shapes=tuple(shape for _, shape in stages),
        classifier=linear[-1],
    )


class Tapped:
    """A network with hooks at ``points`` while the ``with`` block lasts.

    Calling it runs the network as it is, in its own mode and with gradients, and returns
    :class:`TappedOutputs`; nothing is kept between calls.
    """

    def __init__(self, network: nn.Module, points: Points) -> None:
        self.network = network
        self.points = points
        self._seen: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        for path in self.points.maps:
            module = self.network.get_submodule(path)
            self._handles.append(module.register_forward_hook(self._keep_output(path)))
        classifier = self.network.get_submodule(self.points.classifier)
        self._handles.append(classifier.register_forward_pre_hook(self._keep_input))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __call__(self, x: Tensor) -> TappedOutputs:
        """Run the network on a normalised batch (B, C, H, W)."""
        logits = self.network(x)
        maps = [self._seen[path] for path in self.points.maps]
        pooled = self._seen[""]
        self._seen.clear()
        return TappedOutputs(logits, pooled, maps)

    def _keep_output(self, path: str) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self._seen[path] = output

        return keep

    def _keep_input(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._seen[""] = inputs[0]
