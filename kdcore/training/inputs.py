"""What a job trains with, opened and judged before the first step."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdcore.data import dataset
from kdcore.data.rng import fold
from kdcore.evaluation import teacher_check
from kdcore.models.normalized_model import by_rule
from kdcore.models.teachers import Teachers, open_model
from kdcore.protocol.requests import CheckpointFile, RunRequest
from kdcore.runtime.errors import UserFault
from kdcore.runtime.files import sha256_of
from kdcore.schema.catalog import Normalisation
from kdcore.schema.job import channels_of
from kdcore.training.context import Task
from kdcore.training.run_state import Session
from kdcore.training.teacher_cache.provider import Place

_CLASSIFIER = 8
"""Stream of a seed for the classifier that published weights lack."""
Weights = dict[str, Tensor]


class Beginning(NamedTuple):
    """Where the student starts from."""

    weights: Weights | None
    normalisation: Normalisation
    """By which its weights want images: given ones were trained behind their own."""
    input_size: int | None = None
    """Side of its images, where it is not the data set's."""


def gathered(request: RunRequest, session: Session, workdir: Path, *, told: bool) -> Task:
    """Open data and models; let the teachers through the gate; ``told`` says that it is known."""
    data = dataset.load(Path(request.dataset.path))
    if sha256_of(Path(request.dataset.path)) != request.dataset.sha256:
        raise UserFault("dataset_invalid", "the data set is not the one that was ingested")
    teachers = Teachers.of(request.teachers, session.machine.device)
    begun = _beginning(request, data, workdir)
    return Task(
        job=request.job,
        store=data,
        teachers=teachers,
        normalisation=begun.normalisation,
        init=begun.weights,
        input_size=begun.input_size,
        keep=Place(
            Path(request.answers) if request.answers else workdir / "answers",
            {"dataset": request.dataset.sha256},
        ),
        teacher_val=_gated(request, session, data, teachers, told=told),
    )


def _beginning(request: RunRequest, data: dataset.DatasetStore, workdir: Path) -> Beginning:
    student = request.job.student
    own = by_rule(data.info.normalisation, student.channels)
    if request.init is not None:
        weights = open_model(request.init, "student_incompatible").state_dict()
        side = request.init.input_size
        # A student is trained at the data set's side; a model that is only measured keeps its own.
        evaluated = request.job.kind == "evaluate" and side != data.info.image_size
        return Beginning(weights, request.init.normalisation, side if evaluated else None)
    if request.continued is not None:
        return _continued(request.continued)
    if student.init == "pretrained":
        from kdcore.models.pretrained import pretrained  # loads the libraries of models

        # A classifier for other classes is fresh: equal for equal jobs.
        torch.manual_seed(fold(request.job.seed, _CLASSIFIER))
        found = pretrained(
            student.architecture,
            num_classes=len(data.info.classes),
            in_channels=channels_of(student.channels, data.info.in_channels),
            input_size=data.info.image_size,
        )
        return Beginning(found.weights, found.normalisation)
    return Beginning(None, own)


def _continued(file: CheckpointFile) -> Beginning:
    """The first seed's student as an earlier job's checkpoint holds it: at work, or else finished.

    Raises ``UserFault`` for a checkpoint from before the student: of an assistant, for instance.
    """
    path = Path(file.path)
    if not path.is_file() or sha256_of(path) != file.sha256:
        raise UserFault("checkpoint_invalid", "the earlier job's checkpoint is not what it was")
    state = torch.load(path, map_location="cpu", weights_only=True)
    normalisation = Normalisation.model_validate(state["normalisation"])
    current = state["current"]
    if current is not None and _of_student(current):
        return Beginning(current["cohort"]["learners"][0]["student"], normalisation)
    done = [result for result in state["results"] if _of_student(result)]
    if not done:
        raise UserFault(
            "checkpoint_invalid",
            "the earlier job's checkpoint was written before its student began to learn",
            hint="Go on from a later one, or from the best.",
        )
    # More than one only where rounds refine each other.
    best = max(done, key=lambda result: float(result["best_val_top1"]))
    return Beginning(best["weights"], normalisation)


def _of_student(part: dict[str, Any]) -> bool:
    return part["number"] == 0 and part["role"] in ("student", "round")


def _gated(
    request: RunRequest,
    session: Session,
    data: dataset.DatasetStore,
    teachers: Teachers,
    *,
    told: bool,
) -> Tensor | None:
    if not teachers.networks:
        return None
    target = data.targets("val")
    each = teachers.logits(
        data.images("val"),
        device=session.machine.device,
        boundary=session.boundary,
        autocast=session.machine.autocast(),
    )
    together = teachers.mean(each)
    if told:
        top1 = teacher_check.hits(together, target).top1
        session.events.metrics(0, 0.0, {"teacher/top1": top1}, wall_s=0.0)
    names = [f"{file.architecture} ({file.sha256[:12]})" for file in request.teachers]
    for warning in teacher_check.check(
        names, [teacher_check.hits(logits, target) for logits in each]
    ):
        session.events.log("warning", warning)
    return together
