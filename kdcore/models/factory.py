"""Build any network by its name: one of CIFAR's, torchvision's or timm's, or a derived one."""

from torch import nn

from kdcore.models.derive import derive
from kdcore.models.registry import build_architecture
from kdcore.schema.derived_name import parse_derived_name


def build(name: str, *, num_classes: int, in_channels: int = 3, input_size: int = 32) -> nn.Module:
    """Build a network with fresh weights: (B, in_channels, H, W) to logits (B, num_classes).

    ``name`` is ``cifar/…``, ``torchvision/…`` or ``timm/…``, or the name of a derived network
    (:mod:`kdcore.schema.derived_name`). ``input_size`` is the side of the square images in pixels;
    some networks, such as vision transformers, depend on it. Weights are drawn from torch's global
    generator: seed it first. Raises :class:`~kdcore.runtime.errors.UserError`
    ``student_incompatible`` for an unknown name, images that are too small, channels other than 1
    or 3, and fewer than one class.
    """
    derived = parse_derived_name(name)
    if derived is None:
        return build_architecture(
            name, num_classes=num_classes, in_channels=in_channels, input_size=input_size
        )
    return derive(
        derived.architecture,
        convolution=derived.convolution,
        groups=derived.groups,
        width=derived.width,
        num_classes=num_classes,
        in_channels=in_channels,
        input_size=input_size,
    )
