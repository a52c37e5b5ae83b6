"""Request and response bodies of data sets."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from api.http.pagination import Page
from kdcore.schema.asset_info import IgnoredItems, ImageSize, SplitInfo
from kdcore.schema.base import FrozenModel, Name, Seed
from kdcore.schema.catalog import Normalization
from kdcore.schema.dataset_sources import DatasetSource, OnBadImage, OnDuplicates


class DatasetCreate(FrozenModel):
    """A new data set: exactly one of ``upload_id`` and ``source``."""

    name: Name
    upload_id: Annotated[str, Field(max_length=64)] | None = None
    """A complete upload: a zip or tar of images in class folders (in `train/`, `val/` and `test/`,
    or in one tree; `unlabeled/` is optional) or with a CSV table of their paths and labels, an .npz
    with `images` and `labels`, Parquet in the layout of Hugging Face, or WebDataset shards."""
    source: DatasetSource | None = None
    """A data set that needs no upload: scikit-learn's digits, one of torchvision's, or files in a
    folder of the server (`folder:/data/x`) or an S3 bucket (`s3://bucket/prefix`) that the
    operator allows for the project. The files are images in class folders, shards, tables or
    arrays, as in an upload, or a single archive."""
    image_size: ImageSize | None = None
    """Side in pixels of the square images that are stored. Null keeps the size if all images are
    square, of one size and at most 256 pixels wide; else it resizes them to the median of their
    shorter sides, at most 224."""
    split_seed: Seed = 0
    """Seed of the splits that the source does not define."""
    on_bad_image: OnBadImage = "refuse"
    """`skip` leaves out images that cannot be decoded, and lists them in `ignored`."""
    on_duplicates: OnDuplicates = "warn"
    """`drop` removes copies of images: from train alone, never from the `val` and `test` of the
    upload. Of an image that has two labels, it removes all copies."""

    @model_validator(mode="after")
    def _require_one_source(self) -> Self:
        if (self.upload_id is None) == (self.source is None):
            raise PydanticCustomError(
                "source_conflict", "requires exactly one of upload_id and source"
            )
        return self


class AssetError(BaseModel):
    """Why a data set or model failed, with every invalid item."""

    code: str
    message: str
    hint: str | None
    items: list[dict[str, str]] = Field(description="Invalid parts: the first 1,000")
    num_items: int = Field(description="Invalid parts in total")
    fix_fields: list[str] = Field(
        [],
        description="Fields of the request that could mend this. If there are any, the upload "
        "stays for 24 hours: post its `upload_id` again with other values of these fields",
    )


class DatasetSplit(SplitInfo):
    """One split of a data set."""

    source: str | None
    """Folders, shards or arrays of the upload, or the split that it was drawn from; null for data
    sets of an earlier version."""


class DatasetOut(BaseModel):
    """A data set. The fields about its images are null until it is ready."""

    id: str
    object: Literal["dataset"]
    name: str
    state: Literal["ingesting", "ready", "failed"]
    waiting_reason: str | None
    """Why no worker reads it yet; null while one reads it and afterwards."""
    source: str
    split_seed: int
    classes: list[str] | None
    num_classes: int | None
    splits: dict[str, DatasetSplit] | None
    """Also of a failed data set, as far as it was read; `per_class` is then empty."""
    in_channels: int | None
    image_size: int | None
    normalization: Normalization | None
    digest: str | None
    size_bytes: int | None
    on_bad_image: OnBadImage
    on_duplicates: OnDuplicates
    sixteen_bit_range: int | None
    """Number of values of the images with 16 bits, such as 4096 if 12 bits are in use; null
    without such images."""
    ignored: list[IgnoredItems]
    """Parts of the upload that are not in the data set."""
    warnings: list[str]
    """What may be wrong with the data, such as images that test shares with train."""
    error: AssetError | None
    created_at: str
    ready_at: str | None
    links: dict[str, str]


class DatasetPage(Page[DatasetOut]):
    """Data sets, the newest first."""
