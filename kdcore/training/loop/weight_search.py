"""Find the weights of the methods whose weight is ``auto``, before the first step of a phase.

The students first make a few steps on the labels alone, because random weights give losses that
compare normalized values, such as correlations, a gradient that is large for these steps only. Then
the gradient of each method is compared with that of cross-entropy, at the features that the method
reads, or at the logits. The norms are sums over a few batches. The state before the search is
restored after it.
"""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from kdcore.methods.base import UNLABELED, Batch, Outputs
from kdcore.methods.common.teacher_ensemble import mean_logits
from kdcore.methods.common.weight_plan import MeasuredMethod, WeightPlan
from kdcore.schema.methods import MethodParams
from kdcore.schemes.base import StudentSpec
from kdcore.training.loop.student_group import StudentGroup, peers_of, slice_batch
from kdcore.training.loop.student_trainer import PEERS, TrainableStudent

_NUM_BATCHES = 4
"""Batches that are measured; the norms of single batches differ by a few percent."""
_LABEL_STEPS = 20
"""Steps on labels before the measurement; a tenth of the steps of a shorter training."""
_MAX_OF_PUBLISHED = 10.0
"""Largest ratio, as a multiple of the published weight. A student that starts as a copy of its
teacher has almost no gradient, and untrained adapters hide it: with 100, vid diverged."""
_DIGITS = 4
"""Significant digits of a weight."""


class _Norms(NamedTuple):
    """Gradient norms of a method at weight 1 and of cross-entropy, at the same tensors."""

    method: float
    labels: float
    factors: dict[str, float]
    """Factors of the method's terms at weight 1."""


_NormsByMethod = dict[str, list[_Norms]]


def build_weight_plan(student_spec: StudentSpec, steps: int) -> WeightPlan:
    """The plan of the weights that are `auto` in a student's methods, and in those for its peers.

    Methods for peers have the prefix ``peers/``.
    """
    named = [("", method) for method in student_spec.methods]
    named += [(PEERS, method) for method in student_spec.peer_methods]
    methods = {
        prefix + method.type: method for prefix, method in named if method.resolved_weight == "auto"
    }
    label_weight = student_spec.label_weight
    return WeightPlan(methods, None if label_weight == "auto" else label_weight, steps)


