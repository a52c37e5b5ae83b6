"""Change the width and groups of layers in place, with fresh weights."""

import copy
import math
from collections.abc import Iterator

from torch import nn

from kdcore.protocol.events import ErrorDetail
from kdcore.runtime.errors import UserError, error_detail


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
                        path or "the network", f"{type(module).__name__} has one width only"
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
