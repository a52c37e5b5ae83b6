"""How the engine's process is asked and how it answers: requests and exit codes.

``python -m kdcore run|ingest|verify|convert REQUEST.json --workdir DIR [--events FILE]
[--supervised]``. What it says is in kdcore.protocol.events.
``python -m kdcore run --prewarm [THREADS]`` loads everything, then takes a
:class:`RunCommand` from its
standard input.
``python -m kdcore predict REQUEST.json`` answers on its standard output: see
kdcore.serving.predict_command.
"""

import enum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kdcore.schema.asset_info import ImageSize
from kdcore.schema.base import FrozenModel, Sha256
from kdcore.schema.catalog import Normalization
from kdcore.schema.dataset_sources import KnownSource
from kdcore.schema.job import ChannelRule, ResolvedJob

MAX_PIXELS = 25_000_000
"""Of one image, before it is decoded."""


class ExitCode(enum.IntEnum):
    """Exit codes of the engine; anything else is a crash."""

    DONE = 0
    STOPPED = 10
    USER_ERROR = 20
    OUT_OF_MEMORY = 21
    NON_FINITE = 22
    NO_SPACE = 23
    """The disk is full. There may be no event that says so: events are on that disk, too."""


HEARTBEAT_FILE = "pulse"
"""A file of the workdir that is touched while the engine gets on, about once a second."""


class RunCommand(FrozenModel):
    """What a process that waits is sent on: what others are told when they are started."""

    request: str
    workdir: str
    stderr: str
    """The file that its standard output and error go to from now on."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Variables beside those that it was started with."""


class ResourceLimits(FrozenModel):
    """Limits that the engine's process puts on itself before it opens anything."""

    memory_bytes: int | None = None
    """Address space (RLIMIT_AS); null for training, where CUDA maps more than it uses."""
    cpu_s: int | None = None
    file_bytes: int | None = None
    """Largest file that may be written (RLIMIT_FSIZE)."""


class EngineRequest(FrozenModel):
    """What every request says."""

    limits: ResourceLimits = ResourceLimits()
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of one operator; null takes what the machine has."""


class ModelFile(FrozenModel):
    """Verified weights in safetensors form."""

    path: str
    sha256: Sha256
    architecture: str
    num_classes: int
    in_channels: int
    input_size: int
    normalization: Normalization


class TeacherFile(ModelFile):
    """A teacher and its share among several."""

    weight: float
    class_map: tuple[int, ...] | None = None
    channels: ChannelRule | None = None
    taps: tuple[str, ...] | None = None


class CheckpointFile(FrozenModel):
    """A checkpoint of an earlier job, as the engine wrote it."""

    path: str
    sha256: Sha256


class DatasetFile(FrozenModel):
    """An ingested data set: one safetensors file of uint8 images and int64 targets."""

    path: str
    sha256: Sha256


class RunRequest(EngineRequest):
    """Train, evaluate, export."""

    teacher_cache_dir: str | None = None
    """Folder in which teachers' answers are kept for other runs; null keeps them for this one."""
    fill_cache_only: bool = False
    """Ask the teachers about every view of the job, keep what they say, and train nothing."""
    job: ResolvedJob
    dataset: DatasetFile
    teachers: tuple[TeacherFile, ...] = ()
    init: ModelFile | None = None
    """What the student starts from, or what an evaluation measures."""
    continue_from: CheckpointFile | None = None
    """What the student starts from in a job that goes on from an earlier one."""
    device: str = "auto"
    """`auto` takes the first accelerator, else the CPU."""
    elapsed_s: float = 0.0
    """Seconds that earlier runs of this job took; counts against the job's limits."""


class IngestRequest(EngineRequest):
    """Turn uploaded bytes, a built-in set or one of torchvision's into a data set."""

    source: Literal["archive"] | KnownSource
    path: str | None = None
    """The upload: a zip of class folders, an .npz file, or tar shards; told by its content."""
    root: str | None = None
    """Where torchvision's sets lie, as torchvision arranges them; null downloads them."""
    image_size: ImageSize | None = None
    """Side of the images that are kept; null keeps a common square size up to 256 and brings
    others to the median of their shorter sides, 224 at most."""
    split_seed: int = 0
    max_images: int = 2_000_000
    max_pixels: int = MAX_PIXELS
    max_decoded_bytes: int = 16 * 2**30
    """Of all members of the archive together, counted while they are read, and of the store."""


class VerifyRequest(EngineRequest):
    """Check weights against their architecture and convert them to safetensors.

    Uploaded ones, with what they are, or published ones, of which all is known.
    """

    path: str = ""
    architecture: str = ""
    num_classes: int = 0
    pretrained: str | None = None
    """``torchvision:<weights>`` or ``timm:<weights>``: downloaded, unless a cache has them."""

    @model_validator(mode="after")
    def _check_one_origin(self) -> Self:
        uploaded = (self.path and self.architecture and self.num_classes) or None
        if (uploaded is None) == (self.pretrained is None):
            raise ValueError("give path, architecture and num_classes, or published alone")
        return self


class ConvertRequest(EngineRequest):
    """Write a model's verified weights as ONNX."""

    model: ModelFile
    classes: tuple[str, ...] = ()
    """Their names, put into the file; empty where nobody knows them."""


class PredictRequest(EngineRequest):
    """Ask an ONNX file about image files."""

    path: str
    images: tuple[str, ...]
    input_size: int
    normalization: Normalization
    """With as many channels as the network takes."""
    classes: tuple[str, ...] | None = None
    k: int
    max_pixels: int = MAX_PIXELS
