"""From a view to what one network expects: each normalises for itself, all see the same view."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdcore.spec.catalogue import Normalisation


class Normalised(nn.Module):
    """A network behind its own input: resize to its side, subtract its mean, divide by its std.

    ``forward`` takes views (B, C, H, W), uint8 in 0..255 or floats in 0..1, and returns the
    network's logits. A view of another side than ``input_size`` is resized bilinearly with
    antialiasing; ``None`` leaves every view at its side. Mean and deviation are no part of the
    state dict: they belong to the model's record, not to its weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, normalisation: Normalisation, input_size: int | None = None
    ) -> None:
        super().__init__()
        self.network = network
        self.input_size = input_size
        mean = torch.tensor(normalisation.mean).view(1, -1, 1, 1)
        std = torch.tensor(normalisation.std).view(1, -1, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, views: Tensor) -> Tensor:
        """Logits (B, num_classes) of views (B, C, H, W)."""
        logits: Tensor = self.network(self.prepare(views))
        return logits

    def prepare(self, views: Tensor) -> Tensor:
        """The normalised float32 batch (B, C, input_size, input_size) that the network sees."""
        if views.shape[1] != self.mean.shape[1]:
            raise ValueError(
                f"views of {views.shape[1]} channels meet a normalisation of {self.mean.shape[1]}"
            )
        x = views.float() / 255 if views.dtype == torch.uint8 else views.float()
        size = self.input_size
        if size is not None and x.shape[-2:] != (size, size):
            x = functional.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
        return (x - self.mean) / self.std
