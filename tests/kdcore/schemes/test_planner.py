"""The phases that each scheme plans from the results so far."""

from typing import Any

import pytest
import torch

from kdcore.schema.job import ResolvedJob
from kdcore.schema.methods import as_methods
from kdcore.schemes import planner
from kdcore.schemes.base import Phase, Role, StudentResult

TEACHER = {"model": "mdl_1"}
NO_BASELINE = {"baseline": False}
TWO_SEEDS = {"baseline": True, "seeds": 2}


def build_job(scheme: dict[str, Any], **fields: Any) -> ResolvedJob:
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


def results_of(phase: Phase, top1: float = 50.0, phase_index: int = 0) -> list[StudentResult]:
    """Results of a phase whose networks all reach ``top1``."""
    return [
        StudentResult(
            phase_index=phase_index,
            seed_index=phase.seed_index,
            role=spec.role,
            name=spec.name,
            student=spec.student,
            best_epoch=1,
            best_val_top1=top1,
            last_val_top1=top1,
            weights={"w": torch.ones(1)},
        )
        for spec in phase.students
    ]


def plan(job: ResolvedJob, top1: tuple[float, ...] = ()) -> list[Phase]:
    """All phases of a job whose phases reach ``top1`` in turn, and 50 afterwards."""
    results: list[StudentResult] = []
    phases: list[Phase] = []
    while (phase := planner.next_phase(job, results)) is not None:
        index = len(phases)
        results += results_of(phase, top1[index] if index < len(top1) else 50.0, index)
        phases.append(phase)
        if len(phases) > planner.max_phases(job):
            raise ValueError(f"more than {planner.max_phases(job)} phases: {summarize(phases)}")
    return phases


def summarize(phases: list[Phase]) -> list[tuple[str, object]]:
    """Names of the students and the teacher of each phase."""
    return [(" ".join(spec.name for spec in phase.students), phase.teacher) for phase in phases]


def test_every_seed_has_a_first_phase_unless_seeds_share_views() -> None:
    three_seeds = {"baseline": True, "seeds": 3}
    job = build_job({"type": "offline"}, evaluation=three_seeds, seed=2**63 - 2)
    assert [(phase.seed_index, phase.seed) for phase in planner.first_phases(job)] == [
        (0, 2**63 - 2),
        (1, 2**63 - 1),
        (2, 0),
    ]
    job = build_job({"type": "offline"}, evaluation=three_seeds, training={"view_seed": 9})
    assert [(phase.seed_index, phase.seed) for phase in planner.first_phases(job)] == [(0, 5)]


def test_offline_trains_student_and_baseline_from_the_same_seed() -> None:
    phases = plan(build_job({"type": "offline"}, evaluation=TWO_SEEDS))
    assert summarize(phases) == [("student", "job"), ("baseline", None)] * 2
    assert [phase.seed for phase in phases] == [5, 5, 6, 6]


def test_mutual_trains_all_students_in_one_phase() -> None:
    job = build_job({"type": "mutual", "peers": ["cifar/resnet14", "cifar/resnet8"]}, teachers=[])
    phases = plan(job)
    assert summarize(phases) == [("student peer1 peer2", "job"), ("baseline", None)]
    student, first, second = phases[0].students
    assert first.student.architecture == "cifar/resnet14"
    assert second.student.architecture == "cifar/resnet8"
    # Without a teacher the job's method compares the peers, and labels are the only other loss.
    assert [method.type for method in student.methods] == ["supervised"]
    assert [method.type for method in student.peer_methods] == ["kd"]
    assert student.peer_methods[0].temperature == 4.0


def test_named_peers_are_plain_and_an_unnamed_peer_is_the_students_network() -> None:
    derived = {"architecture": "cifar/resnet8", "derive": "teacher", "groups": 4}
    derived |= {"num_classes": 7, "channels": "repeat", "taps": ["layer2", "layer3"]}
    scheme = {"type": "mutual", "peers": ["cifar/resnet8"]}
    student, peer = plan(build_job(scheme, student=derived))[0].students
    assert student.student.network == "cifar/resnet8+grouped-4+width-1"
    assert peer.student.network == "cifar/resnet8"
    assert peer.student.taps is None
    assert (peer.student.num_classes, peer.student.channels) == (7, "repeat")
    student, peer = plan(build_job({"type": "mutual"}, student=derived))[0].students
    assert peer.student == student.student
    assert (peer.role, peer.name) == ("peer", "peer1")


def test_mutual_with_a_teacher_adds_the_divergence_of_peers() -> None:
    job = build_job({"type": "mutual", "peers": ["cifar/resnet8"]})
    student, peer = plan(job)[0].students
    assert [method.type for method in student.methods] == ["kd"]
    assert student.peer_methods[0].temperature == 1.0
    assert student.peer_methods == peer.peer_methods


def test_peers_and_assistants_start_from_random_weights() -> None:
    student, peer = plan(build_job({"type": "mutual"}))[0].students
    assert (student.random_init, peer.random_init) == (False, True)
    scheme = {"type": "teacher_assistant", "assistants": ["cifar/resnet14"]}
    phases = plan(build_job(scheme, evaluation=NO_BASELINE))
    assert [phase.students[0].random_init for phase in phases] == [True, False]


