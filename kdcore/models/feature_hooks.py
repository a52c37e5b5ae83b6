"""Feature maps and pooled features of a network that knows nothing of them: taken by hooks."""

import difflib
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from kdcore.models.trace import Call, trace
from kdcore.runtime.errors import UserFault, item

_CHAINS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_NO_ENDS = (nn.Conv2d, nn.AdaptiveAvgPool2d)
"""What gives a map that no stage ends with: not yet activated, or made to fit a classifier."""
_SHRINKS = 0.75
"""A stage's height, at most, as a share of the stage's before it."""
_Hook = Callable[[nn.Module, Any, Tensor], None]


class TappedOutputs(NamedTuple):
    """What a network gave for one batch."""

    logits: Tensor
    """(B, num_classes)"""
    pooled: Tensor | None
    """(B, D), the vector that the classifier saw; None where it was not asked for."""
    maps: list[Tensor]
    """[(B, C_i, H_i, W_i)], one per tap, shallow to deep; empty where not asked for."""


class Points(NamedTuple):
    """Where to tap a network: module paths."""

    maps: tuple[str, ...]
    shapes: tuple[tuple[int, int, int], ...]
    """(C, H, W) of each map at the input that it was found with."""
    classifier: str | None
    """The layer that gives the logits; its input, averaged over positions, is the pooled vector.
    None where a network has no such layer."""
    copied: frozenset[str] = frozenset()
    """Of ``maps``, those that the network changes in place later: the tap takes a copy."""


def find(network: nn.Module, image: Tensor) -> Points:
    """Find the last map of each spatial stage: where the next module shrinks height and width.

    ``image`` is (1, C, H, W) and may be on the meta device. Blocks are taken whole, never what is
    inside them; a raw convolution, an adaptive pooling, a map of one pixel, and a module that a
    forward pass calls more than once are no stage's end. A network without
    maps, such as a vision transformer, has no taps; patches that become tokens are none.
    What a later module changes in place (a rectification) is taken as it flows on.
    """
    calls, logits = trace(network, image)
    classifier = classifier_of(calls, logits)
    often = Counter(call.path for call in calls)
    last: list[Call] = []
    tokens = False
    for call in calls:
        if call.path == classifier:
            break
        tokens = tokens or (bool(last) and _gives_tokens(network, call, image))
        if often[call.path] == 1 and _ends_stage(network, call, image):
            # What is not clearly smaller is the same stage, as after convolutions without padding.
            last = [other for other in last if _height(call) <= _SHRINKS * _height(other)]
            last.append(call)
            tokens = False
    if tokens and len(last) == 1:
        last = []
    return Points(
        maps=tuple(call.path for call in last),
        shapes=tuple(_shape(call) for call in last),
        classifier=classifier,
    )


def named(network: nn.Module, image: Tensor, paths: Sequence[str]) -> Points:
    """Taps at the modules ``paths``, in this order; each gives what its module put out.

    Raises UserFault ``student_incompatible``, with every path that does not exist, that the
    forward pass calls never or more than once, or that gives no map (B, C, H, W).
    """
    calls, logits = trace(network, image)
    by_path: dict[str, list[Call]] = {}
    for call in calls:
        by_path.setdefault(call.path, []).append(call)
    known = [path for path, _ in network.named_modules() if path]
    faults = {path: _fault(path, by_path.get(path, []), known) for path in paths}
    wrong = [item(path, fault) for path, fault in faults.items() if fault]
    if wrong:
        raise UserFault(
            "student_incompatible",
            f"{type(network).__name__} cannot be tapped at {wrong[0].name}: {wrong[0].detail}",
            hint="name modules that give one map (B, C, H, W), or leave the taps out",
            items=wrong,
        )
    taken = [by_path[path][0] for path in paths]
    return Points(
        maps=tuple(paths),
        shapes=tuple(_shape(call) for call in taken),
        classifier=classifier_of(calls, logits),
        copied=frozenset(call.path for call in taken if call.changed),
    )


