"""Feature maps and pooled features of a network that knows nothing of them: taken by hooks."""

import difflib
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from kdcore.models.trace import ModuleCall, trace_calls
from kdcore.runtime.errors import UserError, error_detail

_CHAINS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_NOT_STAGE_ENDS = (nn.Conv2d, nn.AdaptiveAvgPool2d)
"""What gives a map that no stage ends with: not yet activated, or made to fit a classifier."""
_MAX_HEIGHT_RATIO = 0.75
"""A stage's height, at most, as a share of the stage's before it."""
_Hook = Callable[[nn.Module, Any, Tensor], None]


class FeatureOutputs(NamedTuple):
    """What a network gave for one batch."""

    logits: Tensor
    """(B, num_classes)"""
    pooled: Tensor | None
    """(B, D), the vector that the classifier saw; None where it was not asked for."""
    maps: list[Tensor]
    """[(B, C_i, H_i, W_i)], one per tap, shallow to deep; empty where not asked for."""


class HookPoints(NamedTuple):
    """Where to tap a network: module paths."""

    maps: tuple[str, ...]
    shapes: tuple[tuple[int, int, int], ...]
    """(C, H, W) of each map at the input that it was found with."""
    classifier: str | None
    """The layer that gives the logits; its input, averaged over positions, is the pooled vector.
    None where a network has no such layer."""
    modified_in_place: frozenset[str] = frozenset()
    """Of ``maps``, those that the network changes in place later: the tap takes a copy."""


def find_hook_points(network: nn.Module, image: Tensor) -> HookPoints:
    """Find the last map of each spatial stage: where the next module shrinks height and width.

    ``image`` is (1, C, H, W) and may be on the meta device. Blocks are taken whole, never what is
    inside them; a raw convolution, an adaptive pooling, a map of one pixel, and a module that a
    forward pass calls more than once are no stage's end. A network without
    maps, such as a vision transformer, has no taps; patches that become tokens are none.
    What a later module changes in place (a rectification) is taken as it flows on.
    """
    calls, logits = trace_calls(network, image)
    classifier = find_classifier(calls, logits)
    call_counts = Counter(call.path for call in calls)
    stage_ends: list[ModuleCall] = []
    tokens = False
    for call in calls:
        if call.path == classifier:
            break
        tokens = tokens or (bool(stage_ends) and _gives_tokens(network, call, image))
        if call_counts[call.path] == 1 and _ends_stage(network, call, image):
            # What is not clearly smaller is the same stage, as after convolutions without padding.
            stage_ends = [
                other for other in stage_ends if _height(call) <= _MAX_HEIGHT_RATIO * _height(other)
            ]
            stage_ends.append(call)
            tokens = False
    if tokens and len(stage_ends) == 1:
        stage_ends = []
    return HookPoints(
        maps=tuple(call.path for call in stage_ends),
        shapes=tuple(_shape(call) for call in stage_ends),
        classifier=classifier,
    )


def hook_points_at(network: nn.Module, image: Tensor, paths: Sequence[str]) -> HookPoints:
    """Taps at the modules ``paths``, in this order; each gives what its module put out.

    Raises UserFault ``student_incompatible``, with every path that does not exist, that the
    forward pass calls never or more than once, or that gives no map (B, C, H, W).
    """
    calls, logits = trace_calls(network, image)
    by_path: dict[str, list[ModuleCall]] = {}
    for call in calls:
        by_path.setdefault(call.path, []).append(call)
    known = [path for path, _ in network.named_modules() if path]
    path_problems = {path: _path_problem(path, by_path.get(path, []), known) for path in paths}
    wrong = [error_detail(path, problem) for path, problem in path_problems.items() if problem]
    if wrong:
        raise UserError(
            "student_incompatible",
            f"{type(network).__name__} cannot be tapped at {wrong[0].name}: {wrong[0].detail}",
            hint="name modules that give one map (B, C, H, W), or leave the taps out",
            items=wrong,
        )
    selected = [by_path[path][0] for path in paths]
    return HookPoints(
        maps=tuple(paths),
        shapes=tuple(_shape(call) for call in selected),
        classifier=find_classifier(calls, logits),
        modified_in_place=frozenset(call.path for call in selected if call.modified_in_place),
    )


