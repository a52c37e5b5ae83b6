"""Samples of other classes, drawn for a whole batch at once."""

import torch
from torch import Tensor, nn

from kdcore.runtime.errors import UserError


class NegativeSampler(nn.Module):
    """Draws from the images of other classes, however many each class has.

    ``targets`` are the labels (N,) of all images. Its buffers follow from the data, so they are not
    in the checkpoint. Raises ``UserFault`` (dataset_invalid) where all images are of one class.
    """

    order: Tensor  # (N,) sample ids, class by class
    first: Tensor  # (C,) where a class begins in ``order``
    count: Tensor  # (C,) how many images it has

    def __init__(self, targets: Tensor, num_classes: int) -> None:
        super().__init__()
        targets = targets.cpu().long()
        count = torch.bincount(targets, minlength=num_classes)
        self.num_samples = len(targets)
        self.min_candidates = self.num_samples - int(count.max())
        """Images that even the largest class has against it."""
        if self.min_candidates == 0:
            raise UserError(
                "dataset_invalid",
                "crd tells an image from those of other classes, and all training images are of "
                "one class",
                hint="Choose another method, or a data set of two classes or more.",
            )
        for name, value in (
            ("order", targets.argsort(stable=True)),
            ("first", count.cumsum(0) - count),
            ("count", count),
        ):
            self.register_buffer(name, value, persistent=False)

    def sample(self, target: Tensor, num_negatives: int) -> Tensor:
        """Sample ids (B, number) of other classes than ``target`` (B,), with replacement.

        Each other image is equally likely; from torch's global generator of the device.
        """
        count, first = self.count[target].unsqueeze(1), self.first[target].unsqueeze(1)
        shape = (len(target), num_negatives)
        # float64: float32 has fewer steps between 0 and 1 than some data sets have images.
        uniform = torch.rand(shape, dtype=torch.float64, device=target.device)
        others = self.num_samples - count
        offset = torch.minimum((uniform * others).long(), others - 1)
        # The class itself lies in one piece: step over it.
        return self.order[offset + (offset >= first) * count]
