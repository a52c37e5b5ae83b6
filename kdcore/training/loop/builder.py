"""Build the students of a phase: networks, feature hooks, objectives, adapters and optimizers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kdcore.data.rng import derive_key
from kdcore.methods import create_method
from kdcore.methods.base import DataFacts, Outputs
from kdcore.methods.common.class_weights import class_weights
from kdcore.methods.common.cross_entropy import LabelLoss
from kdcore.methods.common.objective import Objective
from kdcore.models.normalized_model import NormalizedModel
from kdcore.models.teachers import TeacherEnsemble
from kdcore.schema.methods import AnyMethod
from kdcore.schemes.base import Phase
from kdcore.training.compute.device import ComputeEnv
from kdcore.training.context import JobContext
from kdcore.training.loop.features import (
    FeatureExtractor,
    FeatureNeeds,
    LayerChoice,
    build_extractors,
    run_teachers,
)
from kdcore.training.loop.student_group import StudentGroup
from kdcore.training.loop.student_trainer import TrainableStudent
from kdcore.training.loop.weight_search import build_weight_plan
from kdcore.training.teacher_cache.provider import LiveTeacherOutputs

_ADAPTER_STREAM = 7
"""RNG stream for the initial weights of adapters."""


class TrainingExtent(NamedTuple):
    """How much a phase trains."""

    targets: Tensor
    """(N,) labels of all training images, with those without a label."""
    total_steps: int


@dataclass(frozen=True)
class ProbeOutputs:
    """Outputs of all networks of a phase for the probe, from which adapters get their shapes."""

    students: list[Outputs]
    teachers: list[Outputs]

    def peers_of(self, index: int) -> list[Outputs]:
        """Outputs of all students but the one at ``index``."""
        return self.students[:index] + self.students[index + 1 :]


class StudentBuilder:
    """Builds one student of a phase, the one at ``index``."""

    def __init__(
        self,
        context: JobContext,
        phase: Phase,
        index: int,
        teacher_weights: Sequence[float],
        extent: TrainingExtent,
    ) -> None:
        self._spec, self._index = phase.students[index], index
        self._training = context.job.training
        self._facts = DataFacts(
            len(extent.targets), len(context.dataset.info.classes), extent.targets
        )
        weights = class_weights(
            self._training.class_weights, extent.targets, self._facts.num_classes
        )
        steps = extent.total_steps
        self._weight_plan = build_weight_plan(self._spec, steps)
        label_weight = self._weight_plan.label_weight(step=1, active=frozenset())
        labels = LabelLoss(label_weight, self._training.label_smoothing, weights)
        self._objective = _build_objective(self._spec.methods, labels, teacher_weights, steps)
        self._peer_objectives = [
            _build_objective(self._spec.peer_methods, LabelLoss(0.0), (1.0,), steps)
            for _ in phase.students[1:]
        ]
        self._network = context.build_student(self._spec, phase.seed, index)

    def choose_layers(self, device: torch.device) -> LayerChoice:
        """The network on ``device``, with the feature layers that the job names for it."""
        # torch declares no overload with a memory format for keyword arguments alone.
        network: NormalizedModel = self._network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return LayerChoice(network, self._spec.student.taps)

    def build(
        self, extractor: FeatureExtractor, probe_outputs: ProbeOutputs, device: torch.device
    ) -> TrainableStudent:
        """Create the adapters, from torch's global generator, and the optimizer."""
        outputs = probe_outputs.students[self._index]
        objective = self._objective
        teachers = probe_outputs.teachers if objective.uses_teacher else []
        objective.build(outputs, teachers, self._facts)
        peers = zip(self._peer_objectives, probe_outputs.peers_of(self._index), strict=True)
        for peer_objective, peer_outputs in peers:
            peer_objective.build(outputs, [peer_outputs], self._facts)
        peer_objectives = [peer_objective.to(device) for peer_objective in self._peer_objectives]
        return TrainableStudent(
            extractor,
            objective.to(device),
            peer_objectives,
            self._spec.peer_weight,
            self._training,
            self._weight_plan,
        )


def build_student_group(
    context: JobContext,
    phase: Phase,
    teachers: TeacherEnsemble,
    compute_env: ComputeEnv,
    extent: TrainingExtent,
) -> StudentGroup:
    """The students of ``phase`` before their first step, with their ``teachers``.

    Raises ``UserError`` if a network lacks features that a method needs.
    """
    device = compute_env.device
    builders = [
        StudentBuilder(context, phase, index, teachers.weights, extent)
        for index in range(len(phase.students))
    ]
    choices = [builder.choose_layers(device) for builder in builders]
    choices += [LayerChoice(member.network, member.taps) for member in teachers.members]
    probe = context.probe(device)
    extractors = build_extractors(choices, probe, FeatureNeeds.from_needs(phase.needs))
    students, live = extractors[: len(builders)], extractors[len(builders) :]
    probe_outputs = ProbeOutputs(
        [_eval_outputs(extractor, probe) for extractor in students],
        run_teachers(live, probe, compute_env.autocast()),
    )
    # Adapters get equal weights however many numbers the networks drew.
    torch.manual_seed(derive_key(phase.seed, _ADAPTER_STREAM))
    return StudentGroup(
        [
            builder.build(extractor, probe_outputs, device)
            for builder, extractor in zip(builders, students, strict=True)
        ],
        LiveTeacherOutputs(live, compute_env.autocast()),
        compute_env,
    )


def _build_objective(
    methods: Sequence[AnyMethod], labels: LabelLoss, weights: Sequence[float], steps: int
) -> Objective:
    return Objective([create_method(method) for method in methods], labels, weights, steps)


def _eval_outputs(extractor: FeatureExtractor, probe: Tensor) -> Outputs:
    # In eval mode the probe does not change running statistics.
    extractor.network.eval()
    with torch.no_grad():
        return extractor(probe)
