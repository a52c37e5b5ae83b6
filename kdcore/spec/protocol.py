"""How the engine's process is asked and how it answers: requests, events, exit codes.

``python -m kdcore run|ingest|verify REQUEST.json --workdir DIR [--events FILE] [--supervised]``.
Events are one JSON object a line, each ``{seq, time, type, …}``. Files that an event names lie
under the workdir and appear by atomic rename before the event is written.
"""

import enum
from typing import Annotated, Any, Literal

from pydantic import Field

from kdcore.spec.base import Sha256, Spec
from kdcore.spec.catalogue import Normalisation
from kdcore.spec.job import ResolvedJob


class Exit(enum.IntEnum):
    """Exit codes of the engine; anything else is a crash."""

    DONE = 0
    STOPPED = 10
    USER_FAULT = 20
    OUT_OF_MEMORY = 21
    NON_FINITE = 22


class ResourceLimits(Spec):
    """Limits that the engine's process puts on itself before it opens anything."""

    memory_bytes: int | None = None
    """Address space (RLIMIT_AS); null for training, where CUDA maps more than it uses."""
    cpu_s: int | None = None
    file_bytes: int | None = None
    """Largest file that may be written (RLIMIT_FSIZE)."""


class Request(Spec):
    """What every request says."""

    limits: ResourceLimits = ResourceLimits()
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of one operator; null takes what the machine has."""


class ModelFile(Spec):
    """Verified weights in safetensors form."""

    path: str
    sha256: Sha256
    architecture: str
    num_classes: int
    in_channels: int
    input_size: int
    normalisation: Normalisation


class TeacherFile(ModelFile):
    """A teacher and its share among several."""

    weight: float


class DatasetFile(Spec):
    """An ingested data set: one safetensors file of uint8 images and int64 targets."""

    path: str
    sha256: Sha256


class RunRequest(Request):
    """Train, evaluate, export."""

    job: ResolvedJob
    dataset: DatasetFile
    teachers: tuple[TeacherFile, ...] = ()
    init: ModelFile | None = None
    device: str = "auto"
    """`auto` takes the first accelerator, else the CPU."""
    elapsed_s: float = 0.0
    """Seconds that earlier runs of this job took; counts against the job's limits."""


class IngestRequest(Request):
    """Turn uploaded bytes, or a built-in set, into a data set."""

    source: Literal["archive", "builtin:digits"]
    path: str | None = None
    split_seed: int = 0
    max_images: int = 2_000_000
    max_pixels: int = 25_000_000
    """Of one image, before it is decoded."""
    max_decoded_bytes: int = 16 * 2**30
    """Of all members of the archive together, counted while they are read."""


class VerifyRequest(Request):
    """Open an uploaded checkpoint, check it against its architecture, convert it to safetensors."""

    path: str
    architecture: str
    num_classes: int


class Split(Spec):
    """One split of a data set."""

    count: int
    per_class: dict[str, int]


class DatasetInfo(Spec):
    """What ingestion reports of a data set."""

    classes: tuple[str, ...]
    splits: dict[Literal["train", "val", "test"], Split]
    in_channels: int
    image_size: int
    """Side of the square images, in pixels."""
    normalisation: Normalisation
    """Mean and deviation of the training split, pixels scaled to 0..1."""
    split_seed: int
    digest: Sha256
    """Of the content: equal for equal images, targets, classes and splits."""


class ModelInfo(Spec):
    """What verification reports of a checkpoint."""

    architecture: str
    num_classes: int
    in_channels: int
    num_params: int


ErrorCode = Literal[
    "teacher_load_failed",
    "checkpoint_invalid",
    "dataset_invalid",
    "student_incompatible",
    "out_of_memory",
    "non_finite_loss",
    "worker_lost",
    "deadline_exceeded",
    "budget_exhausted",
    "storage_unavailable",
    "internal",
]


class Item(Spec):
    """One bad thing among those that an error names."""

    name: str
    detail: str


class Progress(Spec):
    """How far the whole run is, every phase counted."""

    epoch: int
    epochs: int
    step: int
    steps: int
    fraction: float


class Event(Spec):
    """What every line says."""

    seq: int
    time: str
    """RFC 3339, UTC."""


class PhaseEvent(Event):
    """The run entered a phase. The first one of a run carries what the engine chose."""

    type: Literal["phase"] = "phase"
    phase: str
    chosen: dict[str, Any] | None = None
    """device, precision, threads, versions; and resumed_from_step, non_exact after a resume."""


class MetricsEvent(Event):
    """Values of the fixed vocabulary at one step."""

    type: Literal["metrics"] = "metrics"
    step: int
    epoch: float
    wall_s: float
    values: dict[str, float | None]
    progress: Progress | None = None
    eta_s: float | None = None


class LogEvent(Event):
    """A sentence for people."""

    type: Literal["log"] = "log"
    level: Literal["debug", "info", "warning", "error"]
    message: str


class CheckpointEvent(Event):
    """A checkpoint that a later run can go on from."""

    type: Literal["checkpoint"] = "checkpoint"
    path: str
    sha256: Sha256
    size_bytes: int
    step: int
    epoch: float
    metrics: dict[str, float]


class ArtifactEvent(Event):
    """A finished file for the user."""

    type: Literal["artifact"] = "artifact"
    path: str
    name: str
    format: str
    media_type: str
    sha256: Sha256
    size_bytes: int


class ReportEvent(Event):
    """The outcome: a Report, a DatasetInfo or a ModelInfo, by command."""

    type: Literal["report"] = "report"
    report: dict[str, Any]


class ErrorEvent(Event):
    """Why the run ends without an outcome."""

    type: Literal["error"] = "error"
    code: ErrorCode
    message: str
    hint: str | None = None
    items: tuple[Item, ...] = ()


class DoneEvent(Event):
    """The last line of a run that reached its end."""

    type: Literal["done"] = "done"


AnyEvent = Annotated[
    PhaseEvent
    | MetricsEvent
    | LogEvent
    | CheckpointEvent
    | ArtifactEvent
    | ReportEvent
    | ErrorEvent
    | DoneEvent,
    Field(discriminator="type"),
]
