"""The recipe: a job as in the API, with paths in place of ids."""

from typing import Annotated, Any, ClassVar

from pydantic import Field

from kdcore.schema.asset_info import ImageSize
from kdcore.schema.base import FrozenModel, Name
from kdcore.schema.catalog import DeclaredNormalization, ModelArchitecture
from kdcore.schema.dataset_sources import SOURCES, KnownSource, OnBadImage, OnDuplicates
from kdcore.schema.job import ChannelRule, JobSpec, Student, TapPaths, Teacher

PathText = Annotated[str, Field(min_length=1, max_length=4096)]
NumClasses = Annotated[int, Field(ge=2, le=100_000)]


class RecipeModel(FrozenModel):
    """A network on disk."""

    weights: PathText
    """The folder of a finished run; a state dict as .pt, .pth or .safetensors; a network as .pt2 of
    torch.export or .onnx; or published weights such as
    ``torchvision:ResNet50_Weights.IMAGENET1K_V2``."""
    architecture: ModelArchitecture | None = None
    """Of a state dict; null infers it from names and shapes. Other weights name theirs. A network
    from a file is `exported_program` or `onnx`."""
    num_classes: NumClasses | None = None
    """Classes of a state dict; null reads them from its last layer."""
    input_size: ImageSize | None = None
    """Side of the images that a state dict was trained on; null means the data set's."""
    normalization: DeclaredNormalization | None = None
    """Normalization that a state dict was trained with; null means the architecture's."""
    class_names: Annotated[tuple[Name, ...], Field(min_length=2, max_length=100_000)] | None = None
    """Names of a state dict's classes in the order of its logits; classes are matched by name."""


class RecipeTeacher(RecipeModel):
    """One teacher and its share among several; the last four fields are those of a job."""

    reference_field: ClassVar[str] = "weights"

    weight: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    class_map: (
        Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=2, max_length=100_000)]
        | None
    ) = None
    channels: ChannelRule | None = None
    taps: TapPaths | None = None


class RecipeStudent(Student):
    """The network to train."""

    init: PathText = "random"
    """`random`, `pretrained` (torchvision and timm), or initial weights: a file, or the folder of
    an earlier run."""


class RecipeFrom(FrozenModel):
    """The earlier run that a student starts from."""

    folder: PathText
    checkpoint: Annotated[str, Field(min_length=1, max_length=64)] = "best"
    """`best` is the delivered student; `last` the newest checkpoint; else a checkpoint's step."""


class RecipeDataset(FrozenModel):
    """A data set and how it is ingested."""

    path: PathText | None = None
    """A folder of class folders (or with train/, val/, test/ above them), a .zip, .npz or .tar, or
    a .safetensors store that ingestion wrote."""
    source: KnownSource | None = None
    """Instead of a path: the built-in set, or one of torchvision's."""
    root: PathText | None = None
    """Folder with torchvision's data sets; null downloads them."""
    image_size: ImageSize | None = None
    split_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    on_bad_image: OnBadImage = "refuse"
    """`skip` leaves out images that cannot be decoded."""
    on_duplicates: OnDuplicates = "warn"
    """`drop` removes copies of images from train."""

    @property
    def reference(self) -> str:
        """The path or the source; empty without both, which preparation reports."""
        return self.path or self.source or ""


class Recipe(JobSpec):
    """A job that runs on this machine."""

    # These four fields have paths where a job has ids, so their types differ.
    teachers: Annotated[tuple[RecipeTeacher, ...], Field(max_length=8)] = ()  # type: ignore[assignment]
    student: RecipeStudent | None = None
    model: RecipeModel | None = None  # type: ignore[assignment]  # as teachers
    from_: Annotated[RecipeFrom | None, Field(alias="from")] = None  # type: ignore[assignment]  # as teachers
    dataset: PathText | RecipeDataset  # type: ignore[assignment]  # as teachers
    """A path, a source such as `builtin:digits` or `torchvision:CIFAR10`, or an object."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$")] = "auto"
    """`auto` uses the first accelerator, else the CPU."""
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Threads of one operator; null uses all cores."""

    def references(self) -> dict[str, Any]:
        """The paths and names of the recipe, in the fields of a job."""
        job_fields = Teacher.model_fields.keys() & RecipeTeacher.model_fields.keys()
        teachers = [
            {"model": teacher.weights} | {name: getattr(teacher, name) for name in job_fields}
            for teacher in self.teachers
        ]
        start = self.from_
        return {
            "dataset": dataset_config(self.dataset).reference,
            "teachers": teachers,
            "model": None if self.model is None else self.model.weights,
            "from_": start and {"job": start.folder, "checkpoint": start.checkpoint},
        }


def dataset_config(dataset: str | RecipeDataset) -> RecipeDataset:
    """Return the object that the text ``dataset`` is short for."""
    if isinstance(dataset, RecipeDataset):
        return dataset
    is_source = dataset in SOURCES or dataset.startswith(("builtin:", "torchvision:"))
    return RecipeDataset.model_validate({"source" if is_source else "path": dataset})


def normalize_keys(body: Any) -> Any:
    """Rename ``from_`` to ``from``, which Python does not accept as a keyword argument.

    A body with both is returned unchanged, so that validation reports ``from_`` as unknown.
    """
    if not isinstance(body, dict) or "from_" not in body or "from" in body:
        return body
    return {"from" if key == "from_" else key: value for key, value in body.items()}
