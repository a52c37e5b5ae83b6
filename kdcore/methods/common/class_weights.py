"""Class weights for cross-entropy."""

from typing import Literal

import torch
from torch import Tensor


def class_weights(
    setting: Literal["balanced"] | tuple[float, ...] | None, targets: Tensor, num_classes: int
) -> Tensor | None:
    """Weights (C,) of the classes in cross-entropy; None if all classes count alike.

    ``setting`` is ``training.class_weights`` of the job. ``balanced`` gives N / (C · N_c) over the
    labeled ``targets`` (N,), like scikit-learn's ``compute_class_weight``.
    """
    if setting is None:
        return None
    if setting != "balanced":
        return torch.tensor(setting)
    labeled = targets[targets >= 0]
    counts = torch.bincount(labeled, minlength=num_classes)
    return len(labeled) / (num_classes * counts.clamp_min(1).float())
