"""JobKind: one row for each kind of job, read by API, store, worker and engine."""

from typing import TYPE_CHECKING, Literal, NamedTuple

Queue = Literal["train", "prepare"]
PreparedAsset = Literal["dataset", "model", "onnx"]


class JobKind(NamedTuple):
    """What distinguishes jobs of one kind before anything runs."""

    name: str
    queue: Queue
    """``train`` for jobs that users see; ``prepare`` for those of data sets and models."""
    command: str
    """The command of ``python -m kdcore`` that a worker starts."""
    title: str
    """The noun in the default name of a job."""
    public: bool = False
    """Whether ``POST /v1/jobs`` accepts it; jobs of other kinds belong to another resource."""
    needs: Literal["student", "model"] | None = None
    """The field of a job that names what the kind works on, beside the data set."""
    trains: bool = False
    """Whether a job leaves a student, which can become a model or be trained further."""
    fills_teacher_cache: bool = False
    """Whether a job only fills the teacher caches of the job that it describes."""
    prepares: PreparedAsset | None = None
    """What becomes ready or failed when the job ends: its data set, its model, its model's ONNX."""


JOB_KINDS = {
    kind.name: kind
    for kind in (
        JobKind(
            "distill", "train", "run", "distillation", public=True, needs="student", trains=True
        ),
        JobKind("evaluate", "train", "run", "evaluation", public=True, needs="model"),
        JobKind("warm", "train", "run", "cache fill", needs="student", fills_teacher_cache=True),
        JobKind("ingest", "prepare", "ingest", "ingestion", prepares="dataset"),
        JobKind("verify", "prepare", "verify", "verification", prepares="model"),
        JobKind("convert", "prepare", "convert", "conversion", prepares="onnx"),
    )
}

PREPARING_KINDS: dict[PreparedAsset, str] = {
    kind.prepares: kind.name for kind in JOB_KINDS.values() if kind.prepares
}
"""The kind of job that prepares each asset."""
CACHE_FILL_KIND = next(kind.name for kind in JOB_KINDS.values() if kind.fills_teacher_cache)
"""The kind of job that fills teacher caches."""

if TYPE_CHECKING:
    PublicKind = str
    TrainKind = str
else:
    PublicKind = Literal[tuple(kind.name for kind in JOB_KINDS.values() if kind.public)]
    TrainKind = Literal[tuple(kind.name for kind in JOB_KINDS.values() if kind.queue == "train")]