def test_generations_are_taught_by_the_previous_one_with_another_seed() -> None:
    phases = plan(build_job({"type": "born_again", "generations": 3}, evaluation=NO_BASELINE))
    assert summarize(phases) == [
        ("generation1", "job"),
        ("generation2", "last"),
        ("student", "last"),
    ]
    assert len({phase.seed for phase in phases}) == 3


def test_the_first_generation_without_a_teacher_learns_from_labels() -> None:
    phases = plan(build_job({"type": "born_again", "generations": 2}, teachers=[]))
    assert summarize(phases)[:2] == [("generation1", None), ("student", "last")]
    first, second = phases[0].students[0], phases[1].students[0]
    assert [method.type for method in first.methods] == ["supervised"]
    assert first.label_weight == 1.0
    assert [method.type for method in second.methods] == ["kd"]


def test_assistants_are_trained_between_teacher_and_student() -> None:
    scheme = {"type": "teacher_assistant", "assistants": ["cifar/resnet32", "cifar/resnet14"]}
    phases = plan(build_job(scheme, evaluation=NO_BASELINE))
    assert summarize(phases) == [
        ("assistant1", "job"),
        ("assistant2", "last"),
        ("student", "last"),
    ]
    names = [phase.students[0].student.architecture for phase in phases]
    assert names == ["cifar/resnet32", "cifar/resnet14", "cifar/resnet8"]


@pytest.mark.parametrize(
    ("top1", "names", "delivered"),
    [
        ((50.0, 60.0, 70.0, 80.0), ["student", "round2", "round3"], 2),
        ((50.0, 60.0, 60.0), ["student", "round2", "round3"], 1),
        ((50.0, 49.0), ["student", "round2"], 0),
    ],
)
def test_refinery_rounds_end_without_improvement(
    top1: tuple[float, ...], names: list[str], delivered: int
) -> None:
    job = build_job({"type": "label_refinery", "max_rounds": 3}, evaluation=NO_BASELINE)
    phases = plan(job, top1)
    assert [phase.students[0].name for phase in phases] == names
    assert all(phase.students[0].label_weight == 0 for phase in phases)
    results = [
        result
        for phase, phase_top1 in zip(phases, top1, strict=False)
        for result in results_of(phase, phase_top1)
    ]
    assert planner.students(job, results)[0].name == names[delivered]


def test_a_refinery_without_a_teacher_trains_its_labeler_first() -> None:
    scheme = {"type": "label_refinery", "max_rounds": 2}
    job = build_job(scheme, teachers=[], method=as_methods("supervised"))
    phases = plan(job, (50.0, 60.0, 70.0))
    assert summarize(phases)[:3] == [
        ("labeler", None),
        ("student", "last"),
        ("round2", "last"),
    ]
    assert [method.type for method in phases[1].students[0].methods] == ["kd"]


def test_a_refinery_of_feature_methods_adds_a_method_for_the_classifier() -> None:
    scheme = {"type": "label_refinery", "max_rounds": 1}
    phases = plan(build_job(scheme, method=as_methods("attention")))
    assert [method.type for method in phases[0].students[0].methods] == ["attention", "kd"]


@pytest.mark.parametrize(
    ("scheme", "top1", "delivered"),
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
def test_the_baseline_has_seed_and_length_of_the_delivered_student(
    scheme: dict[str, Any], top1: tuple[float, ...], delivered: int
) -> None:
    phases = plan(build_job(scheme, evaluation=TWO_SEEDS), top1)
    first_seed = [phase for phase in phases if phase.seed_index == 0]
    baseline = first_seed.pop()
    assert [spec.role for spec in baseline.students] == ["baseline"]
    assert baseline.seed == first_seed[delivered].seed
    assert baseline.budget_student == first_seed[delivered].students[0]
    assert all(phase.budget_student is None for phase in first_seed)


def test_only_the_first_seeds_student_has_metrics_without_a_prefix() -> None:
    job = build_job({"type": "born_again", "generations": 2}, evaluation=TWO_SEEDS)
    prefixes = [phase.metric_prefix(phase.students[0]) for phase in plan(job)]
    assert prefixes == [
        *("generation1/", "", "baseline/"),
        *("seed1/generation1/", "seed1/", "seed1/baseline/"),
    ]


def test_a_phase_knows_what_its_methods_need() -> None:
    (phase, baseline) = plan(build_job({"type": "offline"}, method=as_methods("attention")))
    assert phase.needs == {"maps"}
    assert phase.uses_teacher
    assert not baseline.uses_teacher
    mutual = build_job({"type": "mutual"}, teachers=[], method=as_methods("rkd"))
    assert "pooled" in plan(mutual)[0].needs


@pytest.mark.parametrize(
    ("method", "unlabeled"),
    [("kd", True), ("attention", True), ("dkd", False), ("crd", False), ("supervised", False)],
)
def test_methods_without_labels_learn_from_unlabeled_images(method: str, unlabeled: bool) -> None:
    (phase, baseline) = plan(build_job({"type": "offline"}, method=as_methods(method)))
    assert phase.students[0].learns_from_unlabeled is unlabeled
    assert baseline.students[0].learns_from_unlabeled is False


def test_every_role_is_declared() -> None:
    roles: set[Role] = {
        "student",
        "baseline",
        "peer",
        "generation",
        "assistant",
        "labeler",
        "round",
    }
    job = build_job({"type": "mutual", "peers": ["cifar/resnet8"]})
    assert {spec.role for phase in plan(job) for spec in phase.students} <= roles
