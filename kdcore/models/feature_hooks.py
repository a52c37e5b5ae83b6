"""Capture feature maps and pooled features of any network by forward hooks.

torchvision's ``create_feature_extractor`` and timm's ``features_only`` fail for many networks,
because they trace the code or need support by the network; hooks need neither.
"""

import difflib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from kdcore.models.trace import ModuleCall, trace_calls
from kdcore.runtime.errors import UserError, error_detail

_CHAINS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_NOT_STAGE_ENDS = (nn.Conv2d, nn.AdaptiveAvgPool2d)
"""Modules that do not end a stage: not yet activated, or pooled for the classifier."""
_MAX_HEIGHT_RATIO = 0.75
"""Largest height of a stage, as a share of the previous stage's height."""
_Hook = Callable[[nn.Module, Any, Tensor], None]


class FeatureOutputs(NamedTuple):
    """Logits and features of one batch."""

    logits: Tensor
    """(B, num_classes)"""
    pooled: Tensor | None
    """(B, D), the input of the classifier; None if not requested."""
    maps: list[Tensor]
    """[(B, C_i, H_i, W_i)], one for each feature layer, shallow to deep; empty if not requested."""


class HookPoints(NamedTuple):
    """Module paths of a network's feature layers and classifier."""

    maps: tuple[str, ...]
    shapes: tuple[tuple[int, int, int], ...]
    """(C, H, W) of each map for the traced input."""
    classifier: str | None
    """The layer that returns the logits; its input, averaged over positions, is the pooled vector.
    None if there is no such layer."""
    modified_in_place: frozenset[str] = frozenset()
    """Those of ``maps`` that the network changes in place later: hooks copy them."""


def pooled_features(network: nn.Module, points: HookPoints) -> int | None:
    """Return the length of the vector before the classifier; None without a classifier."""
    if points.classifier is None:
        return None
    layer: Any = network.get_submodule(points.classifier)
    return int(layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels)


def find_hook_points(network: nn.Module, image: Tensor) -> HookPoints:
    """Find the last map of each spatial stage, before height and width shrink.

    ``image`` is (1, C, H, W) and may be on the meta device. Only outputs of blocks count, not
    modules inside a block. A convolution, an adaptive pooling, a map of one pixel and a module
    that is called more than once do not end a stage. A network without maps, such as a vision
    transformer, has no feature layers; patches that become tokens are not maps. A map that a later
    module changes in place (ReLU) is captured after that change.
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
            # A slightly smaller map is the same stage, as after convolutions without padding.
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
    """Return hook points at the modules ``paths``, in this order.

    Raises :class:`UserError` ``student_incompatible``, which names every path that does not exist,
    that the forward pass does not call exactly once, or that returns no map (B, C, H, W).
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
            f"{type(network).__name__} has no feature map at {wrong[0].name}: {wrong[0].detail}",
            hint="name modules that return one map (B, C, H, W), or leave `taps` out",
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
    """A network with hooks at ``points`` inside a ``with`` block.

    A call runs the network unchanged, in its mode and with gradients, and returns
    :class:`FeatureOutputs`. ``maps`` and ``pooled`` request the features; ``pooled=None`` requests
    the pooled vector if there is one. Entering raises :class:`UserError` ``student_incompatible``
    for ``pooled=True`` without a classifier.
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
                    f"{type(self.network).__name__} has no layer that returns the logits and so no "
                    "pooled features; choose a method that needs none",
                )
            classifier = self.network.get_submodule(self.points.classifier)
            self._handles.append(classifier.register_forward_pre_hook(self._capture_input))
        return self

    def __exit__(self, *_: object) -> None:
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
    """Return the classifier's input as (B, D): the mean over positions, if there are any."""
    if x.ndim == 2:
        return x
    channels = 1 if isinstance(classifier, nn.Conv2d) else x.ndim - 1
    return x.mean([dim for dim in range(1, x.ndim) if dim != channels])


def find_classifier(calls: list[ModuleCall], logits: Tensor) -> str | None:
    """Return the path of the last layer with as many output channels as there are logits."""
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
    """Whether the output has the image's proportions; else it is channels last or attention."""
    return size[0] * image.shape[3] == size[1] * image.shape[2]


def _on_trunk(network: nn.Module, path: str) -> bool:
    """Whether only plain sequences contain the module; maps inside a block are partial."""
    parents = path.split(".")[:-1]
    paths = (".".join(parents[: depth + 1]) for depth in range(len(parents)))
    return all(type(network.get_submodule(parent)) in _CHAINS for parent in paths)


def _path_problem(path: str, calls: list[ModuleCall], known: list[str]) -> str | None:
    if path not in known:
        close = difflib.get_close_matches(path, known, n=3)
        suggestion = f"; did you mean {', '.join(close)}?" if close else ""
        return f"there is no such module{suggestion}"
    if len(calls) != 1:
        frequency = f"{len(calls)} times" if calls else "never"
        return f"a forward pass calls it {frequency}; name the module around it"
    if calls[0].size is None:
        output = calls[0].output
        actual = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        return f"it returns {actual}, not a map (B, C, H, W)"
    return None
