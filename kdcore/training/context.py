"""JobContext: the data, teachers and initial weights that all trainings of a job share."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from kdcore.data.dataset import MappedDataset
from kdcore.data.loader import Loader, steps_per_epoch
from kdcore.data.rng import derive_key
from kdcore.models.factory import build
from kdcore.models.normalized_model import NormalizedModel
from kdcore.models.programs.program_network import ProgramNetwork
from kdcore.models.teachers import TeacherEnsemble
from kdcore.runtime.errors import UserError
from kdcore.schema.catalog import Normalization
from kdcore.schema.job import ResolvedJob, ResolvedStudent, network_channels
from kdcore.schema.report import Finding
from kdcore.schemes.base import StudentResult, StudentSpec

_INIT_STREAM = 3
"""RNG stream for initial weights."""
_PROBE_IMAGES = 2
"""Images of the batch from which methods learn the shapes of all outputs."""


@dataclass(frozen=True)
class JobContext:
    """The inputs of one job. Tensors are on the CPU."""

    job: ResolvedJob
    dataset: MappedDataset
    teachers: TeacherEnsemble
    normalization: Normalization
    """Normalization in front of the student's network."""
    init_weights: dict[str, Tensor] | None = None
    """Initial weights of the job's student; None means random ones."""
    input_size: int | None = None
    """Input side of the student's network in pixels, if it differs from the data set's."""
    evaluated_program: ProgramNetwork | None = None
    """The network to evaluate, if a file defines it; None for all other jobs."""
    dataset_sha256: str = ""
    """Digest of the data set's file."""
    cache_folder: Path | None = None
    """Folder of cached teacher outputs; None disables the teacher cache."""
    teacher_val_logits: Tensor | None = None
    """The teachers' logits (N, C) on the validation split."""
    warnings: tuple[str, ...] = ()
    """Sentences about the inputs, for the report."""
    teacher_findings: tuple[Finding, ...] = ()
    """Measured faults of the teachers, for the verdict."""
    normalization_declared: bool = True
    """Whether the initial weights came with their normalization."""
    is_order_known: bool = True
    """Whether the classes of the initial weights have a known order."""

    def build_student(
        self, student_spec: StudentSpec, seed: int, index: int = 0
    ) -> NormalizedModel:
        """Build a network with its initial weights, on the CPU.

        Equal ``seed`` and ``index`` (the student's position in its phase) give equal weights.
        Raises ``UserError`` if the job's initial weights belong to another network.
        """
        torch.manual_seed(
            derive_key(seed, _INIT_STREAM) if index == 0 else derive_key(seed, _INIT_STREAM, index)
        )
        network = self.build_network(student_spec.student)
        if self.init_weights is not None and not student_spec.random_init:
            try:
                network.load_state_dict(self.init_weights, strict=True)
            except RuntimeError as error:
                raise UserError(
                    "student_incompatible",
                    f"the initial weights are not those of {student_spec.student.network}: {error}",
                ) from error
        return self._normalize(network, student_spec.student)

    def build_network(self, student: ResolvedStudent) -> nn.Module:
        """The plain network with random weights from torch's global generator."""
        info = self.dataset.info
        return build(
            student.network,
            num_classes=len(info.classes),
            in_channels=network_channels(student.channels, info.in_channels),
            input_size=self.input_size or info.image_size,
        )

    def load_trained(self, result: StudentResult) -> NormalizedModel:
        """The network of a result with the weights of its best epoch, on the CPU."""
        if self.evaluated_program is not None:
            return self._normalize(self.evaluated_program, result.student)
        # All random weights are replaced, so no seed is needed.
        network = self.build_network(result.student)
        network.load_state_dict(result.weights, strict=True)
        return self._normalize(network, result.student)

    def _normalize(self, network: nn.Module, student: ResolvedStudent) -> NormalizedModel:
        # The classes of other networks were selected among their weights.
        class_map = student.class_map if self.evaluated_program is not None else None
        return NormalizedModel(
            network, self.normalization, self.input_size, student.channels, class_map
        )

    def probe(self, device: torch.device) -> Tensor:
        """A small batch (B, C, H, W) of training images, uint8, to find the shapes of outputs."""
        return self.dataset.images("train")[:_PROBE_IMAGES].to(device)

    def build_loader(self, seed: int, student_spec: StudentSpec, device: torch.device) -> Loader:
        """The training images in the order and with the augmentation that ``seed`` draws.

        Includes the unlabeled images if the student can learn from them.
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
        """Batches in one epoch of all images that train this student."""
        count = len(self.dataset.targets("train")) + len(self._unlabeled_images(student_spec))
        return steps_per_epoch(count, self.job.training.batch_size)

    def _unlabeled_images(self, student_spec: StudentSpec) -> Tensor:
        images = self.dataset.images("unlabeled")
        return images if student_spec.learns_from_unlabeled else images[:0]
