"""A network as a training sees it: its outputs of a batch, with what the methods need of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdcore.methods.base import Outputs
from kdcore.models import feature_hooks
from kdcore.models.normalized_model import Normalised
from kdcore.runtime.errors import UserFault
from kdcore.schema.methods import Need

_INNER = "network."
"""Where the plain network lives in :class:`Normalised`."""


@dataclass(frozen=True)
class Wanted:
    """What is taken of a network beside its logits."""

    maps: bool
    pooled: bool

    @classmethod
    def of(cls, needs: frozenset[Need]) -> "Wanted":
        """From what methods need."""
        return cls("maps" in needs, "pooled" in needs)


class Observed:
    """Runs a network on views and returns :class:`Outputs`; hooks nothing if nothing is wanted."""

    def __init__(
        self, network: Normalised, points: feature_hooks.Points | None, wanted: Wanted
    ) -> None:
        self.network, self.wanted = network, wanted
        self._tapped = (
            None
            if points is None
            else feature_hooks.Tapped(
                network, _inside(points), maps=wanted.maps, pooled=wanted.pooled
            )
        )
        if self._tapped is not None:
            # For as long as the training lasts; the network is thrown away with it.
            self._tapped.__enter__()

    def __call__(self, views: Tensor) -> Outputs:
        """Of views (B, C, H, W)."""
        if self._tapped is None:
            return Outputs(self.network(views))
        logits, pooled, maps = self._tapped(views)
        return Outputs(logits, pooled, tuple(maps))

    def close(self) -> None:
        """Take the hooks away."""
        if self._tapped is not None:
            self._tapped.__exit__(None, None, None)
            self._tapped = None


def points_of(
    network: Normalised, probe: Tensor, paths: Sequence[str] | None, wanted: Wanted
) -> feature_hooks.Points | None:
    """Where to tap ``network``: at the named ``paths``, else at the last map of each stage.

    ``probe`` is a view (1, C, H, W). None where nothing is wanted. Raises ``UserFault`` for a path
    that is not there, or where a network has not what is wanted.
    """
    if not (wanted.maps or wanted.pooled):
        return None
    image = network.prepare(probe)
    if wanted.maps and paths:
        points = feature_hooks.named(network.network, image, paths)
    else:
        points = feature_hooks.find(network.network, image)
    name = type(network.network).__name__
    if wanted.maps and not points.maps:
        raise UserFault(
            "student_incompatible",
            f"{name} has no feature maps that could be found, and a method of the job needs them",
            hint="Name taps by module path, or choose a method that looks at logits.",
        )
    return points


def paired(
    all_points: Sequence[feature_hooks.Points | None], named: Sequence[Sequence[str] | None]
) -> list[feature_hooks.Points | None]:
    """The same networks with equally many maps each: the deepest ones, as stages end alike.

    ``named`` are the paths that the job names for each. Raises ``UserFault`` where one of them
    would be left out.
    """
    known = [points for points in all_points if points is not None]
    count = min((len(points.maps) for points in known), default=0)
    most = max(len(paths or ()) for paths in named)
    if most > count:
        raise UserFault(
            "student_incompatible",
            f"{most} taps are named for one network, and one that it is paired with has {count}",
            hint="Name equally many taps for both networks, or leave them out.",
        )
    return [None if points is None else _deepest(points, count) for points in all_points]


def _deepest(points: feature_hooks.Points, count: int) -> feature_hooks.Points:
    start = len(points.maps) - count
    return points._replace(maps=points.maps[start:], shapes=points.shapes[start:])


def _inside(points: feature_hooks.Points) -> feature_hooks.Points:
    return points._replace(
        maps=tuple(_INNER + path for path in points.maps),
        classifier=_INNER + points.classifier if points.classifier else None,
        copied=frozenset(_INNER + path for path in points.copied),
    )


def detached(outputs: Outputs) -> Outputs:
    """The same as constants: what a peer says, nobody else's gradient reaches."""
    return Outputs(
        outputs.logits.detach(),
        None if outputs.pooled is None else outputs.pooled.detach(),
        tuple(each.detach() for each in outputs.maps),
    )


def asked(teachers: Sequence[Observed], views: Tensor, autocast: torch.autocast) -> list[Outputs]:
    """What each teacher gives for ``views`` (B, C, H, W), without gradients."""
    # Not in inference mode: autograd keeps what a teacher says for the student's backward pass, and
    # refuses to keep tensors of that mode.
    with torch.no_grad(), autocast:
        return [teacher(views) for teacher in teachers]
