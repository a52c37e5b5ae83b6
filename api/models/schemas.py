"""Request and response bodies of models."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from api.datasets.schemas import AssetError
from api.http.pagination import Page
from api.models.pretrained_names import ModelSource
from kdcore.schema.asset_info import KeyMap, WeightsChoice
from kdcore.schema.base import FrozenModel, JsonNumber, Label, Name, Text
from kdcore.schema.catalog import DeclaredNormalization, ModelArchitecture, Normalization


def _refuse_share(value: float) -> float:
    if 0 < value <= 1:
        raise PydanticCustomError(
            "share_not_percent",
            "must be in percent: {replacement} for a share of {share}",
            {"replacement": round(value * 100, 6), "share": value},
        )
    return value


Percent = Annotated[float, JsonNumber, Field(ge=0, le=100), AfterValidator(_refuse_share)]
"""An accuracy in percent; up to 1 it is probably a share."""
ModelState = Literal["verifying", "ready", "failed"]


class ModelCreate(FrozenModel):
    """A new model: an upload, or a ``source`` that defines everything."""

    name: Name
    architecture: ModelArchitecture | None = None
    """Null infers it from the upload: from the names and shapes of its tensors, or as
    `exported_program` or `onnx` where the file itself defines the network, as torch.export and ONNX
    files do. Such a network is a teacher, or is evaluated, and is never a student."""
    num_classes: Annotated[int, JsonNumber, Field(ge=2, le=100_000)] | None = None
    """Null reads it from the last layer."""
    upload_id: Annotated[str, Field(max_length=64)] | None = None
    """A complete upload: safetensors, or a file of torch.save with a state dict; also as .gz, or as
    a zip or tar of shards with their index. Or a network: a file of torch.export.save, or ONNX,
    also as a zip with its files of data."""
    key_map: KeyMap = ()
    """Pairs of a regular expression and its replacement, which rename the tensors of the upload in
    this order; a pair with the replacement "" for the full name leaves a tensor out."""
    weights: WeightsChoice | None = None
    """Which weights to use of a checkpoint with averaged (EMA) and raw ones. Null prefers the
    averaged ones, with a warning."""
    source: ModelSource | None = None
    """`job:<id>`: the student of a job that has succeeded. `torchvision:<weights>` and
    `timm:<name>`: pretrained weights, which a worker downloads; the name of an architecture means
    its default weights."""
    normalization: DeclaredNormalization | None = None
    """Of pixels scaled to 0..1. Null uses the default of the architecture, with a warning. For a
    network from a file, null uses that in the file, or pixels as they are, with a warning."""
    input_size: Annotated[int, JsonNumber, Field(ge=8, le=4096)] | None = None
    """Side in pixels of the images that the model was trained on. Null uses the default of the
    architecture, with a warning, or the size in the file of a network."""
    class_names: Annotated[tuple[Name, ...], Field(min_length=2, max_length=100_000)] | None = None
    reported_top1: Percent | None = None
    """Accuracy in percent that the model is known to have. A job whose data set shows a far lower
    one has a warning."""
    license: Name | None = None

    @model_validator(mode="after")
    def _require_complete(self) -> Self:
        if self.source is not None:
            extra_fields = self.model_fields_set - {"name", "source", "license"}
            if extra_fields:
                raise PydanticCustomError(
                    "source_conflict",
                    "source defines these fields; remove them: {fields}",
                    {"fields": ", ".join(sorted(extra_fields))},
                )
            return self
        if self.upload_id is None:
            raise PydanticCustomError("source_missing", "requires upload_id or source")
        if None not in (self.class_names, self.num_classes) and (
            len(self.class_names or ()) != self.num_classes
        ):
            raise PydanticCustomError(
                "classes_mismatch", "class_names must have num_classes entries"
            )
        return self


class ModelUpdate(FrozenModel):
    """The fields of a model that can change."""

    name: Name | None = None
    class_names: Annotated[tuple[Name, ...], Field(min_length=2, max_length=100_000)] | None = None
    """In the order of the logits; their number is the model's number of classes."""
    license: Name | None = None
    labels: Annotated[dict[Label, Text], Field(max_length=64)] | None = None


class ModelOut(BaseModel):
    """The weights of a network and their metadata."""

    id: str
    object: Literal["model"]
    name: str
    state: ModelState
    waiting_reason: str | None
    """Why no worker verifies it yet; null while one verifies it and afterwards."""
    source: str
    architecture: str | None
    """Null while it is inferred from an upload. `exported_program` or `onnx` for a network from a
    file."""
    num_classes: int | None
    in_channels: int | None
    input_size: int | None
    normalization: Normalization | None
    sixteen_bit_range: int | None
    """Number of values of the training images with 16 bits; predictions scale images with 16 bits
    by it. Null without such images."""
    class_names: list[str] | None
    reported_top1: float | None
    """Accuracy in percent: of the test split in the report of a `job:` source, else as declared."""
    license: str | None
    labels: dict[str, str]
    num_params: int | None
    """Null for ONNX, which does not say which tensors are parameters."""
    outputs: dict[str, list[int]] | None
    """Of a network from a file: shapes for one image of its outputs beside the logits, by the names
    that `taps` of a teacher can have. Null for other models."""
    size_bytes: int | None
    sha256: str | None
    error: AssetError | None
    warnings: list[str]
    created_at: str
    ready_at: str | None
    links: dict[str, str]


class ModelPage(Page[ModelOut]):
    """Models, the newest first."""
