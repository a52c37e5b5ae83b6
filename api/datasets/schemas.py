"""Data sets as requests and answers carry them."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from api.http.pagination import Page
from kdcore.schema.asset_info import ImageSize, SplitInfo
from kdcore.schema.base import FrozenModel, Name
from kdcore.schema.catalog import Normalization
from kdcore.schema.dataset_sources import KnownSource


class DatasetCreate(FrozenModel):
    """Where a data set comes from: exactly one of ``upload_id`` and ``source``."""

    name: Name
    upload_id: Annotated[str, Field(max_length=64)] | None = None
    """A complete upload: a zip of images in class folders (`train/ val/ test/` or one tree, with
    `unlabeled/` beside them), an .npz of `images` and `labels`, or WebDataset tar shards."""
    source: KnownSource | None = None
    """A set that needs no upload: scikit-learn's handwritten digits, or one of torchvision's."""
    image_size: ImageSize | None = None
    """Side of the square images that are kept, in pixels. Null keeps a common square size up to
    256, and brings others to the median of their shorter sides, 224 at most."""
    split_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Draws the splits that the source does not have."""

    @model_validator(mode="after")
    def _require_one_source(self) -> Self:
        if (self.upload_id is None) == (self.source is None):
            raise PydanticCustomError("source_conflict", "give either upload_id or source")
        return self


class AssetError(BaseModel):
    """Why the bytes could not be used; every bad item is named."""

    code: str
    message: str
    hint: str | None
    items: list[dict[str, str]]


class DatasetOut(BaseModel):
    """A data set. What its images are is known when it is ready."""

    id: str
    object: Literal["dataset"]
    name: str
    state: Literal["ingesting", "ready", "failed"]
    source: str
    split_seed: int
    classes: list[str] | None
    num_classes: int | None
    splits: dict[str, SplitInfo] | None
    in_channels: int | None
    image_size: int | None
    normalization: Normalization | None
    digest: str | None
    size_bytes: int | None
    error: AssetError | None
    created_at: str
    ready_at: str | None
    links: dict[str, str]


class DatasetPage(Page):
    """Data sets, the newest first."""

    data: list[DatasetOut]
