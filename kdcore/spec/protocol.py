"""How the engine's process is asked and how it answers: requests and exit codes.

``python -m kdcore run|ingest|verify REQUEST.json --workdir DIR [--events FILE] [--supervised]``.
What it says is in kdcore.spec.events.
"""

import enum
from typing import Annotated, Literal

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
