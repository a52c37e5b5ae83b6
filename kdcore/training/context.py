"""What the trainings of one job share: data, teachers, recipe, and where a student starts from."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdcore.data.dataset import MappedDataset
from kdcore.data.loader import Loader, steps_per_epoch
from kdcore.data.rng import derive_key
from kdcore.models.factory import build
from kdcore.models.normalized_model import NormalizedModel
from kdcore.models.teachers import TeacherEnsemble
from kdcore.runtime.errors import UserError
from kdcore.schema.catalog import Normalization
from kdcore.schema.job import ResolvedJob, ResolvedStudent, network_channels
from kdcore.schema.methods import METHODS
from kdcore.schemes.base import Role, StudentResult, StudentSpec
from kdcore.training.teacher_cache.provider import TeacherCacheConfig

_FRESH_ROLES: tuple[Role, ...] = ("peer", "assistant")
"""Who starts from fresh weights, whatever the student starts from: two pupils of one cohort that
start alike and see the same views would never differ."""
_INIT_STREAM = 3
"""Stream of a seed for fresh weights; the views and orders have others."""


@dataclass(frozen=True)
class JobContext:
    """One job's material. Tensors are on the CPU."""

    job: ResolvedJob
    dataset: MappedDataset
    teachers: TeacherEnsemble
    normalization: Normalization
    """The student's, for what its network sees."""
    init_weights: dict[str, Tensor] | None = None
    """Weights that the job's student starts from; None means fresh ones."""
    input_size: int | None = None
    """Side that the student's network wants, where it is not the data set's."""
    cache_config: TeacherCacheConfig | None = None
    """Where the teachers' answers may be kept; None keeps none."""
    teacher_val_logits: Tensor | None = None
    """The teachers' logits (N, C) on the validation split."""

    def build_student(
        self, student_spec: StudentSpec, seed: int, index: int = 0
    ) -> NormalizedModel:
        """A network before its first step, on the CPU: equal for equal seeds and places.

        ``place`` tells those of one cohort apart. Raises ``UserFault`` where the job's weights are
        another network's.
        """
        torch.manual_seed(
            derive_key(seed, _INIT_STREAM) if index == 0 else derive_key(seed, _INIT_STREAM, index)
        )
        network = self.build_network(student_spec.student)
        if self.init_weights is not None and student_spec.role not in _FRESH_ROLES:
            try:
                network.load_state_dict(self.init_weights, strict=True)
            except RuntimeError as error:
                raise UserError(
                    "student_incompatible",
                    "the weights to start from are not those of "
                    f"{student_spec.student.network}: {error}",
                ) from error
        return self._normalize(network, student_spec.student)

    def build_network(self, student: ResolvedStudent) -> nn.Module:
        """The network itself, with fresh weights from torch's global generator."""
        info = self.dataset.info
        return build(
            student.network,
            num_classes=len(info.classes),
            in_channels=network_channels(student.channels, info.in_channels),
            input_size=self.input_size or info.image_size,
        )

    def load_trained(self, result: StudentResult) -> NormalizedModel:
        """The network of a result, with its best epoch's weights, on the CPU."""
        # The fresh weights that it is built with are all replaced: no seed is needed.
        network = self.build_network(result.student)
        network.load_state_dict(result.weights, strict=True)
        return self._normalize(network, result.student)

    def _normalize(self, network: nn.Module, student: ResolvedStudent) -> NormalizedModel:
        return NormalizedModel(network, self.normalization, self.input_size, student.channels)

    def build_loader(self, seed: int, student_spec: StudentSpec, device: torch.device) -> Loader:
        """The training images as this seed shuffles and augments them.

        Unlabeled ones are among them where the pupil's methods can do without labels.
        """
        training = self.job.training
        unlabeled = self._unlabeled_images(student_spec)
        return Loader(
            self.dataset.images("train"),
            self.dataset.targets("train"),
            unlabeled=unlabeled if len(unlabeled) else None,
            batch_size=training.batch_size,
            augmentation=training.augmentation,
            seed=seed,
            device=device,
            num_views=None if training.views == "fresh" else training.views,
            view_seed=training.view_seed,
        )

    def steps_per_epoch(self, student_spec: StudentSpec) -> int:
        """Batches of one epoch of all the images that teach this pupil."""
        count = len(self.dataset.targets("train")) + len(self._unlabeled_images(student_spec))
        return steps_per_epoch(count, self.job.training.batch_size)

    def _unlabeled_images(self, student_spec: StudentSpec) -> Tensor:
        images = self.dataset.images("unlabeled")
        return images if learns_from_unlabeled(student_spec) else images[:0]


def learns_from_unlabeled(student_spec: StudentSpec) -> bool:
    """Whether images without labels teach this pupil anything: some method must, all must bear it.

    Supervised has no term of its own, so beside others it does not count.
    """
    methods = [
        m.type
        for m in (*student_spec.methods, *student_spec.peer_methods)
        if m.type != "supervised"
    ]
    label_methods = [name for name in methods if {"target", "index"} & set(METHODS[name].needs)]
    return bool(methods) and not label_methods