class Tapped:
    """A network with hooks at ``points`` while the ``with`` block lasts.

    Calling it runs the network as it is, in its own mode and with gradients, and returns
    :class:`TappedOutputs`; nothing is kept between calls. Only what is asked for is taken; of
    ``pooled``, None asks for it where there is such a vector. Raises UserFault
    ``student_incompatible`` when it is asked for and there is none.
    """

    def __init__(
        self, network: nn.Module, points: Points, *, maps: bool = True, pooled: bool | None = None
    ) -> None:
        self.network = network
        self.points = points
        self.maps = points.maps if maps else ()
        self.pooled = points.classifier is not None if pooled is None else pooled
        self._seen: dict[str, Tensor] = {}
        self._vector: Tensor | None = None
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        for path in self.maps:
            module = self.network.get_submodule(path)
            self._handles.append(module.register_forward_hook(self._keep_output(path)))
        if self.pooled:
            if self.points.classifier is None:
                raise UserFault(
                    "student_incompatible",
                    f"{type(self.network).__name__} has no layer that gives the logits, and so no "
                    "pooled features; choose a method that needs none",
                )
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
        self._forget()

    def __call__(self, x: Tensor) -> TappedOutputs:
        """Run the network on a normalised batch (B, C, H, W)."""
        logits = self.network(x)
        outputs = TappedOutputs(logits, self._vector, [self._seen[path] for path in self.maps])
        self._forget()
        return outputs

    def _forget(self) -> None:
        self._seen.clear()
        self._vector = None

    def _keep_output(self, path: str) -> _Hook:
        copied = path in self.points.copied

        def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self._seen[path] = output.clone() if copied else output

        return keep

    def _keep_input(self, classifier: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._vector = _pooled(classifier, inputs[0])


def _pooled(classifier: nn.Module, x: Tensor) -> Tensor:
    """The classifier's input as one vector (B, D): the mean over positions, where it has any."""
    if x.ndim == 2:
        return x
    channels = 1 if isinstance(classifier, nn.Conv2d) else x.ndim - 1
    return x.mean([dim for dim in range(1, x.ndim) if dim != channels])


def classifier_of(calls: list[Call], logits: Tensor) -> str | None:
    """Path of the last layer with weights that gives as many channels as there are logits."""
    for call in calls[::-1]:
        if _channels_given(call.module) == logits.shape[1]:
            return call.path
    return None


def _channels_given(layer: nn.Module) -> int | None:
    if isinstance(layer, nn.Linear):
        return layer.out_features
    return layer.out_channels if isinstance(layer, nn.Conv2d) else None


def _shape(call: Call) -> tuple[int, int, int]:
    _, channels, height, width = call.output.shape
    return channels, height, width


def _height(call: Call) -> int:
    return _shape(call)[1]


def _ends_stage(network: nn.Module, call: Call, image: Tensor) -> bool:
    if call.size is None or call.passed or isinstance(call.module, _NO_ENDS):
        return False
    return _proportional(call.size, image) and call.size[0] > 1 and _on_trunk(network, call.path)


def _gives_tokens(network: nn.Module, call: Call, image: Tensor) -> bool:
    if not isinstance(call.output, Tensor) or call.output.ndim < 3:
        return False
    tokens = call.size is None or not _proportional(call.size, image)
    return tokens and _on_trunk(network, call.path)


def _proportional(size: tuple[int, int], image: Tensor) -> bool:
    """What is not of the image's proportions is no map, but channels last or attention."""
    return size[0] * image.shape[3] == size[1] * image.shape[2]


def _on_trunk(network: nn.Module, path: str) -> bool:
    """Whether all that contains the module is a plain chain; inside a block maps are partial."""
    parents = path.split(".")[:-1]
    paths = (".".join(parents[: depth + 1]) for depth in range(len(parents)))
    return all(type(network.get_submodule(parent)) in _CHAINS for parent in paths)


def _fault(path: str, calls: list[Call], known: list[str]) -> str | None:
    if path not in known:
        close = difflib.get_close_matches(path, known, n=3)
        return f"there is no such module{'; near it: ' + ', '.join(close) if close else ''}"
    if len(calls) != 1:
        often = f"{len(calls)} times" if calls else "never"
        return f"a forward pass calls it {often}; name the module around it"
    if calls[0].size is None:
        output = calls[0].output
        what = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        return f"it gives {what}, not a map (B, C, H, W)"
    return None
