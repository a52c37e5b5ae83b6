"""FeatureExtractor: a network with hooks on its feature layers, and the choice of these layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdcore.methods.base import Outputs
from kdcore.models import feature_hooks
from kdcore.models.feature_hooks import HookPoints
from kdcore.models.normalized_model import NormalizedModel
from kdcore.models.programs.program_network import ProgramNetwork
from kdcore.runtime.errors import UserError
from kdcore.schema.methods import Need

_NETWORK_PREFIX = "network."
"""Path of the plain network in :class:`NormalizedModel`."""


@dataclass(frozen=True)
class FeatureNeeds:
    """Which features the methods of a phase read beside the logits."""

    maps: bool
    pooled: bool

    @classmethod
    def from_needs(cls, needs: frozenset[Need]) -> "FeatureNeeds":
        """The features in the union of all methods' needs."""
        return cls("maps" in needs, "pooled" in needs)


class LayerChoice(NamedTuple):
    """A network and the feature layers that the job names for it."""

    network: NormalizedModel
    paths: tuple[str, ...] | None
    """Module paths; None selects the last feature map of each stage."""


class FeatureExtractor:
    """Runs a network and returns :class:`Outputs`; without ``hook_points`` only logits."""

    def __init__(
        self, network: NormalizedModel, hook_points: HookPoints | None, needs: FeatureNeeds
    ) -> None:
        self.network = network
        self._maps: tuple[str, ...] = ()
        if hook_points is not None and isinstance(network.network, ProgramNetwork):
            self._maps, hook_points = hook_points.maps, None
        self._hooks = (
            None
            if hook_points is None
            else feature_hooks.FeatureHooks(
                network, _prefix_paths(hook_points), maps=needs.maps, pooled=needs.pooled
            )
        )
        if self._hooks is not None:
            # Hooks stay until `close`, not for one block.
            self._hooks.__enter__()

    def __call__(self, views: Tensor) -> Outputs:
        """Outputs for views (B, C, H, W)."""
        if self._maps:
            return self._run_program(views)
        if self._hooks is None:
            return Outputs(self.network(views))
        logits, pooled, maps = self._hooks(views)
        return Outputs(logits, pooled, tuple(maps))

    def _run_program(self, views: Tensor) -> Outputs:
        program: Any = self.network.network
        names = (program.logits_name, *self._maps)
        logits, *maps = program.outputs(self.network.prepare(views), names)
        return Outputs(self.network.select_classes(logits), None, tuple(maps))

    def close(self) -> None:
        """Remove the hooks."""
        if self._hooks is not None:
            self._hooks.__exit__(None, None, None)
            self._hooks = None


def build_extractors(
    choices: Sequence[LayerChoice], probe: Tensor, needs: FeatureNeeds
) -> list[FeatureExtractor]:
    """Extractors of all networks of a phase, each with equally many feature maps.

    Networks with more maps contribute their deepest ones, because stages correspond from the end.
    ``probe`` is a batch of views (B, C, H, W). Raises ``UserError`` if a named layer does not
    exist, if a network lacks a feature that a method needs, or if a named layer would be dropped.
    """
    if not (needs.maps or needs.pooled):
        return [FeatureExtractor(choice.network, None, needs) for choice in choices]
    if not needs.maps:
        # Named layers matter only to methods that use feature maps.
        choices = [choice._replace(paths=None) for choice in choices]
    points = [_find_hook_points(choice, probe[:1], needs) for choice in choices]
    num_maps = _common_num_maps(choices, points)
    return [
        FeatureExtractor(choice.network, _deepest_maps(network_points, num_maps), needs)
        for choice, network_points in zip(choices, points, strict=True)
    ]


def _find_hook_points(choice: LayerChoice, view: Tensor, needs: FeatureNeeds) -> HookPoints:
    network = choice.network
    image = network.prepare(view)
    if isinstance(network.network, ProgramNetwork):
        return _output_points(network.network, image, choice.paths or ())
    if choice.paths:
        hook_points = feature_hooks.hook_points_at(network.network, image, choice.paths)
    else:
        hook_points = feature_hooks.find_hook_points(network.network, image)
    if needs.maps and not hook_points.maps:
        raise UserError(
            "student_incompatible",
            f"no feature maps were detected in {type(network.network).__name__}, and a method of "
            "the job needs them",
            hint="Name the feature layers by module path in taps, or choose a logit method.",
        )
    return hook_points


def _output_points(program: ProgramNetwork, image: Tensor, names: Sequence[str]) -> HookPoints:
    """The outputs ``names`` of a network from a file, as points. Raises ``UserError``."""
    unknown = [name for name in names if name not in program.output_names]
    outputs = [] if unknown else program.outputs(image, names) if names else []
    flat = [name for name, output in zip(names, outputs, strict=False) if output.ndim != 4]
    if unknown or flat or not names:
        reason = "names no outputs" if not names else f"has no feature map {[*unknown, *flat][0]}"
        raise UserError(
            "student_incompatible",
            f"a method of the job needs feature maps, and the teacher from a file {reason}",
            hint="Name outputs of shape (batch, channels, height, width) in taps of the teacher; "
            f"its outputs are: {', '.join(program.output_names)}.",
        )
    shapes: list[Any] = [tuple(output.shape[1:]) for output in outputs]
    return HookPoints(tuple(names), tuple(shapes), None)


def _common_num_maps(choices: Sequence[LayerChoice], points: Sequence[HookPoints]) -> int:
    """The number of maps that every network has; at least as many as the job names for any."""
    num_maps = min(len(network_points.maps) for network_points in points)
    num_named = max(len(choice.paths or ()) for choice in choices)
    if num_named > num_maps:
        raise UserError(
            "student_incompatible",
            f"{num_named} taps are named for one network, and one that it is paired with "
            f"has {num_maps}",
            hint="Name equally many taps for both networks, or leave them out.",
        )
    return num_maps


def _deepest_maps(hook_points: HookPoints, count: int) -> HookPoints:
    start = len(hook_points.maps) - count
    return hook_points._replace(maps=hook_points.maps[start:], shapes=hook_points.shapes[start:])


def _prefix_paths(hook_points: HookPoints) -> HookPoints:
    return hook_points._replace(
        maps=tuple(_NETWORK_PREFIX + path for path in hook_points.maps),
        classifier=_NETWORK_PREFIX + hook_points.classifier if hook_points.classifier else None,
        modified_in_place=frozenset(
            _NETWORK_PREFIX + path for path in hook_points.modified_in_place
        ),
    )


def detach_outputs(outputs: Outputs) -> Outputs:
    """The same outputs as constants, so that a peer's loss gives them no gradient."""
    return Outputs(
        outputs.logits.detach(),
        None if outputs.pooled is None else outputs.pooled.detach(),
        tuple(feature_map.detach() for feature_map in outputs.maps),
    )


def run_teachers(
    teachers: Sequence[FeatureExtractor], views: Tensor, autocast: torch.autocast
) -> list[Outputs]:
    """Outputs of each teacher for ``views`` (B, C, H, W), without gradients."""
    # Not in inference mode: autograd saves teacher outputs for the student's backward pass and
    # refuses inference tensors.
    with torch.no_grad(), autocast:
        return [teacher(views) for teacher in teachers]
