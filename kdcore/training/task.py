"""What the trainings of one job share: data, teachers, recipe, and where a student starts from."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kdcore.data.counter import fold
from kdcore.data.loader import Loader
from kdcore.data.store import DatasetStore
from kdcore.evaluation.teachers import Teachers
from kdcore.models import build
from kdcore.models.preprocess import Normalised
from kdcore.spec.catalogue import Normalisation
from kdcore.spec.job import ResolvedJob

_INIT = 3
"""Stream of a seed for fresh weights; the views and orders have others."""


@dataclass(frozen=True)
class Task:
    """One job's material. Tensors are on the CPU."""

    job: ResolvedJob
    store: DatasetStore
    teachers: Teachers
    normalisation: Normalisation
    """The student's."""
    init: dict[str, Tensor] | None = None
    """Weights that every student starts from; None means fresh ones."""
    teacher_val: Tensor | None = None
    """The teachers' logits (N, C) on the validation split."""

    def student(self, seed: int) -> Normalised:
        """The student before its first step, on the CPU: equal for equal seeds.

        Leaves torch's global generator seeded, for what the methods build next.
        """
        torch.manual_seed(fold(seed, _INIT))
        info = self.store.info
        network = build(
            self.job.student.architecture,
            num_classes=len(info.classes),
            in_channels=info.in_channels,
            input_size=info.image_size,
        )
        if self.init is not None:
            network.load_state_dict(self.init, strict=True)
        return Normalised(network, self.normalisation)

    def loader(self, seed: int, device: torch.device) -> Loader:
        """The training split as this seed shuffles and augments it."""
        recipe = self.job.training
        return Loader(
            self.store.images("train"),
            self.store.targets("train"),
            batch_size=recipe.batch_size,
            augmentation=recipe.augmentation,
            seed=seed,
            device=device,
        )
