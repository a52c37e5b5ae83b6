"""Read a torch data set, a loader or another sequence of (image, label) into arrays.

Every sample is read once, in order, into memory. So a random transform of the data set would be
frozen: distillation augments images itself.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kdcore.data.decode import DEEP_MODES, composite_on_white
from kdcore.runtime.errors import UserError

SPLITS = ("train", "val", "test")
_IMAGE_KEYS = ("image", "img", "images", "x", "pixel_values")
_LABEL_KEYS = ("label", "labels", "y", "target")
_CHANNELS = (1, 3, 4)
_PAIR = "(image, label) pairs are expected"
Array = npt.NDArray[Any]


class Samples(NamedTuple):
    """Images uint8 (N, H, W) or (N, H, W, C), labels (N,), and the names of the classes."""

    images: Array
    labels: Array
    class_names: tuple[str, ...] | None


def is_torch_data(value: object) -> bool:
    """Whether the object is a data set or a loader of torch, or a map-style data set like one."""
    from torch.utils.data import DataLoader, Dataset

    if isinstance(value, DataLoader | Dataset):
        return True
    plain = isinstance(value, str | bytes | Mapping | list | tuple) or hasattr(value, "__array__")
    return not plain and hasattr(value, "__getitem__") and hasattr(value, "__len__")


def read_splits(
    data: Any, name: str = "dataset", *, for_evaluation: bool = False
) -> dict[str, Array]:
    """Return the arrays of an ``.npz``, of one data set or of a dict of splits.

    With ``for_evaluation``, train may be missing.
    ``name`` is the argument that errors name. Raises ``UserError`` ``dataset_invalid``.
    """
    splits = data if isinstance(data, Mapping) else {"train": data}
    unknown = sorted(set(splits) - {*SPLITS, "unlabeled"})
    required = "test" if for_evaluation and "train" not in splits else "train"
    if unknown or required not in splits:
        others = "`val`, `test`" if required == "train" else "`train`, `val`"
        raise _error(
            name, f"has the splits {sorted(splits)}: `{required}` is required; {others} may follow"
        )
    arrays: dict[str, Array] = {}
    for split, part in splits.items():
        samples = read_samples(part, f"{name}[{split!r}]" if part is not data else name)
        arrays[f"{split}_images"] = samples.images
        if split != "unlabeled":
            arrays[f"{split}_labels"] = samples.labels
        if split == required and samples.class_names:
            arrays["class_names"] = np.array(samples.class_names)
    return arrays


def read_samples(data: Any, name: str) -> Samples:
    """Read every sample. Raises ``UserError`` ``dataset_invalid``."""
    images: list[Array] = []
    labels: list[int] = []
    try:
        for image, label in _iter_samples(data, name):
            images.append(_to_array(image, name, len(images)))
            labels.append(_to_label(label, name, len(labels)))
    except (TypeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise _error(name, f"cannot be read at sample {len(images)}: {error!r}") from error
    if not images:
        raise _error(name, "has no samples")
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise _error(
            name,
            f"has images of different shapes, such as {sorted(shapes)[:3]}: resize them to one "
            "size, or pass the folder of the images",
        )
    return Samples(_to_bytes(np.stack(images), name), np.array(labels), _class_names(data))


def _iter_samples(data: Any, name: str) -> Iterator[tuple[Any, Any]]:
    from torch.utils.data import DataLoader, IterableDataset

    if isinstance(data, DataLoader) and not _reads_all(data):
        for batch in data:
            yield from zip(*_split_pair(batch, name), strict=True)
        return
    data = data.dataset if isinstance(data, DataLoader) else data
    samples: Iterable[Any] = data
    if not isinstance(data, IterableDataset) and hasattr(data, "__len__"):
        samples = (data[index] for index in range(len(data)))
    for sample in samples:
        yield _split_pair(sample, name)


def _reads_all(loader: Any) -> bool:
    """Whether a loader only batches and shuffles a data set, which is then read in its order.

    Otherwise each call would see another order, and no call would find the run of an earlier one.
    """
    from torch.utils.data import RandomSampler, SequentialSampler, default_collate

    sampler = loader.sampler
    plain = type(sampler) is SequentialSampler or (
        type(sampler) is RandomSampler
        and not sampler.replacement
        and sampler.num_samples == len(loader.dataset)
    )
    return plain and loader.collate_fn is default_collate


def _split_pair(sample: Any, name: str) -> tuple[Any, Any]:
    if isinstance(sample, Mapping):
        keys = [
            next((key for key in known if key in sample), None)
            for known in (_IMAGE_KEYS, _LABEL_KEYS)
        ]
        if None in keys:
            raise _error(name, f"has samples with the fields {sorted(sample)}; {_PAIR}")
        return sample[keys[0]], sample[keys[1]]
    if not isinstance(sample, tuple | list) or len(sample) < 2:
        raise _error(name, f"has samples of type {type(sample).__name__}; {_PAIR}")
    return sample[0], sample[1]


def _to_array(image: Any, name: str, index: int) -> Array:
    """Return an image as (H, W) or (H, W, C), of its own type."""
    if hasattr(image, "convert"):  # a PIL image
        image = _to_eight_bits(image, name, index)
    channels_first = hasattr(image, "detach")
    values: Array = np.asarray(image.detach().cpu() if channels_first else image)
    if values.ndim == 3:
        first, last = values.shape[0] in _CHANNELS, values.shape[2] in _CHANNELS
        if first and (channels_first or not last):
            values = values.transpose(1, 2, 0)
        if first or last:
            return values[:, :, 0] if values.shape[2] == 1 else values
    if values.ndim == 2 and values.dtype.kind in "uif":
        return values
    raise _error(
        name,
        f"has an image of shape {values.shape} and type {values.dtype} at {index}; (H, W), "
        "(C, H, W) or (H, W, C) with 1, 3 or 4 channels are expected",
    )


def _to_eight_bits(image: Any, name: str, index: int) -> Any:
    """Return a PIL image as L or RGB; transparent pixels become white."""
    if image.mode == "F" or image.mode in DEEP_MODES:
        raise _error(
            name,
            f"has an image of mode {image.mode} at {index}; 8 bits are expected: scale the pixels "
            "of all images by one range in its transform, such as "
            "lambda image: numpy.asarray(image) / numpy.float32(65535), or pass the folder of the "
            "images",
        )
    mode = "L" if image.mode == "L" else "RGB"
    opaque = composite_on_white(image)
    return opaque if opaque.mode == mode else opaque.convert(mode)


def _to_label(label: Any, name: str, index: int) -> int:
    value = np.asarray(label.detach().cpu() if hasattr(label, "detach") else label)
    if value.size == 1 and value.dtype.kind in "iu":
        return int(value.reshape(()))
    raise _error(
        name,
        f"has the label {label!r:.80} at {index}; an index of a class is expected, 0 or more",
    )


def _to_bytes(images: Array, name: str) -> Array:
    """Return images as uint8; floats are from 0 to 1, or integers up to 255."""
    if images.dtype == np.uint8:
        return images
    low, high = float(images.min()), float(images.max())
    if not 0 <= low <= high <= 255:
        raise _error(
            name,
            f"has pixels from {low:.3g} to {high:.3g}: remove the normalization from its "
            "transform; pixels from 0 to 1, or uint8, are expected",
        )
    if images.dtype.kind == "f" and high <= 1:
        scaled: Array = np.rint(images * 255).astype(np.uint8)
        return scaled
    if not np.array_equal(images, np.rint(images)):
        raise _error(
            name, f"has pixels from {low:.3g} to {high:.3g}; floats must be from 0 to 1, or whole"
        )
    return images.astype(np.uint8)


def _class_names(data: Any) -> tuple[str, ...] | None:
    """Return ``classes``, as torchvision's data sets have it, also inside subsets and loaders."""
    seen = 0
    while data is not None and seen < 10:
        names = getattr(data, "classes", None)
        if isinstance(names, list | tuple) and len({*map(str, names)}) == len(names) > 1:
            return tuple(map(str, names))
        data, seen = getattr(data, "dataset", None), seen + 1
    return None


def _error(name: str, fault: str) -> UserError:
    return UserError("dataset_invalid", f"{name} {fault}")
