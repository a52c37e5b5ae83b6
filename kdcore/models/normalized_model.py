"""Normalize, resize and convert views for one network, so that several networks share a view."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdcore.schema.catalog import Normalization
from kdcore.schema.job import ChannelRule

_LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in luma: ITU-R BT.601, section 2.5.1."""


class NormalizedModel(nn.Module):
    """A network with its preprocessing: resize, subtract the mean, divide by the deviation.

    ``forward`` takes views (B, C, H, W), uint8 in 0..255 or floats in 0..1, and returns the
    network's logits. A view of another side than ``input_size`` is resized bilinearly with
    antialiasing; ``None`` resizes nothing. ``channels`` is the rule that converts views of other
    channels. ``class_map`` (C,) selects, for each class of the data set, a logit of the network.
    Mean, deviation and class map are not in the state dict, because they belong to the model's
    record and not to its weights.
    """

    mean: Tensor
    std: Tensor
    class_map: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        normalization: Normalization,
        input_size: int | None = None,
        channels: ChannelRule | None = None,
        class_map: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.input_size = input_size
        self.channels = channels
        classes = None if class_map is None else torch.tensor(class_map)
        self.register_buffer("class_map", classes, persistent=False)
        mean = torch.tensor(normalization.mean).view(1, -1, 1, 1)
        std = torch.tensor(normalization.std).view(1, -1, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, views: Tensor) -> Tensor:
        """Return logits (B, num_classes) of views (B, C, H, W)."""
        return self.select_classes(self.network(self.prepare(views)))

    def select_classes(self, logits: Tensor) -> Tensor:
        """Return the logits (B, C) of the data set's classes, of the network's logits."""
        return logits if self.class_map is None else logits[:, self.class_map]

    def prepare(self, views: Tensor) -> Tensor:
        """Return the normalized batch (B, C, input_size, input_size) float32."""
        if self.channels is not None:
            views = _convert_channels(views, self.channels)
        if views.shape[1] != self.mean.shape[1]:
            raise ValueError(
                f"views have {views.shape[1]} channels, the normalization has {self.mean.shape[1]}"
            )
        # In place on new tensors, because allocating memory would take longer.
        fresh = views.dtype == torch.uint8
        x = views.float().div_(255) if fresh else views.float()
        size = self.input_size
        if size is not None and x.shape[-2:] != (size, size):
            x = functional.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
            fresh = True
        return x.sub_(self.mean).div_(self.std) if fresh else (x - self.mean) / self.std


def _convert_channels(views: Tensor, channels: ChannelRule) -> Tensor:
    """Convert (B, 1, H, W) to (B, 3, H, W) by ``repeat``, or the reverse by ``luminance``."""
    if channels == "repeat":
        return views.expand(-1, 3, -1, -1)
    x = views.float() / 255 if views.dtype == torch.uint8 else views.float()
    weights = x.new_tensor(_LUMINANCE).view(1, 3, 1, 1)
    return (x * weights).sum(dim=1, keepdim=True)


def normalization_for_channels(
    normalization: Normalization, channels: ChannelRule | None
) -> Normalization:
    """Return the normalization of images that the rule ``channels`` has converted."""
    if channels is None:
        return normalization
    if channels == "repeat":
        return Normalization(mean=normalization.mean * 3, std=normalization.std * 3)
    # The channels correlate, so the mean of their deviations is close enough for scaling.
    weighted = zip(_LUMINANCE, normalization.mean, normalization.std, strict=True)
    mean, std = map(sum, zip(*((w * m, w * s) for w, m, s in weighted), strict=True))
    return Normalization(mean=(mean,), std=(std,))
