"""Which columns of a table are images and labels, and what their values are."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from kdcore.data.class_labels import MAX_CLASS_NAME_LENGTH, InvalidLabelError, class_name_of
from kdcore.data.decode import InvalidImageError
from kdcore.data.ingest.sample_files import SPLIT_FIELDS

_IMAGE_NAMES = ("image", "img", "images", "picture", "photo", "pixel_values", "png", "jpg", "jpeg")
_BYTES_NAMES = ("bytes", "image_bytes", "img_bytes", "image_data", "img_data", "data", "content")
"""Usual names for the bytes of the images that a column `image` names by their paths."""
_LABEL_NAMES = (
    *("label", "labels", "class", "target", "category", "cls"),
    *("class_name", "label_name", "class_id"),
)
_MAX_LABEL_LENGTH = 4 * MAX_CLASS_NAME_LENGTH
"""Characters or bytes of a label that is read: no row can hold a large text in memory."""
_LAYOUT = (
    "the layout of Hugging Face was expected: a column `image` with the bytes of image files, and "
    "a column `label`"
)


class InvalidTableError(Exception):
    """A table is unusable; the message says why."""


class TableColumns(NamedTuple):
    """The columns that are read."""

    image: str
    label: str | None
    """None for unlabeled images."""
    class_names: tuple[str, ...] | None
    """Names of the classes in the order of their numbers, if the schema has them."""
    others: list[str]
    split: str | None
    """A column of texts that may be words for splits."""


def choose_columns(schema: Any, *, unlabeled: bool) -> TableColumns:
    """Choose the columns of an Arrow schema. Raises :class:`InvalidTableError`."""
    features = _features(schema)
    types = dict(zip(schema.names, schema.types, strict=True))
    marked = [name for name in types if _feature_type(features, name) == "Image"]
    images = marked or [name for name in types if _may_hold_images(types[name])]
    image = _choose_one(images, _IMAGE_NAMES, "images", types)
    _check_other_images(image, types)
    label = None
    if not unlabeled:
        named = [name for name in types if name.lower() in _LABEL_NAMES and name != image]
        marked = [name for name in types if _feature_type(features, name) == "ClassLabel"]
        label = _choose_one(marked or named, _LABEL_NAMES, "labels", types)
    names = _class_names(features, label) if label is not None else None
    texts = [name for name in types if name not in (image, label) and _holds_text(types[name])]
    split = next((n for known in SPLIT_FIELDS for n in texts if n.lower() == known), None)
    others = [name for name in types if name not in (image, label, split)]
    return TableColumns(image, label, names, others, split)


def _check_other_images(image: str, types: Mapping[str, Any]) -> None:
    """Refuse bytes under another name beside a column `image` of texts: which holds the images?"""
    if image.lower() in (*_IMAGE_NAMES, *_BYTES_NAMES):
        return
    texts = [n for n in types if n.lower() in _IMAGE_NAMES and _holds_text(types[n])]
    if texts:
        raise InvalidTableError(
            f"has texts in the column {texts[0]}, and bytes in the column {image}: name the column "
            f"of images image, and the other one otherwise, or store the bytes in {texts[0]}"
        )


def _holds_text(column_type: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(column_type):
        return _holds_text(column_type.value_type)
    return bool(pa.types.is_string(column_type) or pa.types.is_large_string(column_type))


def _choose_one(
    candidates: list[str], preferred: tuple[str, ...], what: str, types: Mapping[str, Any]
) -> str:
    """Return the one candidate, or that with the first preferred name."""
    if not candidates:
        columns = ", ".join(f"{name} ({types[name]})" for name in list(types)[:12])
        raise InvalidTableError(f"has no column of {what}, but {columns}; {_LAYOUT}")
    ranked = sorted(
        candidates, key=lambda n: preferred.index(n.lower()) if n.lower() in preferred else 99
    )
    if len(ranked) > 1 and ranked[0].lower() not in preferred:
        raise InvalidTableError(
            f"has several columns of {what}: {', '.join(candidates)}; keep one of them, or name "
            f"one {preferred[0]}"
        )
    return ranked[0]


def _may_hold_images(column_type: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(column_type):
        fields = {column_type.field(i).name for i in range(column_type.num_fields)}
        return "bytes" in fields
    return bool(pa.types.is_binary(column_type) or pa.types.is_large_binary(column_type))


def _features(schema: Any) -> Mapping[str, Any]:
    """Return the features that ``datasets`` stores in a schema's metadata; none elsewhere."""
    try:
        stored = json.loads((schema.metadata or {})[b"huggingface"])
        features = stored["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return features if isinstance(features, Mapping) else {}


def _feature_type(features: Mapping[str, Any], name: str) -> object:
    feature = features.get(name)
    return feature.get("_type") if isinstance(feature, Mapping) else None


def _class_names(features: Mapping[str, Any], label: str) -> tuple[str, ...] | None:
    if _feature_type(features, label) != "ClassLabel":
        return None
    names = features[label].get("names")
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidTableError(f"has class names of {label} that are not a list of texts")
    if len(set(names)) < len(names):
        raise InvalidTableError(f"names a class of {label} twice")
    return tuple(names)


def name_label(value: object, names: tuple[str, ...] | None) -> str:
    """Return the class of a label: its name, or by ``names`` its number.

    Raises :class:`InvalidLabelError`, also for a missing label.
    """
    if value is None or value == "":
        raise InvalidLabelError("the label is missing; put images without labels into unlabeled")
    _check_length(value)
    if names is None or (isinstance(value, str) and value in names):
        name = class_name_of(value)
        if not name:
            raise InvalidLabelError("the label is blank; put images without labels into unlabeled")
        return name
    if value == -1:
        raise InvalidLabelError(
            "-1 marks an unknown label; leave this file out, or name its split unlabeled"
        )
    text = class_name_of(value)
    if not text.isdecimal() or int(text) >= len(names):
        raise InvalidLabelError(
            f"{text} is not the number of a class; 0 to {len(names) - 1} was expected"
        )
    return names[int(text)]


def _check_length(label: object) -> None:
    if isinstance(label, str | bytes) and len(label) > _MAX_LABEL_LENGTH:
        raise InvalidLabelError(
            f"the label has {len(label)} characters; at most {MAX_CLASS_NAME_LENGTH} are allowed"
        )


def image_bytes(value: object, max_bytes: int) -> bytes:
    """Return the bytes of an image in a column. Raises :class:`InvalidImageError`."""
    data, path = value, None
    if isinstance(value, Mapping):
        data, path = value.get("bytes"), value.get("path")
    if not isinstance(data, bytes):
        if path is not None:
            raise InvalidImageError(f"has only the path {path}: store its bytes in the table")
        raise InvalidImageError("has no image")
    if len(data) > max_bytes:
        raise InvalidImageError(f"has {len(data)} bytes; at most {max_bytes} are allowed")
    return data