def search_weights(
    student_group: StudentGroup,
    load_batch: Callable[[int], tuple[Tensor, Batch]],
    total_steps: int,
    warn: Callable[[str], None],
) -> None:
    """Fill the weight plans of all students of the group.

    ``load_batch`` returns the views (B, C, H, W) and the batch of a step (from 0), and seeds
    torch's generators. ``warn`` receives a message where a batch exceeds the device's memory.
    """
    states = [student.modules_state() for student in student_group.students]
    student_group.train()
    label_steps = min(_LABEL_STEPS, total_steps // 10)
    optimizers = [student.build_optimizer() for student in student_group.students]
    for step in range(label_steps):
        views, batch = load_batch(step)
        train = functools.partial(_label_gradients, student_group, views, batch)
        student_group.run_in_parts(len(views), train, warn)
        for optimizer in optimizers:
            optimizer.step()
    norms: list[_NormsByMethod] = [{} for _ in states]
    for step in range(label_steps, min(label_steps + _NUM_BATCHES, total_steps)):
        views, batch = load_batch(step)
        measure = functools.partial(_measure_batch, student_group, views, batch)
        rows = student_group.run_in_parts(len(views), measure, warn)
        for all_norms, row in zip(norms, rows, strict=True):
            for name, measured in row:
                all_norms.setdefault(name, []).append(measured)
    for student, state, all_norms in zip(student_group.students, states, norms, strict=True):
        student.load_modules_state(state)
        student.zero_grad()
        student.weight_plan.measured = {
            name: MeasuredMethod(_ratio(name, params, all_norms[name]), all_norms[name][0].factors)
            for name, params in student.weight_plan.methods.items()
        }


def _label_gradients(
    student_group: StudentGroup, views: Tensor, batch: Batch, spans: Sequence[slice]
) -> None:
    """Compute each student's gradient of cross-entropy alone."""
    views = views.contiguous(memory_format=torch.channels_last)
    for student in student_group.students:
        student.zero_grad()
    for span in spans:
        part, part_batch = views[span], slice_batch(batch, span)
        teachers = student_group.live_teachers.for_batch(part, part_batch)
        outputs = student_group.run_students(part)
        for index, student in enumerate(student_group.students):
            others = teachers or peers_of(outputs, index)
            loss = _label_loss(student, outputs[index], others, part_batch)
            gradient = torch.tensor(len(part) / len(views), device=loss.device, dtype=loss.dtype)
            torch.autograd.backward(loss, gradient)


def _measure_batch(
    student_group: StudentGroup, views: Tensor, batch: Batch, spans: Sequence[slice]
) -> list[list[tuple[str, _Norms]]]:
    """For each student the norms of its methods, by name, in each part of the batch."""
    views = views.contiguous(memory_format=torch.channels_last)
    rows: list[list[tuple[str, _Norms]]] = [[] for _ in student_group.students]
    for span in spans:
        part, part_batch = views[span], slice_batch(batch, span)
        # Not from the cache, whose outputs are rounded: a run without a cache has the same weights.
        teachers = student_group.live_teachers.for_batch(part, part_batch)
        outputs = student_group.run_students(part)
        for index, student in enumerate(student_group.students):
            peers = peers_of(outputs, index)
            rows[index] += _measure_student(student, outputs[index], (teachers, peers), part_batch)
    return rows


def _measure_student(
    student: TrainableStudent,
    outputs: Outputs,
    others: tuple[Sequence[Outputs], Sequence[Outputs]],
    batch: Batch,
) -> list[tuple[str, _Norms]]:
    """Norms of one student's methods; ``others`` are the outputs of its teachers and its peers."""
    teachers, peers = others
    label_loss = _label_loss(student, outputs, teachers or peers, batch)
    parts = [("", student.objective, teachers, 1.0)]
    for objective, peer in zip(student.objectives_of_peers, peers, strict=True):
        parts.append((PEERS, objective, [peer], 1.0 / len(peers)))
    losses: dict[str, list[Tensor]] = {}
    reads: dict[str, tuple[Tensor, ...]] = {}
    factors: dict[str, dict[str, float]] = {}
    for prefix, objective, networks, share in parts:
        for name, terms in objective.auto_terms(outputs, networks, batch).items():
            method = objective.auto_methods[name]
            factors[prefix + name] = {term: method.factor_of(term) for term in terms}
            reads[prefix + name] = _compared_outputs(outputs, method.needs)
            losses.setdefault(prefix + name, []).extend(
                share * method.factor_of(term) * value for term, value in terms.items()
            )
    backbone = tuple(student.network.parameters())
    return [
        (name, _norms(torch.stack(terms).sum(), label_loss, (reads[name], backbone), factors[name]))
        for name, terms in losses.items()
    ]


def _label_loss(
    student: TrainableStudent, outputs: Outputs, others: Sequence[Outputs], batch: Batch
) -> Tensor:
    """Cross-entropy of one student, with the class that the others predict for missing labels."""
    objective = student.objective
    weights = objective.teacher_weights if len(objective.teacher_weights) == len(others) else None
    mean = mean_logits([o.logits for o in others], weights or [1.0] * len(others), 1.0)
    predicted = mean.argmax(dim=1)
    target = predicted if batch.target is None else batch.target
    filled = replace(batch, target=torch.where(target == UNLABELED, predicted, target))
    loss = replace(objective.label_loss, weight=1.0).cross_entropy(outputs.logits, filled)
    if loss is None:
        raise ValueError("cross-entropy with labels and a weight of 1 is a number")
    return loss


def _compared_outputs(outputs: Outputs, needs: frozenset[str]) -> tuple[Tensor, ...]:
    """The student's outputs that a method with these needs compares: features before logits."""
    if "maps" in needs:
        return tuple(outputs.maps)
    if "pooled" in needs and outputs.pooled is not None:
        return (outputs.pooled,)
    return (outputs.logits,)


def _norms(
    loss: Tensor,
    label_loss: Tensor,
    candidates: Sequence[tuple[Tensor, ...]],
    factors: dict[str, float],
) -> _Norms:
    """Norms at the first of ``candidates`` of which both losses reach a tensor.

    A feature that a hook copied does not lead to the logits, and then the weights are compared.
    """
    for tensors in candidates:
        reached = [
            pair
            for pair in zip(_gradients(loss, tensors), _gradients(label_loss, tensors), strict=True)
            if None not in pair
        ]
        if reached:
            method, labels = zip(*reached, strict=True)
            return _Norms(_norm(method), _norm(labels), factors)
    return _Norms(0.0, 0.0, factors)


def _gradients(loss: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    if not loss.requires_grad:
        return (None,) * len(tensors)
    return torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True)


def _norm(gradients: Iterable[Tensor | None]) -> float:
    squares = [float(g.double().square().sum()) for g in gradients if g is not None]
    return math.sqrt(sum(squares))


def _ratio(name: str, params: MethodParams, norms: Sequence[_Norms]) -> float:
    """The weight at which a method's gradient is as large as that of cross-entropy."""
    method, labels = (sum(n.method for n in norms), sum(n.labels for n in norms))
    published = params.published_weight
    if not (method > 0 and labels > 0 and math.isfinite(method) and math.isfinite(labels)):
        return published
    # Two networks with random weights hardly differ, so their gradient says little about later.
    limit = published if name.startswith(PEERS) else _MAX_OF_PUBLISHED * published
    return float(f"{min(labels / method, limit):.{_DIGITS}g}")
