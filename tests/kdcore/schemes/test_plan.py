"""What each scheme trains next, from the results so far."""

from typing import Any

import pytest
import torch

from kdcore.schemes import plan
from kdcore.schemes.base import Phase, Result, Role
from kdcore.spec.job import ResolvedJob
from kdcore.spec.methods import as_methods

TEACHER = {"model": "mdl_1"}


def job(scheme: dict[str, Any], **fields: Any) -> ResolvedJob:
    return ResolvedJob.model_validate(
        {
            "name": "a job",
            "student": {"architecture": "cifar/resnet8", "num_classes": 7},
            "dataset": "ds_1",
            "teachers": [TEACHER],
            "method": as_methods("kd"),
            "label_weight": 0.1,
            "scheme": scheme,
            "evaluation": {"baseline": True, "seeds": 1},
            "seed": 5,
            **fields,
        }
    )


def results_of(phase: Phase, top1: float = 50.0) -> list[Result]:
    return [
        Result(0, phase.number, p.role, p.name, p.student, 1, top1, top1, {"w": torch.ones(1)})
        for p in phase.pupils
    ]


def phases(asked: ResolvedJob, tops: tuple[float, ...] = ()) -> list[Phase]:
    """All phases of a job whose networks reach ``tops`` in turn."""
    done: list[Result] = []
    found: list[Phase] = []
    while (phase := plan.next_phase(asked, done)) is not None:
        found.append(phase)
        done += results_of(phase, tops[len(found) - 1] if len(found) <= len(tops) else 50.0)
        assert len(found) <= plan.most_phases(asked)
    return found


def told(found: list[Phase]) -> list[tuple[str, object]]:
    return [(" ".join(pupil.name for pupil in phase.pupils), phase.teacher) for phase in found]


def test_offline_trains_student_and_baseline_from_the_same_seed() -> None:
    found = phases(job({"type": "offline"}, evaluation={"baseline": True, "seeds": 2}))
    assert told(found) == [("student", "job"), ("baseline", None)] * 2
    assert [phase.seed for phase in found] == [5, 5, 6, 6]


def test_mutual_is_one_phase_of_a_cohort() -> None:
    asked = job({"type": "mutual", "peers": ["cifar/resnet14", "cifar/resnet8"]}, teachers=[])
    found = phases(asked)
    assert told(found) == [("student peer1 peer2", "job"), ("baseline", None)]
    student, first, second = found[0].pupils
    assert first.student.architecture == "cifar/resnet14"
    assert second.student.architecture == "cifar/resnet8"
    # Without a teacher the job's method acts among the peers, and the labels stand alone.
    assert [m.type for m in student.methods] == ["supervised"]
    assert [m.type for m in student.peer_methods] == ["kd"]
    assert student.peer_methods[0].temperature == 4.0  # type: ignore[union-attr]


def test_mutual_with_a_teacher_adds_the_plain_divergence_of_peers() -> None:
    student, peer = phases(job({"type": "mutual", "peers": ["cifar/resnet8"]}))[0].pupils
    assert [m.type for m in student.methods] == ["kd"]
    assert student.peer_methods[0].temperature == 1.0  # type: ignore[union-attr]
    assert student.peer_methods == peer.peer_methods


def test_generations_are_each_taught_by_the_last_from_weights_of_their_own() -> None:
    found = phases(job({"type": "born_again", "generations": 3}, evaluation={"baseline": False}))
    assert told(found) == [("generation1", "job"), ("generation2", "last"), ("student", "last")]
    assert len({phase.seed for phase in found}) == 3


def test_the_first_generation_without_a_teacher_learns_from_labels() -> None:
    found = phases(job({"type": "born_again", "generations": 2}, teachers=[]))
    assert told(found)[:2] == [("generation1", None), ("student", "last")]
    assert [m.type for m in found[0].pupils[0].methods] == ["supervised"]
    assert found[0].pupils[0].label_weight == 1.0
    assert [m.type for m in found[1].pupils[0].methods] == ["kd"]


def test_assistants_stand_between_teacher_and_student() -> None:
    asked = job(
        {"type": "teacher_assistant", "assistants": ["cifar/resnet32", "cifar/resnet14"]},
        evaluation={"baseline": False},
    )
    found = phases(asked)
    assert told(found) == [("assistant1", "job"), ("assistant2", "last"), ("student", "last")]
    names = [phase.pupils[0].student.architecture for phase in found]
    assert names == ["cifar/resnet32", "cifar/resnet14", "cifar/resnet8"]


@pytest.mark.parametrize(
    ("tops", "trained", "delivered"),
    [
        ((50.0, 60.0, 70.0, 80.0), ["student", "round2", "round3"], 2),
        ((50.0, 60.0, 60.0), ["student", "round2", "round3"], 1),
        ((50.0, 49.0), ["student", "round2"], 0),
    ],
)
def test_refining_stops_when_it_no_longer_helps(
    tops: tuple[float, ...], trained: list[str], delivered: int
) -> None:
    asked = job({"type": "label_refinery", "max_rounds": 3}, evaluation={"baseline": False})
    found = phases(asked, tops)
    assert [phase.pupils[0].name for phase in found] == trained
    assert all(phase.pupils[0].label_weight == 0 for phase in found)
    done = [
        result
        for phase, top1 in zip(found, tops, strict=False)
        for result in results_of(phase, top1)
    ]
    assert plan.students(asked, done)[0].name == trained[delivered]


def test_a_refinery_without_a_teacher_trains_its_labeller_first() -> None:
    asked = job(
        {"type": "label_refinery", "max_rounds": 2}, teachers=[], method=as_methods("supervised")
    )
    found = phases(asked, (50.0, 60.0, 70.0))
    assert told(found)[:3] == [("labeller", None), ("student", "last"), ("round2", "last")]
    assert [m.type for m in found[1].pupils[0].methods] == ["kd"]


def test_a_refinery_of_features_alone_still_teaches_the_classifier() -> None:
    asked = job({"type": "label_refinery", "max_rounds": 1}, method=as_methods("attention"))
    assert [m.type for m in phases(asked)[0].pupils[0].methods] == ["attention", "kd"]


def test_only_the_first_seeds_student_has_plain_metric_names() -> None:
    asked = job({"type": "born_again", "generations": 2}, evaluation={"baseline": True, "seeds": 2})
    names = [phase.prefix(phase.pupils[0]) for phase in phases(asked)]
    assert names == [
        *("generation1/", "", "baseline/"),
        *("seed1/generation1/", "seed1/", "seed1/baseline/"),
    ]


def test_every_role_is_one_that_results_know() -> None:
    roles: set[Role] = {
        "student",
        "baseline",
        "peer",
        "generation",
        "assistant",
        "labeller",
        "round",
    }
    asked = job({"type": "mutual", "peers": ["cifar/resnet8"]})
    assert {pupil.role for phase in phases(asked) for pupil in phase.pupils} <= roles
