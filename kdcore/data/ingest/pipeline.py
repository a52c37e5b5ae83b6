"""The ``ingest`` command: read an upload, split it, decode it and write a stored data set.

The upload is read twice, first headers and labels, then pixels, with one image in memory at a time.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kdcore.data.decode import FULL_RANGE, ImageHeader, power_of_two_above
from kdcore.data.ingest import duplicates, folder_layout, statistics
from kdcore.data.ingest.base import (
    DatasetReader,
    ImageFormat,
    IngestContext,
    LabeledImage,
    Pixels,
    ScannedImage,
)
from kdcore.data.ingest.duplicates import PixelDigests
from kdcore.data.ingest.formats import open_reader
from kdcore.data.ingest.ingest_summary import SummaryBuilder
from kdcore.data.ingest.resume import PixelFile
from kdcore.data.ingest.splits import (
    SPLIT_NAMES_HINT,
    find_only_split,
    is_test_only,
    plan_images,
    words_in,
)
from kdcore.data.store_writer import open_writer
from kdcore.data.types import SPLITS, SubsetName
from kdcore.protocol.events import ErrorDetail
from kdcore.protocol.requests import IngestRequest
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import MAX_ITEMS, UserError, error_detail, join_names
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.asset_info import DatasetInfo

MIN_SIDE = 8
MAX_RESIZED_SIDE = 224
"""Side of images that must be resized."""
MAX_NATIVE_SIDE = 256
"""Side of images that are all square and of one size."""
_NAMES_IN_MESSAGE = 5


def ingest(
    request: IngestRequest, workdir: Path, events: EventWriter, cancellation: CancellationToken
) -> None:
    """Ingest the upload or the built-in data set that ``request`` names.

    Writes ``artifacts/dataset.safetensors`` in ``workdir`` and reports its :class:`DatasetInfo`.
    Raises :class:`UserError` ``dataset_invalid``, which names every broken file, and
    :class:`RunCancelledError`.
    """
    context = IngestContext(request, workdir, events, cancellation)
    target = workdir / "artifacts" / "dataset.safetensors"
    counts: Counter[SubsetName] = Counter()
    try:
        with open_reader(context) as reader:
            info = _ingest(reader, context, target, counts)
    except UserError:
        _report_summary(context, counts)
        raise
    _report_summary(context, {name: split.count for name, split in info.splits.items()})
    events.artifact(target, target.name, "safetensors", "application/octet-stream")
    events.report(info.model_dump(mode="json"))


def _report_summary(context: IngestContext, counts: Mapping[SubsetName, int]) -> None:
    """Report what was read, as one event and as lines of the log."""
    if context.request.on_bad_image == "skip":
        bad = [f"{name}: {image.detail.detail}" for name, image in context.bad_images.items()]
        reason = "cannot be decoded (on_bad_image: skip)"
        context.summary.add_ignored(reason, bad, max_examples=MAX_ITEMS)
    summary = context.summary.build(counts)
    for text in summary.warnings:
        context.events.log("warning", text)
    for part in summary.ignored:
        text = f"{part.count} ignored ({part.reason}): {join_names(part.examples)}"
        context.events.log("warning", text)
    context.events.ingest_summary(summary)


def _ingest(
    reader: DatasetReader, context: IngestContext, target: Path, counts: Counter[SubsetName]
) -> DatasetInfo:
    """Ingest; ``counts`` gets the usable images of each split of the upload."""
    context.events.phase("check")
    scanned = reader.scan()
    images = _read_only_split([scanned_image.image for scanned_image in scanned], context)
    counts.update(image.split for image in images)
    bad_labels = _settle_bad_images(reader, context)
    if not reader.problems:
        _require_training_images(images, context)
    if context.request.on_bad_image == "skip":
        bad_labels = _add_lost_classes(reader, images, context)
    classes = _check_classes(reader, images, bad_labels)
    if not scanned:
        raise _refusal(reader, context)
    headers = [scanned_image.header for scanned_image in scanned]
    image_format = _choose_format(context.request, headers)
    _describe(scanned, classes, image_format, context.summary)
    context.events.phase("decode")
    if reader.problems:
        # The upload is refused anyway; decoding finds the broken images, to report all at once.
        for _ in reader.decode_images(images, image_format):
            pass
        _settle_bad_images(reader, context)
        raise _refusal(reader, context)
    has_deep_images = any(header.max_value is not None for header in headers)
    target_format = _TargetFormat(tuple(classes), image_format, has_deep_images, target)
    while True:
        try:
            return _write_dataset(reader, context, images, target_format)
        except _ImagesRemovedError as removal:
            images = [i for n, i in enumerate(images) if n not in removal.positions]
            _check_removal(images, classes, context.request)


def _describe(
    scanned: Sequence[ScannedImage],
    classes: Sequence[str],
    image_format: ImageFormat,
    summary: SummaryBuilder,
) -> None:
    """Add warnings of classes without a name, and of images that are not stored as they are."""
    num_values = image_format.sixteen_bit_range
    summary.describe_classes(classes)
    summary.describe_headers([header for _, header in scanned], num_values)
    deep = [
        (image.split, image.name, header.max_value)
        for image, header in scanned
        if header.max_value is not None
    ]
    summary.describe_dark_images(deep, num_values)


def _read_only_split(images: list[LabeledImage], context: IngestContext) -> list[LabeledImage]:
    """Make test the only split of a set that is only measured and that has no training images."""
    request, sources = context.request, context.summary.sources
    if not request.for_evaluation:
        return images
    only = find_only_split(images, sources.get("train", ""), request.file_name)
    if only is None:
        return images
    labeled = next(image.split for image in images if image.split != "unlabeled")
    source = sources.pop(labeled, "the upload")
    sources["test"] = source if words_in(source) else request.file_name or source
    sources["train"] = sources["val"] = "copies of test images"
    return [i if i.split == "unlabeled" else i._replace(split="test") for i in images]


def _check_classes(
    reader: DatasetReader, images: list[LabeledImage], bad_labels: set[str]
) -> list[str]:
    """Return the classes; those of test where all images are test, which may lack some."""
    if is_test_only(images):
        images = [image._replace(split="train") for image in images if image.split == "test"]
        bad_labels = bad_labels.union(reader.classes or ())
    return folder_layout.check_classes(images, reader.problems, reader.classes, bad_labels)


def _require_training_images(images: Sequence[LabeledImage], context: IngestContext) -> None:
    """Raise :class:`UserError` if the upload has no images, or none for training."""
    splits_in_upload = dict.fromkeys(image.split for image in images)
    if "train" in splits_in_upload:
        return
    if context.request.for_evaluation and is_test_only(images):
        return
    sources = context.summary.sources
    read = [f"{split} from {sources.get(split, 'the upload')}" for split in splits_in_upload]
    if read:
        message = f"the upload has no images in train/; it has images of {join_names(read)}"
        raise UserError("dataset_invalid", message, hint=SPLIT_NAMES_HINT)
    others = context.summary.ignored_names()
    message = "the upload has no images" + (f", only {join_names(others)}" if others else "")
    raise UserError("dataset_invalid", message, hint=folder_layout.LAYOUT_HINT)


def _settle_bad_images(reader: DatasetReader, context: IngestContext) -> set[str]:
    """Make bad images problems, unless they are skipped; return the labels of refused ones."""
    if context.request.on_bad_image == "skip":
        return set()
    details = [bad_image.detail for bad_image in context.bad_images.values()]
    reader.problems[:] = dict.fromkeys((*reader.problems, *details))
    return {bad_image.label for bad_image in context.bad_images.values() if bad_image.label}


def _add_lost_classes(
    reader: DatasetReader, images: Sequence[LabeledImage], context: IngestContext
) -> set[str]:
    """Make classes problems whose training images are all skipped; return these classes."""
    labeled_split = "test" if is_test_only(images) else "train"
    trained = {image.label for image in images if image.split == labeled_split}
    bad = {bad_image.label for bad_image in context.bad_images.values() if bad_image.label}
    lost = bad - trained if trained else set()
    detail = "has no training images left without bad images"
    reader.problems.extend(error_detail(label, detail) for label in sorted(lost))
    return lost


def _check_removal(
    images: Sequence[LabeledImage], classes: Sequence[str], request: IngestRequest
) -> None:
    """Raise :class:`UserError` for classes that lost all of their training images."""
    if is_test_only(images):
        return
    trained = {image.label for image in images if image.split == "train"}
    detail = "has no training images left without bad images and copies"
    problems = [error_detail(label, detail) for label in classes if label not in trained]
    if problems:
        drops = request.on_duplicates == "drop"
        raise _dataset_error(problems, ("on_duplicates",) if drops else ())


class _ImagesRemovedError(Exception):
    """Some images are bad, or copies: the data set is written again without them."""

    def __init__(self, positions: set[int]) -> None:
        super().__init__()
        self.positions = positions


class _TargetFormat(NamedTuple):
    """What is written, and where."""

    classes: tuple[str, ...]
    image_format: ImageFormat
    has_deep_images: bool
    target: Path


def _write_dataset(
    reader: DatasetReader,
    context: IngestContext,
    images: Sequence[LabeledImage],
    target_format: _TargetFormat,
) -> DatasetInfo:
    """Draw splits and write. Raises :class:`_ImagesRemovedError` for images to leave out."""
    request, image_format = context.request, target_format.image_format
    drawn, stored, rows, targets = plan_images(images, request.split_seed)
    _check_size(len(stored), image_format, request)
    plan = _outline(stored, target_format, request.split_seed)
    outline = statistics.info_without_statistics(plan)
    digests = PixelDigests(len(drawn))
    removed: set[int] = set()
    with open_writer(target_format.target, outline, plan.targets) as writer:
        for position, decoded in _decode_images(reader, context, drawn, image_format):
            if decoded is None:
                removed.add(position)
                continue
            pixels = np.ascontiguousarray(decoded)
            digests.add(position, pixels)
            for target in targets[position]:
                writer.write_images(stored[target].split, rows[target], pixels)
        _settle_bad_images(reader, context)
        if reader.problems:
            raise _refusal(reader, context)
        groups = digests.groups()
        if request.on_duplicates == "drop":
            removed |= _drop_copies(context, images, groups)
        if removed:
            raise _ImagesRemovedError(removed)
        context.events.phase("write")
        if not is_test_only(images):
            context.summary.add_drawn_splits({i.split for i in images}, request.split_seed)
        duplicates.add_warnings(context.summary, drawn, groups)
        info = statistics.add_statistics(outline, writer.read_back())
        writer.finish(info)
    return info


def _decode_images(
    reader: DatasetReader,
    context: IngestContext,
    images: Sequence[LabeledImage],
    image_format: ImageFormat,
) -> Iterator[tuple[int, Pixels | None]]:
    """Decode like ``reader``, except for images that were decoded before, from a source."""
    if context.resume is None:
        yield from reader.decode_images(images, image_format)
        return
    stored: PixelFile = context.resume.pixels(tuple(image_format))
    unread = []
    for position, image in enumerate(images):
        pixels = stored.read(image.path_parts)
        if pixels is None:
            unread.append(position)
        else:
            context.report_progress(position, len(images))
            yield position, pixels
    context.num_resumed = len(images) - len(unread)
    rest = [images[position] for position in unread]
    for index, decoded in reader.decode_images(rest, image_format) if rest else ():
        if decoded is not None:
            stored.add(rest[index].path_parts, np.ascontiguousarray(decoded))
        yield unread[index], decoded
    context.num_resumed = 0


def _drop_copies(
    context: IngestContext, images: Sequence[LabeledImage], groups: list[list[int]]
) -> set[int]:
    dropped = duplicates.positions_to_drop(images, groups)
    names = [images[position].name for position in sorted(dropped)]
    reason = "is a copy of another image (on_duplicates: drop)"
    context.summary.add_ignored(reason, names, max_examples=MAX_ITEMS)
    return dropped


def _choose_format(request: IngestRequest, shapes: list[ImageHeader]) -> ImageFormat:
    """Return the side of the stored images, whether all are gray, and the range of 16 bits."""
    gray = all(shape.gray for shape in shapes)
    max_value = max((s.max_value for s in shapes if s.max_value is not None), default=None)
    num_values = FULL_RANGE if max_value is None else power_of_two_above(max_value)
    return ImageFormat(_choose_side(request, shapes), gray, num_values)


def _choose_side(request: IngestRequest, shapes: list[ImageHeader]) -> int:
    if request.image_size is not None:
        return request.image_size
    sides = {(shape.width, shape.height) for shape in shapes}
    width, height = next(iter(sides))
    if len(sides) == 1 and width == height >= MIN_SIDE:
        return min(width, MAX_NATIVE_SIDE)
    median = int(np.median([min(shape.width, shape.height) for shape in shapes]))
    return min(max(median, MIN_SIDE), MAX_RESIZED_SIDE)


def _outline(
    images: Sequence[LabeledImage], target_format: _TargetFormat, seed: int
) -> statistics.DatasetOutline:
    classes, image_format = target_format.classes, target_format.image_format
    index = {label: position for position, label in enumerate(classes)}
    return statistics.DatasetOutline(
        classes=classes,
        targets={
            split: np.array([index[i.label] for i in images if i.split == split], dtype=np.int64)
            for split in SPLITS
        },
        num_unlabeled=sum(image.split == "unlabeled" for image in images),
        in_channels=1 if image_format.gray else 3,
        image_size=image_format.size,
        split_seed=seed,
        sixteen_bit_range=image_format.sixteen_bit_range if target_format.has_deep_images else None,
    )


def _check_size(count: int, image_format: ImageFormat, request: IngestRequest) -> None:
    needed = count * (1 if image_format.gray else 3) * image_format.size**2
    if needed > request.max_decoded_bytes:
        raise UserError(
            "dataset_invalid",
            f"the decoded images take {needed} bytes; at most {request.max_decoded_bytes} "
            "are allowed",
            hint="upload fewer images, or request a smaller image_size",
        )


def _refusal(reader: DatasetReader, context: IngestContext) -> UserError:
    """Return the error for all problems; bad images alone can also be skipped."""
    bad = {bad_image.detail for bad_image in context.bad_images.values()}
    can_skip = bad.issuperset(reader.problems)
    return _dataset_error(reader.problems, ("on_bad_image",) if can_skip else ())


def _dataset_error(problems: list[ErrorDetail], fix_fields: tuple[str, ...]) -> UserError:
    count = "1 part" if len(problems) == 1 else f"{len(problems)} parts"
    names = join_names([problem.name for problem in problems], _NAMES_IN_MESSAGE)
    hint = "correct or remove the parts that are named, and upload the data set again"
    if "on_bad_image" in fix_fields:
        hint += ', or send on_bad_image: "skip" to leave out images that cannot be decoded'
    return UserError(
        "dataset_invalid",
        f"{count} of the data set cannot be used: {names}",
        hint=hint,
        items=problems,
        fix_fields=fix_fields,
    )
