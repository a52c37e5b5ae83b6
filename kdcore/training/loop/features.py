"""A network as a training sees it: its outputs of a batch, with what the methods need of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdcore.methods.base import Outputs
from kdcore.models import feature_hooks
from kdcore.models.normalized_model import NormalizedModel
from kdcore.runtime.errors import UserError
from kdcore.schema.methods import Need

_NETWORK_PREFIX = "network."
"""Where the plain network lives in :class:`Normalized`."""


@dataclass(frozen=True)
class FeatureNeeds:
    """What is taken of a network beside its logits."""

    maps: bool
    pooled: bool

    @classmethod
    def from_needs(cls, needs: frozenset[Need]) -> "FeatureNeeds":
        """From what methods need."""
        return cls("maps" in needs, "pooled" in needs)


class FeatureExtractor:
    """Runs a network on views and returns :class:`Outputs`; hooks nothing if nothing is wanted."""

    def __init__(
        self,
        network: NormalizedModel,
        hook_points: feature_hooks.HookPoints | None,
        needs: FeatureNeeds,
    ) -> None:
        self.network, self.needs = network, needs
        self._hooks = (
            None
            if hook_points is None
            else feature_hooks.FeatureHooks(
                network, _prefix_paths(hook_points), maps=needs.maps, pooled=needs.pooled
            )
        )
        if self._hooks is not None:
            # For as long as the training lasts; the network is thrown away with it.
            self._hooks.__enter__()

    def __call__(self, views: Tensor) -> Outputs:
        """Of views (B, C, H, W)."""
        if self._hooks is None:
            return Outputs(self.network(views))
        logits, pooled, maps = self._hooks(views)
        return Outputs(logits, pooled, tuple(maps))

    def close(self) -> None:
        """Take the hooks away."""
        if self._hooks is not None:
            self._hooks.__exit__(None, None, None)
            self._hooks = None


def find_hook_points(
    network: NormalizedModel, probe: Tensor, paths: Sequence[str] | None, needs: FeatureNeeds
) -> feature_hooks.HookPoints | None:
    """Where to tap ``network``: at the named ``paths``, else at the last map of each stage.

    ``probe`` is a view (1, C, H, W). None where nothing is wanted. Raises ``UserFault`` for a path
    that is not there, or where a network has not what is wanted.
    """
    if not (needs.maps or needs.pooled):
        return None
    image = network.prepare(probe)
    if needs.maps and paths:
        hook_points = feature_hooks.hook_points_at(network.network, image, paths)
    else:
        hook_points = feature_hooks.find_hook_points(network.network, image)
    name = type(network.network).__name__
    if needs.maps and not hook_points.maps:
        raise UserError(
            "student_incompatible",
            f"{name} has no feature maps that could be found, and a method of the job needs them",
            hint="Name taps by module path, or choose a method that looks at logits.",
        )
    return hook_points


def align_hook_points(
    all_points: Sequence[feature_hooks.HookPoints | None],
    named_paths: Sequence[Sequence[str] | None],
) -> list[feature_hooks.HookPoints | None]:
    """The same networks with equally many maps each: the deepest ones, as stages end alike.

    ``named`` are the paths that the job names for each. Raises ``UserFault`` where one of them
    would be left out.
    """
    known = [points for points in all_points if points is not None]
    count = min((len(points.maps) for points in known), default=0)
    max_named = max(len(paths or ()) for paths in named_paths)
    if max_named > count:
        raise UserError(
            "student_incompatible",
            f"{max_named} taps are named for one network, and one that it is paired with "
            f"has {count}",
            hint="Name equally many taps for both networks, or leave them out.",
        )
    return [None if points is None else _deepest(points, count) for points in all_points]


def _deepest(hook_points: feature_hooks.HookPoints, count: int) -> feature_hooks.HookPoints:
    start = len(hook_points.maps) - count
    return hook_points._replace(maps=hook_points.maps[start:], shapes=hook_points.shapes[start:])


def _prefix_paths(hook_points: feature_hooks.HookPoints) -> feature_hooks.HookPoints:
    return hook_points._replace(
        maps=tuple(_NETWORK_PREFIX + path for path in hook_points.maps),
        classifier=_NETWORK_PREFIX + hook_points.classifier if hook_points.classifier else None,
        modified_in_place=frozenset(
            _NETWORK_PREFIX + path for path in hook_points.modified_in_place
        ),
    )


def detach_outputs(outputs: Outputs) -> Outputs:
    """The same as constants: what a peer says, nobody else's gradient reaches."""
    return Outputs(
        outputs.logits.detach(),
        None if outputs.pooled is None else outputs.pooled.detach(),
        tuple(feature_map.detach() for feature_map in outputs.maps),
    )


def run_teachers(
    teachers: Sequence[FeatureExtractor], views: Tensor, autocast: torch.autocast
) -> list[Outputs]:
    """What each teacher gives for ``views`` (B, C, H, W), without gradients."""
    # Not in inference mode: autograd keeps what a teacher says for the student's backward pass, and
    # refuses to keep tensors of that mode.
    with torch.no_grad(), autocast:
        return [teacher(views) for teacher in teachers]
