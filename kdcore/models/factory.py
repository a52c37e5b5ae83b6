"""Build any network by its name: one of CIFAR's, torchvision's or timm's, or a derived one.

A derived student has a teacher's architecture with cheaper convolutions or another width. Source:
Crowley, Gray, Storkey 2018, "Moonshine: distilling with cheap convolutions",
https://arxiv.org/abs/1711.02613.
"""

import copy
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from kdcore.models.feature_hooks import find_classifier
from kdcore.models.registry import build_architecture
from kdcore.models.trace import trace_calls
from kdcore.protocol.events import ErrorDetail
from kdcore.runtime.errors import UserError, error_detail
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


Convolution = Literal["grouped", "depthwise_separable"]


def derive(  # noqa: PLR0913 - each is a choice of its own
    teacher_architecture: str,
    *,
    convolution: Convolution = "grouped",
    groups: int = 1,
    width: float = 1.0,
    num_classes: int,
    in_channels: int = 3,
    input_size: int = 32,
) -> nn.Module:
    """Build the teacher's architecture with cheaper convolutions and fresh weights.

    ``grouped`` replaces each standard convolution with a kernel of more than one pixel by a
    convolution of ``groups`` groups and a pointwise convolution; the stem stays. 1 group changes
    nothing. ``depthwise_separable`` uses one group for each channel and ignores ``groups``. All
    channels except those of the image and the logits are multiplied with ``width`` and rounded.

    Raises :class:`UserError` ``student_incompatible``, which names each layer whose channels the
    groups do not divide, and for a network that cannot have this width.
    """
    _check_arguments(groups, width)
    build_network = functools.partial(
        build_architecture,
        teacher_architecture,
        num_classes=num_classes,
        in_channels=in_channels,
        input_size=input_size,
    )
    with torch.device("meta"):
        draft = build_network()
        image = torch.empty(1, in_channels, input_size, input_size)
        num_groups = None if convolution == "depthwise_separable" else groups
        derivation = _Derivation(
            teacher_architecture, *_stem_and_classifier(draft, image), width, num_groups
        )
        derivation(draft)
        derivation.check(draft, image, num_classes)
    network = build_network()
    derivation(network)
    return network


def _check_arguments(groups: int, width: float) -> None:
    if groups < 1 or not width > 0:
        raise UserError(
            "student_incompatible",
            "a derived student needs 1 group or more and a width above 0, not "
            f"{groups} and {width}",
        )


class _Derivation:
    """Changes one network in place: first a draft on the meta device, then the real network."""

    def __init__(
        self, name: str, stem: str, classifier: str | None, width: float, groups: int | None
    ) -> None:
        self.name = name
        self.stem = stem
        self.classifier = classifier
        self.width = width
        self.groups = groups

    def __call__(self, network: nn.Module) -> None:
        if self.width != 1:
            issues = WidthScaler(self.width, self.stem, self.classifier)(network)
            if issues:
                raise UserError(
                    "student_incompatible",
                    f"{self.name} cannot have {self.width} times its width: {issues[0].name} "
                    f"{issues[0].detail}",
                    hint="choose another width, or a teacher of convolutions and batch norms only",
                    items=issues,
                )
        if self.groups != 1:
            convolutions = standard_convolutions(network, self.stem)
            if not convolutions:
                raise UserError(
                    "student_incompatible",
                    f"{self.name} has no standard convolution to replace; leave the convolutions "
                    "unchanged, with 1 group",
                )
            replace_with_grouped(network, convolutions, self.groups)

    def check(self, draft: nn.Module, image: Tensor, num_classes: int) -> None:
        """Run the changed draft once. Raises :class:`UserError` if its shapes do not fit."""
        try:
            with torch.no_grad():
                shape = tuple(draft.eval()(image).shape)
        except (RuntimeError, ValueError, AssertionError) as error:
            raise UserError(
                "student_incompatible",
                f"{self.name} does not fit together at {self.width} times its width: {error}",
                hint="choose a width that gives integers of channels, such as 0.25 or 0.5",
            ) from error
        if shape != (1, num_classes):
            raise UserError(
                "student_incompatible", f"{self.name} would return {shape}, not (1, {num_classes})"
            )


def _stem_and_classifier(network: nn.Module, image: Tensor) -> tuple[str, str | None]:
    """Return the paths of the first convolution and of the layer that returns the logits."""
    calls, logits = trace_calls(network, image)
    stem = next((call.path for call in calls if isinstance(call.module, nn.Conv2d)), "")
    return stem, find_classifier(calls, logits)


