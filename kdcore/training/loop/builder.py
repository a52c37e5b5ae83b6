"""A cohort before its first step."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from kdcore.data.rng import derive_key
from kdcore.methods.base import DataFacts, Outputs
from kdcore.methods.common.cross_entropy import LabelLoss
from kdcore.methods.common.objective import Objective
from kdcore.methods.registry import create_method
from kdcore.models.inference import fuse_for_inference
from kdcore.models.normalized_model import NormalizedModel
from kdcore.models.teachers import TeacherEnsemble
from kdcore.schema.methods import AnyMethod
from kdcore.schema.training import TrainingConfig
from kdcore.schemes.base import Phase, StudentSpec
from kdcore.training.compute import autocast_policy
from kdcore.training.compute.device import ComputeEnv
from kdcore.training.compute.quantized_teacher import QuantizedModel
from kdcore.training.context import JobContext
from kdcore.training.loop.features import (
    FeatureExtractor,
    FeatureNeeds,
    align_hook_points,
    find_hook_points,
    run_teachers,
)
from kdcore.training.loop.student_group import StudentGroup
from kdcore.training.loop.student_trainer import TrainableStudent
from kdcore.training.teacher_cache.provider import LiveTeacherOutputs

_ADAPTER_STREAM = 7
"""Stream of a seed for the weights of adapters."""
_PROBE_IMAGES = 2
"""Images that tell the methods the shapes of both networks' outputs."""


def build_student_group(
    context: JobContext,
    phase: Phase,
    teachers: TeacherEnsemble,
    compute_env: ComputeEnv,
    targets_and_steps: tuple[Tensor, int],
) -> StudentGroup:
    """The cohort of ``phase``: fresh or given weights, adapters built, optimizers empty.

    ``samples`` are the targets (N,) of all images that will be seen, and the number of steps.
    """
    targets, steps = targets_and_steps
    builders = [
        _StudentBuilder(context, student_spec, phase, index)
        for index, student_spec in enumerate(phase.students)
    ]
    objectives = [builder.build_objectives(targets, steps, teachers) for builder in builders]
    # Only who is asked anything runs at all.
    active_teachers = (
        teachers if any(main.uses_teacher for main, _ in objectives) else TeacherEnsemble(())
    )
    needs = [objective.needs for main, peers in objectives for objective in (main, *peers)]
    feature_needs = FeatureNeeds.from_needs(frozenset(itertools.chain.from_iterable(needs)))
    networks = [builder.build_network(compute_env) for builder in builders]
    probe = context.dataset.images("train")[:_PROBE_IMAGES].to(compute_env.device)
    if not (feature_needs.maps or feature_needs.pooled):
        # Where only answers are wanted, nobody looks inside.
        active_teachers = _in_bfloat16(active_teachers, probe, context.job.training)
    extractors = _build_extractors(
        networks, [builder.taps for builder in builders], active_teachers, probe, feature_needs
    )
    student_extractors, teacher_extractors = (
        extractors[: len(networks)],
        extractors[len(networks) :],
    )
    # Adapters start alike however many numbers the networks drew.
    torch.manual_seed(derive_key(phase.seed, _ADAPTER_STREAM))
    _build_adapters(
        student_extractors,
        teacher_extractors,
        objectives,
        _data_facts(context, targets),
        probe,
        compute_env,
    )
    students = [
        _build_student(extractor, pair, student_spec, context.job.training, compute_env)
        for extractor, pair, student_spec in zip(
            student_extractors, objectives, phase.students, strict=True
        )
    ]
    return StudentGroup(
        students, LiveTeacherOutputs(teacher_extractors, compute_env.autocast()), compute_env
    )


def _in_bfloat16(
    teachers: TeacherEnsemble, probe: Tensor, training: TrainingConfig
) -> TeacherEnsemble:
    """The same teachers, in bfloat16 where that pays and may be; eight bits stay what they are."""
    if training.precision == "float32":
        return teachers
    return TeacherEnsemble(
        [
            replace(member, network=fuse_for_inference(member.network, probe))
            if not isinstance(member.network.network, QuantizedModel)
            and (training.precision == "bfloat16" or _gains_from_bfloat16(member.network, probe))
            else member
            for member in teachers.members
        ]
    )


def _gains_from_bfloat16(teacher: NormalizedModel, probe: Tensor) -> bool:
    image = teacher.prepare(probe[:1])
    chosen = autocast_policy.teacher_precision(
        image.device, teacher.network, image.shape[1], image.shape[2]
    )
    return chosen == "bfloat16"


