"""What the trainings of one job share: data, teachers, recipe, and where a student starts from."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdcore.data.dataset import DatasetStore
from kdcore.data.loader import Loader, steps_per_epoch
from kdcore.data.rng import fold
from kdcore.models import build
from kdcore.models.normalized_model import Normalised
from kdcore.models.teachers import Teachers
from kdcore.runtime.errors import UserFault
from kdcore.schema.catalog import Normalisation
from kdcore.schema.job import ResolvedJob, ResolvedStudent, channels_of
from kdcore.schema.methods import METHODS
from kdcore.schemes.base import Pupil, Result, Role
from kdcore.training.teacher_cache.provider import Place

_FRESH: tuple[Role, ...] = ("peer", "assistant")
"""Who starts from fresh weights, whatever the student starts from: two pupils of one cohort that
start alike and see the same views would never differ."""
_INIT = 3
"""Stream of a seed for fresh weights; the views and orders have others."""


@dataclass(frozen=True)
class Task:
    """One job's material. Tensors are on the CPU."""

    job: ResolvedJob
    store: DatasetStore
    teachers: Teachers
    normalisation: Normalisation
    """The student's, for what its network sees."""
    init: dict[str, Tensor] | None = None
    """Weights that the job's student starts from; None means fresh ones."""
    input_size: int | None = None
    """Side that the student's network wants, where it is not the data set's."""
    keep: Place | None = None
    """Where the teachers' answers may be kept; None keeps none."""
    teacher_val: Tensor | None = None
    """The teachers' logits (N, C) on the validation split."""

    def student(self, pupil: Pupil, seed: int, place: int = 0) -> Normalised:
        """A network before its first step, on the CPU: equal for equal seeds and places.

        ``place`` tells those of one cohort apart. Raises ``UserFault`` where the job's weights are
        another network's.
        """
        torch.manual_seed(fold(seed, _INIT) if place == 0 else fold(seed, _INIT, place))
        network = self.plain(pupil.student)
        if self.init is not None and pupil.role not in _FRESH:
            try:
                network.load_state_dict(self.init, strict=True)
            except RuntimeError as error:
                raise UserFault(
                    "student_incompatible",
                    f"the weights to start from are not those of {pupil.student.network}: {error}",
                ) from error
        return self._behind(network, pupil.student)

    def plain(self, pupil: ResolvedStudent) -> nn.Module:
        """The network itself, with fresh weights from torch's global generator."""
        info = self.store.info
        return build(
            pupil.network,
            num_classes=len(info.classes),
            in_channels=channels_of(pupil.channels, info.in_channels),
            input_size=self.input_size or info.image_size,
        )

    def trained(self, result: Result) -> Normalised:
        """The network of a result, with its best epoch's weights, on the CPU."""
        # The fresh weights that it is built with are all replaced: no seed is needed.
        network = self.plain(result.student)
        network.load_state_dict(result.weights, strict=True)
        return self._behind(network, result.student)

    def _behind(self, network: nn.Module, pupil: ResolvedStudent) -> Normalised:
        return Normalised(network, self.normalisation, self.input_size, pupil.channels)

    def loader(self, seed: int, pupil: Pupil, device: torch.device) -> Loader:
        """The training images as this seed shuffles and augments them.

        Unlabelled ones are among them where the pupil's methods can do without labels.
        """
        recipe = self.job.training
        unlabelled = self._unlabelled(pupil)
        return Loader(
            self.store.images("train"),
            self.store.targets("train"),
            unlabelled=unlabelled if len(unlabelled) else None,
            batch_size=recipe.batch_size,
            augmentation=recipe.augmentation,
            seed=seed,
            device=device,
            views=None if recipe.views == "fresh" else recipe.views,
            view_seed=recipe.view_seed,
        )

    def steps_per_epoch(self, pupil: Pupil) -> int:
        """Batches of one epoch of all the images that teach this pupil."""
        count = len(self.store.targets("train")) + len(self._unlabelled(pupil))
        return steps_per_epoch(count, self.job.training.batch_size)

    def _unlabelled(self, pupil: Pupil) -> Tensor:
        images = self.store.images("unlabelled")
        return images if learns_unlabelled(pupil) else images[:0]


def learns_unlabelled(pupil: Pupil) -> bool:
    """Whether images without labels teach this pupil anything: some method must, all must bear it.

    Supervised has no term of its own, so beside others it does not count.
    """
    methods = [m.type for m in (*pupil.methods, *pupil.peer_methods) if m.type != "supervised"]
    labelled = [name for name in methods if {"target", "index"} & set(METHODS[name].needs)]
    return bool(methods) and not labelled
