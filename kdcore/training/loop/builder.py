"""A cohort before its first step."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from kdcore.data.rng import fold
from kdcore.methods.base import DataFacts, Outputs
from kdcore.methods.common.cross_entropy import Labels
from kdcore.methods.common.objective import Objective
from kdcore.methods.registry import create
from kdcore.models.inference import answering
from kdcore.models.normalized_model import Normalised
from kdcore.models.teachers import Teachers
from kdcore.schema.methods import AnyMethod
from kdcore.schema.training import Training
from kdcore.schemes.base import Phase, Pupil
from kdcore.training.compute import autocast_policy
from kdcore.training.compute.device import Machine
from kdcore.training.compute.quantized_teacher import InEightBits
from kdcore.training.context import Task
from kdcore.training.loop.features import Observed, Wanted, asked, paired, points_of
from kdcore.training.loop.student_group import Cohort
from kdcore.training.loop.student_trainer import Learner
from kdcore.training.teacher_cache.provider import Live

_ADAPTERS = 7
"""Stream of a seed for the weights of adapters."""
_PROBE = 2
"""Images that tell the methods the shapes of both networks' outputs."""


def begin(
    task: Task, phase: Phase, teachers: Teachers, machine: Machine, samples: tuple[Tensor, int]
) -> Cohort:
    """The cohort of ``phase``: fresh or given weights, adapters built, optimizers empty.

    ``samples`` are the targets (N,) of all images that will be seen, and the number of steps.
    """
    targets, steps = samples
    makers = [_Maker(task, pupil, phase, place) for place, pupil in enumerate(phase.pupils)]
    objectives = [maker.objectives(targets, steps, teachers) for maker in makers]
    # Only who is asked anything runs at all.
    taught = teachers if any(own.taught for own, _ in objectives) else Teachers(())
    needs = [objective.needs for own, peers in objectives for objective in (own, *peers)]
    wanted = Wanted.of(frozenset(itertools.chain.from_iterable(needs)))
    networks = [maker.network(machine) for maker in makers]
    probe = task.store.images("train")[:_PROBE].to(machine.device)
    if not (wanted.maps or wanted.pooled):
        # Where only answers are wanted, nobody looks inside.
        taught = _answering(taught, probe, task.job.training)
    watched = _watch(networks, [maker.taps for maker in makers], taught, probe, wanted)
    pupils, frozen = watched[: len(networks)], watched[len(networks) :]
    # Adapters start alike however many numbers the networks drew.
    torch.manual_seed(fold(phase.seed, _ADAPTERS))
    _build(pupils, frozen, objectives, _facts(task, targets), probe, machine)
    learners = [
        _learner(observed, pair, pupil, task.job.training, machine)
        for observed, pair, pupil in zip(pupils, objectives, phase.pupils, strict=True)
    ]
    return Cohort(learners, Live(frozen, machine.autocast()), machine)


def _answering(teachers: Teachers, probe: Tensor, recipe: Training) -> Teachers:
    """The same teachers, in bfloat16 where that pays and may be; eight bits stay what they are."""
    if recipe.precision == "float32":
        return teachers
    return Teachers(
        [
            replace(member, network=answering(member.network, probe))
            if not isinstance(member.network.network, InEightBits)
            and (recipe.precision == "bfloat16" or _pays(member.network, probe))
            else member
            for member in teachers.members
        ]
    )


def _pays(teacher: Normalised, probe: Tensor) -> bool:
    image = teacher.prepare(probe[:1])
    found = autocast_policy.of_teacher(
        image.device, teacher.network, image.shape[1], image.shape[2]
    )
    return found == "bfloat16"


class _Maker:
    """What becomes of one pupil."""

    def __init__(self, task: Task, pupil: Pupil, phase: Phase, place: int) -> None:
        self._task, self._pupil, self._phase, self._place = task, pupil, phase, place
        self.taps = pupil.student.taps

    def objectives(
        self, targets: Tensor, steps: int, teachers: Teachers
    ) -> tuple[Objective, list[Objective]]:
        """What it learns from labels and teachers, and what from each of its peers."""
        pupil, recipe = self._pupil, self._task.job.training
        labels = Labels(
            pupil.label_weight,
            recipe.label_smoothing,
            class_weights(recipe, targets, len(self._task.store.info.classes)),
        )
        own = _objective(pupil.methods, labels, teachers.weights, steps)
        peers = [
            _objective(pupil.peer_methods, Labels(0.0), (1.0,), steps)
            for _ in self._phase.pupils[1:]
        ]
        return own, peers

    def network(self, machine: Machine) -> Normalised:
        network = self._task.student(self._pupil, self._phase.seed, self._place)
        return network.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def class_weights(recipe: Training, targets: Tensor, num_classes: int) -> Tensor | None:
    """(C,) weights of the classes in cross-entropy, or None where all count alike.

    ``balanced`` is N / (C · N_c) over the labelled images, as scikit-learn has it.
    """
    if recipe.class_weights is None:
        return None
    if recipe.class_weights != "balanced":
        return torch.tensor(recipe.class_weights)
    labelled = targets[targets >= 0]
    counts = torch.bincount(labelled, minlength=num_classes)
    return len(labelled) / (num_classes * counts.clamp_min(1).float())


def _objective(
    methods: Sequence[AnyMethod], labels: Labels, weights: Sequence[float], steps: int
) -> Objective:
    return Objective([create(method) for method in methods], labels, weights, steps)


def _watch(
    networks: Sequence[Normalised],
    named: Sequence[tuple[str, ...] | None],
    teachers: Teachers,
    probe: Tensor,
    wanted: Wanted,
) -> list[Observed]:
    """The networks and after them the teachers, tapped where the methods want it."""
    everyone = [*networks, *teachers.networks]
    # Who names taps for methods that look at no maps has named nothing.
    paths = [
        path if wanted.maps else None
        for path in (*named, *(member.taps for member in teachers.members))
    ]
    points = [
        points_of(network, probe[:1], path, wanted)
        for network, path in zip(everyone, paths, strict=True)
    ]
    return [
        Observed(network, point, wanted)
        for network, point in zip(everyone, paired(points, paths), strict=True)
    ]


def _build(
    pupils: Sequence[Observed],
    teachers: Sequence[Observed],
    objectives: Sequence[tuple[Objective, list[Objective]]],
    facts: DataFacts,
    probe: Tensor,
    machine: Machine,
) -> None:
    """Let all methods make their adapters from what everyone gives for the probe."""
    seen = asked(teachers, probe, machine.autocast())
    with torch.no_grad():
        # In eval mode, so that the probe leaves no trace in running statistics.
        outputs = [_in_eval(pupil, probe) for pupil in pupils]
    for place, (own, among) in enumerate(objectives):
        own.build(outputs[place], seen if own.taught else [], facts)
        peers = outputs[:place] + outputs[place + 1 :]
        for objective, peer in zip(among, peers, strict=True):
            objective.build(outputs[place], [peer], facts)


def _in_eval(pupil: Observed, probe: Tensor) -> Outputs:
    pupil.network.eval()
    return pupil(probe)


def _facts(task: Task, targets: Tensor) -> DataFacts:
    return DataFacts(len(targets), len(task.store.info.classes), targets)


def _learner(
    observed: Observed,
    objectives: tuple[Objective, list[Objective]],
    pupil: Pupil,
    recipe: Training,
    machine: Machine,
) -> Learner:
    own, peers = objectives
    placed = [objective.to(machine.device) for objective in peers]
    return Learner(observed, own.to(machine.device), placed, pupil.peer_weight, recipe)