class WidthScaler:
    """Multiplies the channels of all layers except those of images and logits.

    Equal numbers of channels stay equal, so residual additions still fit.
    """

    def __init__(self, width: float, stem: str, classifier: str | None) -> None:
        self.width = width
        self.stem = stem
        self.classifier = classifier
        self.issues: list[ErrorDetail] = []

    def __call__(self, network: nn.Module) -> list[ErrorDetail]:
        """Change the network in place and return every layer that cannot be changed."""
        for path, module in network.named_modules():
            if isinstance(module, nn.Conv2d):
                self._scale_convolution(path, module)
            elif isinstance(module, nn.BatchNorm2d):
                resize_norm(module, self._scale_channels(module.num_features))
            elif isinstance(module, nn.Linear):
                resize_linear(
                    module,
                    self._scale_channels(module.in_features),
                    self._scale_outputs(path, module.out_features),
                )
            elif any(True for _ in module.parameters(recurse=False)):
                self.issues.append(
                    error_detail(
                        path or "the network", f"{type(module).__name__} has a fixed width"
                    )
                )
        return self.issues

    def _scale_convolution(self, path: str, conv: nn.Conv2d) -> None:
        inputs = conv.in_channels if path == self.stem else self._scale_channels(conv.in_channels)
        outputs = self._scale_outputs(path, conv.out_channels)
        groups = inputs if conv.groups == conv.in_channels > 1 else conv.groups
        if inputs % groups or outputs % groups:
            self.issues.append(
                error_detail(
                    path, f"has {groups} groups, and would have {inputs} and {outputs} channels"
                )
            )
            return
        resize_convolution(conv, inputs, outputs, groups)

    def _scale_outputs(self, path: str, outputs: int) -> int:
        return outputs if path == self.classifier else self._scale_channels(outputs)

    def _scale_channels(self, channels: int) -> int:
        return max(1, round(channels * self.width))


def standard_convolutions(network: nn.Module, stem: str) -> dict[str, nn.Conv2d]:
    """Return, by path, all ungrouped convolutions larger than 1x1, except the stem."""
    return {
        path: module
        for path, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
        and module.groups == 1
        and math.prod(module.kernel_size) > 1
        and path != stem
    }


def replace_with_grouped(
    network: nn.Module, convolutions: dict[str, nn.Conv2d], groups: int | None
) -> None:
    """Replace each convolution by a grouped one of the same channels and a pointwise one.

    ``groups=None`` uses one group for each channel. Raises :class:`UserError`
    ``student_incompatible``, which names every layer whose channels the groups do not divide.
    """
    wrong = [
        error_detail(path, f"has {conv.in_channels} channels")
        for path, conv in convolutions.items()
        if groups is not None and conv.in_channels % groups
    ]
    if wrong:
        common = math.gcd(*(conv.in_channels for conv in convolutions.values()))
        raise UserError(
            "student_incompatible",
            f"{groups} groups do not divide the channels of {wrong[0].name}, which "
            f"{wrong[0].detail}; possible for every layer: {_divisor_list(common)} groups",
            hint="choose one of these numbers of groups, or depthwise_separable",
            items=wrong,
        )
    for path, conv in convolutions.items():
        parent, _, name = path.rpartition(".")
        replacement = _separable_convolution(conv, groups or conv.in_channels)
        setattr(network.get_submodule(parent), name, replacement)


def resize_convolution(conv: nn.Conv2d, inputs: int, outputs: int, groups: int) -> None:
    """Change channels and groups, and draw new weights (He et al. 2015, fan-out)."""
    conv.in_channels, conv.out_channels, conv.groups = inputs, outputs, groups
    shape = (outputs, inputs // groups, *conv.kernel_size)
    conv.weight = nn.Parameter(conv.weight.new_empty(shape))
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        conv.bias = nn.Parameter(conv.bias.new_zeros(outputs))


def resize_norm(norm: nn.BatchNorm2d, channels: int) -> None:
    """Change the channels; the norm starts as the identity."""
    norm.num_features = channels
    if norm.affine:
        norm.weight = nn.Parameter(norm.weight.new_ones(channels))
        norm.bias = nn.Parameter(norm.bias.new_zeros(channels))
    if norm.running_mean is not None and norm.running_var is not None:
        norm.running_mean = norm.running_mean.new_zeros(channels)
        norm.running_var = norm.running_var.new_ones(channels)


def resize_linear(linear: nn.Linear, inputs: int, outputs: int) -> None:
    """Change the features, and draw new weights as torch does."""
    linear.in_features, linear.out_features = inputs, outputs
    linear.weight = nn.Parameter(linear.weight.new_empty(outputs, inputs))
    if linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias.new_empty(outputs))
    linear.reset_parameters()


def _separable_convolution(conv: nn.Conv2d, groups: int) -> nn.Sequential:
    pointwise = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        1,
        bias=conv.bias is not None,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    )
    resize_convolution(pointwise, conv.in_channels, conv.out_channels, 1)
    # A copy, because convolutions of some libraries pad or scale differently.
    spatial = copy.deepcopy(conv)
    spatial.bias = None
    resize_convolution(spatial, conv.in_channels, conv.in_channels, groups)
    return nn.Sequential(spatial, pointwise)


def _divisor_list(number: int) -> str:
    return ", ".join(str(divisor) for divisor in _divisors(number))


def _divisors(number: int) -> Iterator[int]:
    return (divisor for divisor in range(1, number + 1) if number % divisor == 0)