class FeatureHooks:
    """A network with hooks at ``points`` while the ``with`` block lasts.

    Calling it runs the network as it is, in its own mode and with gradients, and returns
    :class:`TappedOutputs`; nothing is kept between calls. Only what is asked for is taken; of
    ``pooled``, None asks for it where there is such a vector. Raises UserFault
    ``student_incompatible`` when it is asked for and there is none.
    """

    def __init__(
        self,
        network: nn.Module,
        points: HookPoints,
        *,
        maps: bool = True,
        pooled: bool | None = None,
    ) -> None:
        self.network = network
        self.points = points
        self.maps = points.maps if maps else ()
        self.pooled = points.classifier is not None if pooled is None else pooled
        self._captured: dict[str, Tensor] = {}
        self._pooled_vector: Tensor | None = None
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        for path in self.maps:
            module = self.network.get_submodule(path)
            self._handles.append(module.register_forward_hook(self._capture_output(path)))
        if self.pooled:
            if self.points.classifier is None:
                raise UserError(
                    "student_incompatible",
                    f"{type(self.network).__name__} has no layer that gives the logits, and so no "
                    "pooled features; choose a method that needs none",
                )
            classifier = self.network.get_submodule(self.points.classifier)
            self._handles.append(classifier.register_forward_pre_hook(self._capture_input))
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
        self._clear()

    def __call__(self, x: Tensor) -> FeatureOutputs:
        """Run the network on a normalized batch (B, C, H, W)."""
        logits = self.network(x)
        outputs = FeatureOutputs(
            logits, self._pooled_vector, [self._captured[path] for path in self.maps]
        )
        self._clear()
        return outputs

    def _clear(self) -> None:
        self._captured.clear()
        self._pooled_vector = None

    def _capture_output(self, path: str) -> _Hook:
        clone = path in self.points.modified_in_place

        def capture(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            self._captured[path] = output.clone() if clone else output

        return capture

    def _capture_input(self, classifier: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._pooled_vector = _pool(classifier, inputs[0])


def _pool(classifier: nn.Module, x: Tensor) -> Tensor:
    """The classifier's input as one vector (B, D): the mean over positions, where it has any."""
    if x.ndim == 2:
        return x
    channels = 1 if isinstance(classifier, nn.Conv2d) else x.ndim - 1
    return x.mean([dim for dim in range(1, x.ndim) if dim != channels])


def find_classifier(calls: list[ModuleCall], logits: Tensor) -> str | None:
    """Path of the last layer with weights that gives as many channels as there are logits."""
    for call in calls[::-1]:
        if _out_channels(call.module) == logits.shape[1]:
            return call.path
    return None


def _out_channels(layer: nn.Module) -> int | None:
    if isinstance(layer, nn.Linear):
        return layer.out_features
    return layer.out_channels if isinstance(layer, nn.Conv2d) else None


def _shape(call: ModuleCall) -> tuple[int, int, int]:
    _, channels, height, width = call.output.shape
    return channels, height, width


def _height(call: ModuleCall) -> int:
    return _shape(call)[1]


def _ends_stage(network: nn.Module, call: ModuleCall, image: Tensor) -> bool:
    if call.size is None or call.is_passthrough or isinstance(call.module, _NOT_STAGE_ENDS):
        return False
    return _proportional(call.size, image) and call.size[0] > 1 and _on_trunk(network, call.path)


def _gives_tokens(network: nn.Module, call: ModuleCall, image: Tensor) -> bool:
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


def _path_problem(path: str, calls: list[ModuleCall], known: list[str]) -> str | None:
    if path not in known:
        close = difflib.get_close_matches(path, known, n=3)
        suggestion = f"; did you mean {', '.join(close)}?" if close else ""
        return f"there is no such module{suggestion}"
    if len(calls) != 1:
        often = f"{len(calls)} times" if calls else "never"
        return f"a forward pass calls it {often}; name the module around it"
    if calls[0].size is None:
        output = calls[0].output
        what = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        return f"it gives {what}, not a map (B, C, H, W)"
    return None