class _StudentBuilder:
    """What becomes of one pupil."""

    def __init__(
        self, context: JobContext, student_spec: StudentSpec, phase: Phase, index: int
    ) -> None:
        self._context, self._student_spec, self._phase, self._index = (
            context,
            student_spec,
            phase,
            index,
        )
        self.taps = student_spec.student.taps

    def build_objectives(
        self, targets: Tensor, steps: int, teachers: TeacherEnsemble
    ) -> tuple[Objective, list[Objective]]:
        """What it learns from labels and teachers, and what from each of its peers."""
        student_spec, training = self._student_spec, self._context.job.training
        labels = LabelLoss(
            student_spec.label_weight,
            training.label_smoothing,
            class_weights(training, targets, len(self._context.dataset.info.classes)),
        )
        main = _build_objective(student_spec.methods, labels, teachers.weights, steps)
        peers = [
            _build_objective(student_spec.peer_methods, LabelLoss(0.0), (1.0,), steps)
            for _ in self._phase.students[1:]
        ]
        return main, peers

    def build_network(self, compute_env: ComputeEnv) -> NormalizedModel:
        network = self._context.build_student(self._student_spec, self._phase.seed, self._index)
        return network.to(compute_env.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def class_weights(training: TrainingConfig, targets: Tensor, num_classes: int) -> Tensor | None:
    """(C,) weights of the classes in cross-entropy, or None where all count alike.

    ``balanced`` is N / (C · N_c) over the labeled images, as scikit-learn has it.
    """
    if training.class_weights is None:
        return None
    if training.class_weights != "balanced":
        return torch.tensor(training.class_weights)
    labeled = targets[targets >= 0]
    counts = torch.bincount(labeled, minlength=num_classes)
    return len(labeled) / (num_classes * counts.clamp_min(1).float())


def _build_objective(
    methods: Sequence[AnyMethod], labels: LabelLoss, weights: Sequence[float], steps: int
) -> Objective:
    return Objective([create_method(method) for method in methods], labels, weights, steps)


def _build_extractors(
    networks: Sequence[NormalizedModel],
    named_paths: Sequence[tuple[str, ...] | None],
    teachers: TeacherEnsemble,
    probe: Tensor,
    feature_needs: FeatureNeeds,
) -> list[FeatureExtractor]:
    """The networks and after them the teachers, tapped where the methods want it."""
    all_networks = [*networks, *teachers.networks]
    # Who names taps for methods that look at no maps has named nothing.
    paths = [
        path if feature_needs.maps else None
        for path in (*named_paths, *(member.taps for member in teachers.members))
    ]
    hook_points = [
        find_hook_points(network, probe[:1], path, feature_needs)
        for network, path in zip(all_networks, paths, strict=True)
    ]
    return [
        FeatureExtractor(network, aligned, feature_needs)
        for network, aligned in zip(
            all_networks, align_hook_points(hook_points, paths), strict=True
        )
    ]


def _build_adapters(
    students: Sequence[FeatureExtractor],
    teachers: Sequence[FeatureExtractor],
    objectives: Sequence[tuple[Objective, list[Objective]]],
    facts: DataFacts,
    probe: Tensor,
    compute_env: ComputeEnv,
) -> None:
    """Let all methods make their adapters from what everyone gives for the probe."""
    teacher_outputs = run_teachers(teachers, probe, compute_env.autocast())
    with torch.no_grad():
        # In eval mode, so that the probe leaves no trace in running statistics.
        outputs = [_eval_outputs(student, probe) for student in students]
    for index, (main, peer_objectives) in enumerate(objectives):
        main.build(outputs[index], teacher_outputs if main.uses_teacher else [], facts)
        peer_outputs = outputs[:index] + outputs[index + 1 :]
        for objective, peer in zip(peer_objectives, peer_outputs, strict=True):
            objective.build(outputs[index], [peer], facts)


def _eval_outputs(extractor: FeatureExtractor, probe: Tensor) -> Outputs:
    extractor.network.eval()
    return extractor(probe)


def _data_facts(context: JobContext, targets: Tensor) -> DataFacts:
    return DataFacts(len(targets), len(context.dataset.info.classes), targets)


def _build_student(
    extractor: FeatureExtractor,
    objectives: tuple[Objective, list[Objective]],
    student_spec: StudentSpec,
    training: TrainingConfig,
    compute_env: ComputeEnv,
) -> TrainableStudent:
    main, peers = objectives
    peer_objectives = [objective.to(compute_env.device) for objective in peers]
    return TrainableStudent(
        extractor, main.to(compute_env.device), peer_objectives, student_spec.peer_weight, training
    )
