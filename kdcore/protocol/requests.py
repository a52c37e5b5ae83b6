"""The requests to the engine's process, and its exit codes.

``python -m kdcore run|ingest|verify|convert REQUEST.json --workdir DIR [--events FILE]
[--supervised]`` writes the events of :mod:`kdcore.protocol.events`.
``python -m kdcore run --prewarm [THREADS]`` imports everything, then reads a :class:`RunCommand`
from its standard input. ``python -m kdcore predict REQUEST.json`` writes JSON to its standard
output: see :mod:`kdcore.serving.predict_command`.
"""

import enum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from kdcore.schema.asset_info import ImageSize, KeyMap, WeightsChoice
from kdcore.schema.base import FrozenModel, Sha256
from kdcore.schema.catalog import Normalization
from kdcore.schema.dataset_sources import KnownSource, OnBadImage, OnDuplicates
from kdcore.schema.job import ChannelRule, ResolvedJob

MAX_PIXELS = 25_000_000
"""Largest number of pixels of an image, checked before it is decoded."""


class ExitCode(enum.IntEnum):
    """Exit codes of the engine; any other code is a crash."""

    DONE = 0
    STOPPED = 10
    USER_ERROR = 20
    OUT_OF_MEMORY = 21
    NON_FINITE = 22
    NO_SPACE = 23
    """The disk is full. The event may be missing, because events are on the same disk."""


HEARTBEAT_FILE = "heartbeat"
"""A file in the working directory that the engine touches about once a second while it works."""


class RunCommand(FrozenModel):
    """The run that a prewarmed process starts: what other processes get as arguments."""

    request: str
    workdir: str
    stderr: str
    """File for its standard output and standard error."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Environment variables to add."""


class ResourceLimits(FrozenModel):
    """Limits that the process sets on itself before it opens a file."""

    memory_bytes: int | None = None
    """Address space (RLIMIT_AS); null for training, where CUDA maps more than it uses."""
    cpu_s: int | None = None
    file_bytes: int | None = None
    """Largest file that may be written, in bytes (RLIMIT_FSIZE)."""


class EngineRequest(FrozenModel):
    """Fields of every request."""

    limits: ResourceLimits = ResourceLimits()
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of one operator; null uses all processors."""


DESCRIPTIVE_FIELDS = frozenset(
    {"class_names", "normalization_declared", "input_size_declared", "reported_top1"} | {"outputs"}
)
"""Fields of a :class:`ModelFile` that decide no numbers, so that no digest has them."""


class ModelFile(FrozenModel):
    """Verified weights in safetensors form, or the verified file of a network."""

    path: str
    sha256: Sha256
    architecture: str
    num_classes: int
    in_channels: int
    input_size: int
    normalization: Normalization
    class_names: tuple[str, ...] | None = None
    """In the order of the logits; null if unknown."""
    normalization_declared: bool = True
    """Whether it came with the weights, and is not the architecture's default."""
    input_size_declared: bool = True
    """Likewise."""
    reported_top1: float | None = None
    """Accuracy in percent that the report or the upload of the weights states."""
    outputs: dict[str, tuple[int, ...]] | None = None
    """Shapes for one image of a file's outputs beside the logits; null for other models."""


class TeacherFile(ModelFile):
    """A teacher's weights, and its weight among several teachers."""

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
    """Folder for cached teacher outputs that other runs share; null caches them for this run."""
    fill_cache_only: bool = False
    """Compute and cache the teachers' outputs for every view of the job, without training."""
    job: ResolvedJob
    dataset: DatasetFile
    teachers: tuple[TeacherFile, ...] = ()
    init: ModelFile | None = None
    """The student's initial weights, or the model to evaluate."""
    init_is_path: bool = False
    """The job names ``init`` by a path and not by an id: the digest covers its content instead."""
    continue_from: CheckpointFile | None = None
    """The checkpoint of an earlier job whose student this job continues."""
    device: str = "auto"
    """`auto` uses the first accelerator, or the CPU without one."""
    elapsed_s: float = 0.0
    """Seconds of earlier runs of this job, which count against its limits."""
    checkpoint_interval_s: Annotated[float, Field(ge=0)] | None = None
    """Seconds between two checkpoints; 0 writes one before every step. Null writes them so that
    they take at most 2 % of the time."""
    latency_rounds: Annotated[int, Field(ge=1)] = 6
    """Rounds of each measurement of latency; the fastest round counts."""


class IngestRequest(EngineRequest):
    """Turn an upload, a built-in data set or one of torchvision's into a stored data set."""

    source: Literal["archive"] | KnownSource
    path: str | None = None
    """The upload, in a format of `docs/how-to/bring-your-own.md`, detected by content."""
    file_name: str | None = None
    """The user's name of the upload; null if it is unknown."""
    for_evaluation: bool = False
    """The data set is only measured: if test (or val) is its only split, all of it is test."""
    channel: int | None = None
    """Descriptor of the channel to the files of a source
    (:mod:`kdcore.protocol.source_channel`); then there is no upload."""
    resume_dir: str | None = None
    """Folder that outlives the run: a later run of the same job continues with what is in it."""
    root: str | None = None
    """Folder with torchvision's data sets; null downloads them."""
    image_size: ImageSize | None = None
    """Side of the stored images in pixels. Null keeps one common square size up to 256, and resizes
    other images to the median of their shorter sides, 224 at most."""
    split_seed: int = 0
    on_bad_image: OnBadImage = "refuse"
    on_duplicates: OnDuplicates = "warn"
    max_images: int = 2_000_000
    max_pixels: int = MAX_PIXELS
    max_decoded_bytes: int = 16 * 2**30
    """Limit of the unpacked bytes of the upload, and of the decoded images."""


class VerifyRequest(EngineRequest):
    """Compare weights with their architecture and convert them to safetensors.

    Either an upload with ``path``, or published weights.
    """

    path: str = ""
    filename: str = "the upload"
    """The user's name of the upload, for messages."""
    architecture: str | None = None
    """Null infers it from names and shapes, or from the format of a network's file."""
    num_classes: int | None = None
    """Null reads it from the last layer."""
    input_size: int | None = None
    """Side of the images of a network from a file, in pixels; null reads it from the file."""
    key_map: KeyMap = ()
    weights: WeightsChoice | None = None
    """Averaged (`ema`) or `raw` weights of a checkpoint that has both; null prefers `ema`."""
    pretrained: str | None = None
    """``torchvision:<weights>`` or ``timm:<weights>``, downloaded unless they are in a cache."""

    @model_validator(mode="after")
    def _check_one_origin(self) -> Self:
        if bool(self.path) == (self.pretrained is not None):
            raise ValueError("set either path or pretrained")
        return self


class ConvertRequest(EngineRequest):
    """Write a model's verified weights as ONNX."""

    model: ModelFile
    classes: tuple[str, ...] = ()
    """Names of the classes for the file's metadata; empty if unknown."""


class PredictRequest(EngineRequest):
    """Predict image files with an ONNX file."""

    path: str
    images: tuple[str, ...]
    input_size: int
    normalization: Normalization
    """One mean and deviation for each input channel."""
    sixteen_bit_range: int | None = None
    """Number of values of images with 16 bits; null means 65,536."""
    classes: tuple[str, ...] | None = None
    k: int
    max_pixels: int = MAX_PIXELS
