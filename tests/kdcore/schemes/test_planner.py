"""What each scheme trains next, from the results so far."""

from typing import Any

import pytest
import torch

from kdcore.schema.job import ResolvedJob
from kdcore.schema.methods import as_methods
from kdcore.schemes import planner
from kdcore.schemes.base import Phase, Role, StudentResult

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


def results_of(phase: Phase, top1: float = 50.0, place: int = 0) -> list[StudentResult]:
    return [
        StudentResult(
            place, phase.seed_index, p.role, p.name, p.student, 1, top1, top1, {"w": torch.ones(1)}
        )
        for p in phase.students
    ]


def test_seeds_begin_each_for_itself_unless_they_share_their_views() -> None:
    several = {"baseline": True, "seeds": 3}
    asked = job({"type": "offline"}, evaluation=several, seed=2**63 - 2)
    begun = planner.first_phases(asked)
    assert [(phase.seed_index, phase.seed) for phase in begun] == [
        (0, 2**63 - 2),
        (1, 2**63 - 1),
        (2, 0),
    ]
    shared = job({"type": "offline"}, evaluation=several, training={"view_seed": 9})
    assert [(phase.seed_index, phase.seed) for phase in planner.first_phases(shared)] == [(0, 5)]


def phases(asked: ResolvedJob, tops: tuple[float, ...] = ()) -> list[Phase]:
    """All phases of a job whose networks reach ``tops`` in turn."""
    done: list[StudentResult] = []
    found: list[Phase] = []
    while (phase := planner.next_phase(asked, done)) is not None:
        top1 = tops[len(found)] if len(found) < len(tops) else 50.0
        done += results_of(phase, top1, len(found))
        found.append(phase)
        assert len(found) <= planner.max_phases(asked)
    return found


def told(found: list[Phase]) -> list[tuple[str, object]]:
    return [(" ".join(pupil.name for pupil in phase.students), phase.teacher) for phase in found]


def test_offline_trains_student_and_baseline_from_the_same_seed() -> None:
    found = phases(job({"type": "offline"}, evaluation={"baseline": True, "seeds": 2}))
    assert told(found) == [("student", "job"), ("baseline", None)] * 2
    assert [phase.seed for phase in found] == [5, 5, 6, 6]


def test_mutual_is_one_phase_of_a_cohort() -> None:
    asked = job({"type": "mutual", "peers": ["cifar/resnet14", "cifar/resnet8"]}, teachers=[])
    found = phases(asked)
    assert told(found) == [("student peer1 peer2", "job"), ("baseline", None)]
    student, first, second = found[0].students
    assert first.student.architecture == "cifar/resnet14"
    assert second.student.architecture == "cifar/resnet8"
    # Without a teacher the job's method acts among the peers, and the labels stand alone.
    assert [m.type for m in student.methods] == ["supervised"]
    assert [m.type for m in student.peer_methods] == ["kd"]
    assert student.peer_methods[0].temperature == 4.0  # type: ignore[union-attr]


def test_named_peers_are_what_they_are_and_an_unnamed_one_is_the_students_own() -> None:
    derived = {"architecture": "cifar/resnet8", "derive": "teacher", "groups": 4}
    derived |= {"num_classes": 7, "channels": "repeat", "taps": ["layer2", "layer3"]}
    scheme = {"type": "mutual", "peers": ["cifar/resnet8"]}
    student, peer = phases(job(scheme, student=derived))[0].students
    assert student.student.network == "cifar/resnet8+grouped-4+width-1"
    assert peer.student.network == "cifar/resnet8"
    assert peer.student.taps is None
    assert (peer.student.num_classes, peer.student.channels) == (7, "repeat")
    student, peer = phases(job({"type": "mutual"}, student=derived))[0].students
    assert peer.student == student.student
    assert (peer.role, peer.name) == ("peer", "peer1")


def test_mutual_with_a_teacher_adds_the_plain_divergence_of_peers() -> None:
    student, peer = phases(job({"type": "mutual", "peers": ["cifar/resnet8"]}))[0].students
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
    assert [m.type for m in found[0].students[0].methods] == ["supervised"]
    assert found[0].students[0].label_weight == 1.0
    assert [m.type for m in found[1].students[0].methods] == ["kd"]


def test_assistants_stand_between_teacher_and_student() -> None:
    asked = job(
        {"type": "teacher_assistant", "assistants": ["cifar/resnet32", "cifar/resnet14"]},
        evaluation={"baseline": False},
    )
    found = phases(asked)
    assert told(found) == [("assistant1", "job"), ("assistant2", "last"), ("student", "last")]
    names = [phase.students[0].student.architecture for phase in found]
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
    assert [phase.students[0].name for phase in found] == trained
    assert all(phase.students[0].label_weight == 0 for phase in found)
    done = [
        result
        for phase, top1 in zip(found, tops, strict=False)
        for result in results_of(phase, top1)
    ]
    assert planner.students(asked, done)[0].name == trained[delivered]


def test_a_refinery_without_a_teacher_trains_its_labeler_first() -> None:
    asked = job(
        {"type": "label_refinery", "max_rounds": 2}, teachers=[], method=as_methods("supervised")
    )
    found = phases(asked, (50.0, 60.0, 70.0))
    assert told(found)[:3] == [("labeler", None), ("student", "last"), ("round2", "last")]
    assert [m.type for m in found[1].students[0].methods] == ["kd"]


def test_a_refinery_of_features_alone_still_teaches_the_classifier() -> None:
    asked = job({"type": "label_refinery", "max_rounds": 1}, method=as_methods("attention"))
    assert [m.type for m in phases(asked)[0].students[0].methods] == ["attention", "kd"]


@pytest.mark.parametrize(
    ("scheme", "tops", "delivered"),
    [
        ({"type": "offline"}, (), 0),
        ({"type": "mutual", "peers": ["cifar/resnet8"]}, (), 0),
        ({"type": "born_again", "generations": 3}, (), 2),
        ({"type": "teacher_assistant", "assistants": ["cifar/resnet14"]}, (), 1),
        ({"type": "label_refinery"}, (50.0, 60.0, 70.0), 2),
        ({"type": "label_refinery"}, (50.0, 60.0, 55.0), 1),
        ({"type": "label_refinery"}, (50.0, 40.0), 0),
    ],
    ids=str,
)
def test_the_baseline_has_seed_and_budget_of_the_student_that_is_delivered(
    scheme: dict[str, Any], tops: tuple[float, ...], delivered: int
) -> None:
    found = phases(job(scheme, evaluation={"baseline": True, "seeds": 2}), tops)
    first = [phase for phase in found if phase.seed_index == 0]
    baseline = first.pop()
    assert [pupil.role for pupil in baseline.students] == ["baseline"]
    assert baseline.seed == first[delivered].seed
    assert baseline.budget_student == first[delivered].students[0]
    assert all(phase.budget_student is None for phase in first)


def test_only_the_first_seeds_student_has_plain_metric_names() -> None:
    asked = job({"type": "born_again", "generations": 2}, evaluation={"baseline": True, "seeds": 2})
    names = [phase.metric_prefix(phase.students[0]) for phase in phases(asked)]
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
        "labeler",
        "round",
    }
    asked = job({"type": "mutual", "peers": ["cifar/resnet8"]})
    assert {pupil.role for phase in phases(asked) for pupil in phase.students} <= roles
