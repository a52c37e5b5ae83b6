"""Networks, all from one door: :func:`build`."""

from torch import nn

from kdcore.models import timm_networks, torchvision_networks
from kdcore.models.registry import ENTRIES
from kdcore.runtime.errors import UserError
from kdcore.schema.catalog import architectures, similar_architectures
from kdcore.schema.derived_name import parse_derived_name

__all__ = ["build"]

_LIBRARIES = {"torchvision": torchvision_networks, "timm": timm_networks}
_LIBRARY_ERRORS = (AssertionError, RuntimeError, TypeError, ValueError, ZeroDivisionError)
"""How the libraries say that a network cannot be built for a size."""


def build(name: str, *, num_classes: int, in_channels: int = 3, input_size: int = 32) -> nn.Module:
    """A network with fresh weights that maps (B, in_channels, H, W) to logits (B, num_classes).

    ``name`` is namespaced: ``cifar/…``, ``torchvision/…`` or ``timm/…``; a derived network has a
    name of its own (:mod:`kdcore.schema.derived_name`). ``input_size`` is the side
    of the square images in pixels; some networks (vision transformers) are made for one size.
    Fresh weights come from torch's global generator: seed it first. Raises
    :class:`~kdcore.runtime.errors.UserFault` for a name that does not exist, images that are too
    small, channels other than 1 or 3, or no classes.
    """
    derived = parse_derived_name(name)
    if derived is not None:
        from kdcore.models.derive import derive  # it builds by this very door

        return derive(
            derived.architecture,
            convolution=derived.convolution,
            groups=derived.groups,
            width=derived.width,
            num_classes=num_classes,
            in_channels=in_channels,
            input_size=input_size,
        )
    _check(name, num_classes, in_channels, input_size)
    if name in ENTRIES:
        return ENTRIES[name].make(num_classes, in_channels)
    library, _, bare = name.partition("/")
    try:
        network: nn.Module = _LIBRARIES[library].make(
            bare, num_classes=num_classes, in_channels=in_channels, input_size=input_size
        )
    except _LIBRARY_ERRORS as error:
        raise _build_error(
            f"{name} cannot be built for images of {input_size} pixels and {in_channels} "
            f"channels: {error}"
        ) from error
    return network


def _check(name: str, num_classes: int, in_channels: int, input_size: int) -> None:
    library, _, bare = name.partition("/")
    if name not in ENTRIES and not (library in _LIBRARIES and _LIBRARIES[library].has(bare)):
        close = " or ".join(similar_architectures(name))
        known = (
            f"did you mean {close}?" if close else "names begin with cifar/, timm/, torchvision/"
        )
        raise _build_error(f"there is no architecture {name!r}; {known}")
    if in_channels not in (1, 3):
        raise _build_error(f"{name} takes images of 1 or 3 channels, not of {in_channels}")
    if num_classes < 1:
        raise _build_error(f"{name} needs a class, not {num_classes}")
    entry = ENTRIES.get(name) or architectures().get(name)
    if entry is not None and input_size < entry.min_input_size:
        raise _build_error(
            f"{name} takes images of {entry.min_input_size} pixels or more, not of {input_size}"
        )


def _build_error(message: str) -> UserError:
    return UserError("student_incompatible", message)
