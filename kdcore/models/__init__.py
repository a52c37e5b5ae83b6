"""Networks, all from one door: :func:`build`."""

import difflib

from torch import nn

from kdcore.errors import UserFault
from kdcore.models.registry import ENTRIES

__all__ = ["build"]


def build(name: str, *, num_classes: int, in_channels: int = 3, input_size: int = 32) -> nn.Module:
    """A network with fresh weights that maps (B, in_channels, H, W) to logits (B, num_classes).

    ``input_size`` is the side of the square images in pixels. Fresh weights come from torch's
    global generator: seed it first. Raises :class:`~kdcore.errors.UserFault` for a name that is
    not in the catalogue, images that are too small, channels other than 1 or 3, or no classes.
    """
    entry = ENTRIES.get(name)
    if entry is None:
        close = difflib.get_close_matches(name, ENTRIES, n=3)
        known = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(ENTRIES)}"
        raise UserFault("student_incompatible", f"there is no architecture {name!r}; {known}")
    if in_channels not in (1, 3):
        raise UserFault(
            "student_incompatible",
            f"{name} takes images of 1 or 3 channels, not of {in_channels}",
        )
    if input_size < entry.min_input_size:
        raise UserFault(
            "student_incompatible",
            f"{name} takes images of {entry.min_input_size} pixels or more, not of {input_size}",
        )
    if num_classes < 1:
        raise UserFault("student_incompatible", f"{name} needs a class, not {num_classes}")
    return entry.make(num_classes, in_channels)
