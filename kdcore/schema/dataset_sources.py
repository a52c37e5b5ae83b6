"""Sources of data sets without an upload: the built-in digits, torchvision's data sets, and files.

Files are below a folder of the server (``folder:/data/x``) or a prefix of an S3 bucket
(``s3://bucket/prefix``) that the operator allows.
"""

import difflib
import re
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from kdcore.schema.base import FrozenModel, join_with_or

OnBadImage = Literal["refuse", "skip"]
"""What becomes of an upload with images that cannot be decoded."""
OnDuplicates = Literal["warn", "drop"]
"""What becomes of images that are in a data set more than once."""
DIGITS = "builtin:digits"
TORCHVISION_PREFIX = "torchvision:"
FOLDER_PREFIX = "folder:"
S3_PREFIX = "s3://"
MAX_SOURCE_LENGTH = 1000
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class TorchvisionDatasetInfo(FrozenModel):
    """Facts of a torchvision data set that are known without loading it."""

    license: str
    """License as the publishers state it; the user is responsible for complying with it."""
    allows_flip: bool = True
    """Whether a mirrored image keeps its class; false for digits and letters."""


_UNSTATED = "none stated by its publishers"

TORCHVISION_DATASET_INFO: dict[str, TorchvisionDatasetInfo] = {
    "CIFAR10": TorchvisionDatasetInfo(license=_UNSTATED),
    "CIFAR100": TorchvisionDatasetInfo(license=_UNSTATED),
    "Country211": TorchvisionDatasetInfo(license="Creative Commons, different for each image"),
    "DTD": TorchvisionDatasetInfo(license="for research"),
    "EuroSAT": TorchvisionDatasetInfo(license="MIT"),
    "FGVCAircraft": TorchvisionDatasetInfo(license="for non-commercial research"),
    "FashionMNIST": TorchvisionDatasetInfo(license="MIT"),
    "Flowers102": TorchvisionDatasetInfo(license=_UNSTATED),
    "Food101": TorchvisionDatasetInfo(license=_UNSTATED),
    "GTSRB": TorchvisionDatasetInfo(license=_UNSTATED, allows_flip=False),
    "KMNIST": TorchvisionDatasetInfo(license="CC BY-SA 4.0", allows_flip=False),
    "MNIST": TorchvisionDatasetInfo(license="CC BY-SA 3.0", allows_flip=False),
    "OxfordIIITPet": TorchvisionDatasetInfo(license="CC BY-SA 4.0"),
    "STL10": TorchvisionDatasetInfo(license=_UNSTATED),
    "SVHN": TorchvisionDatasetInfo(license="for non-commercial use", allows_flip=False),
    "USPS": TorchvisionDatasetInfo(license=_UNSTATED, allows_flip=False),
}
"""By the names of torchvision's classes, which are case-sensitive."""

SOURCES = (DIGITS, *(TORCHVISION_PREFIX + name for name in TORCHVISION_DATASET_INFO))


def allows_flip(source: str) -> bool:
    """Whether augmentation may mirror images of ``source``; true for uploads."""
    known = TORCHVISION_DATASET_INFO.get(source.removeprefix(TORCHVISION_PREFIX))
    return source != DIGITS and (known is None or known.allows_flip)


def _check_known(source: str) -> str:
    if source in SOURCES:
        return source
    by_folded = {name.casefold(): name for name in SOURCES}
    by_folded |= {name.removeprefix(TORCHVISION_PREFIX).casefold(): name for name in SOURCES}
    near = difflib.get_close_matches(source[:100].casefold(), by_folded, n=5, cutoff=0.5)
    names = list(dict.fromkeys(by_folded[match] for match in near))[:3] or list(SOURCES)
    raise PydanticCustomError(
        "unknown_source",
        "there is no such source; did you mean {near}?",
        {"near": join_with_or(names)},
    )


KnownSource = Annotated[
    str, AfterValidator(_check_known), WithJsonSchema({"type": "string", "enum": list(SOURCES)})
]
"""One of :data:`SOURCES`."""


class FileSource(NamedTuple):
    """A folder or file of the server (``bucket`` is None), or a prefix or object in S3."""

    bucket: str | None
    parts: tuple[str, ...]
    """Folders of the path, or of the key."""
    is_prefix: bool = False
    """Whether a slash ends the key, so that no object of that name is read; only in S3."""

    def contains(self, other: "FileSource") -> bool:
        """Whether ``other`` is this folder or prefix, or below it."""
        return self.bucket == other.bucket and self.parts == other.parts[: len(self.parts)]

    @property
    def address(self) -> str:
        """The source as text; a slash ends that of a prefix."""
        if self.bucket is None:
            return f"{FOLDER_PREFIX}/{'/'.join(self.parts)}"
        end = ("",) if self.is_prefix else ()
        return "/".join((f"{S3_PREFIX}{self.bucket}", *self.parts, *end))


def is_file_source(source: str) -> bool:
    """Whether a source names files, with the beginning of a folder or an S3 prefix."""
    return source.startswith((FOLDER_PREFIX, S3_PREFIX))


def parse_file_source(source: str) -> FileSource:
    """Parse ``folder:/path`` or ``s3://bucket/prefix``.

    A slash at the end of an S3 key names what is below it, and not an object of that name.
    Raises ``ValueError`` for other forms, for ``.``, ``..`` and empty parts, and for control
    characters. Characters such as ``%`` have no special meaning.
    """
    if len(source) > MAX_SOURCE_LENGTH or _CONTROL.search(source):
        raise ValueError(f"must have at most {MAX_SOURCE_LENGTH} characters, none of them control")
    if source.startswith(FOLDER_PREFIX):
        bucket, path = None, source.removeprefix(FOLDER_PREFIX)
        if not path.startswith("/"):
            raise ValueError("must have an absolute path: folder:/data/images")
        path = path[1:]
    elif source.startswith(S3_PREFIX):
        bucket, _, path = source.removeprefix(S3_PREFIX).partition("/")
        if not _BUCKET.fullmatch(bucket):
            raise ValueError("must name a bucket: s3://bucket/prefix")
    else:
        raise ValueError("must be folder:/path or s3://bucket/prefix")
    parts = tuple(path.removesuffix("/").split("/")) if path else ()
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError("must have a plain path, without '.', '..' and empty parts")
    return FileSource(bucket, parts, bucket is not None and bool(parts) and path.endswith("/"))


def _check_source(source: str) -> str:
    if not is_file_source(source):
        return _check_known(source)
    try:
        return parse_file_source(source).address
    except ValueError as error:
        raise PydanticCustomError("invalid_source", "{problem}", {"problem": str(error)}) from error


DatasetSource = Annotated[
    str,
    AfterValidator(_check_source),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "enum": list(SOURCES)},
                {"type": "string", "pattern": "^(folder:/|s3://).+", "maxLength": 1000},
            ]
        }
    ),
]
"""One of :data:`SOURCES`, or a :class:`FileSource` as text."""
