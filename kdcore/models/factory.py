"""Build any network by its name: one of CIFAR's, torchvision's or timm's, or a derived one."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

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


def select_classes(
    weights: Mapping[str, Tensor], class_map: Sequence[int], name: str, **shape: int
) -> dict[str, Tensor]:
    """Return ``weights`` with the classes in ``class_map`` alone, in its order.

    The returned weights fit ``build(name, num_classes=len(class_map), **shape)``: of every tensor
    with an entry for each class, the entries of ``class_map`` are copied.
    """
    num_classes = len(class_map)
    with torch.device("meta"):
        fewer, more = (
            build(name, num_classes=number, **shape).state_dict()
            for number in (num_classes, num_classes + 1)
        )
    index = torch.tensor(class_map)
    selected = dict(weights)
    for key, tensor in weights.items():
        for dim, (size, larger_size) in enumerate(
            zip(fewer[key].shape, more[key].shape, strict=True)
        ):
            if size != larger_size:
                selected[key] = tensor.index_select(dim, index.to(tensor.device))
    return selected
