"""The ``ingest`` command: read an upload, split it, decode it and write a stored data set.

The upload is read twice, first headers and labels, then pixels, with one image in memory at a time.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kdcore.data.decode import ImageHeader
from kdcore.data.ingest import folder_layout, splits, statistics
from kdcore.data.ingest.base import DatasetReader, ImageFormat, IngestContext, LabeledImage
from kdcore.data.ingest.detect import open_reader
from kdcore.data.store_writer import open_writer
from kdcore.data.types import SPLITS, SubsetName
from kdcore.protocol.events import ErrorDetail
from kdcore.protocol.requests import IngestRequest
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import UserError, join_names
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.asset_info import DatasetInfo

MIN_SIDE = 8
MAX_RESIZED_SIDE = 224
"""Side of images that must be resized."""
MAX_NATIVE_SIDE = 256
"""Side of images that are all square and of one size."""


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
    images = [scanned_image.image for scanned_image in scanned]
    counts.update(image.split for image in images)
    classes = folder_layout.check_classes(images, reader.problems, reader.classes)
    if not scanned:
        raise _dataset_error(reader.problems)
    image_format = _choose_format(
        context.request, [scanned_image.header for scanned_image in scanned]
    )
    context.events.phase("decode")
    if reader.problems:
        # The upload is refused anyway; decoding finds the broken images, to report all at once.
        for _ in reader.decode_images(images, image_format):
            pass
        raise _dataset_error(reader.problems)
    images = splits.draw_missing_splits(images, context.request.split_seed)
    context.summary.add_drawn_splits(counts, context.request.split_seed)
    _check_size(len(images), image_format, context.request)
    plan = _outline(images, classes, image_format, context.request.split_seed)
    return _write_dataset(reader, context, images, (plan, target))


def _write_dataset(
    reader: DatasetReader,
    context: IngestContext,
    images: Sequence[LabeledImage],
    plan_and_target: tuple[statistics.DatasetOutline, Path],
) -> DatasetInfo:
    plan, target = plan_and_target
    image_format = ImageFormat(plan.image_size, gray=plan.in_channels == 1)
    outline = statistics.info_without_statistics(plan)
    rows = _rows(images)
    with open_writer(target, outline, plan.targets) as writer:
        for position, pixels in reader.decode_images(images, image_format):
            if pixels is not None:
                writer.write_images(images[position].split, rows[position], pixels)
        if reader.problems:
            raise _dataset_error(reader.problems)
        context.events.phase("write")
        info = statistics.add_statistics(outline, writer.read_back())
        writer.finish(info)
    return info


def _choose_format(request: IngestRequest, shapes: list[ImageHeader]) -> ImageFormat:
    """Return the side of the stored images, and whether all are gray."""
    gray = all(shape.gray for shape in shapes)
    if request.image_size is not None:
        return ImageFormat(request.image_size, gray)
    sides = {(shape.width, shape.height) for shape in shapes}
    width, height = next(iter(sides))
    if len(sides) == 1 and width == height >= MIN_SIDE:
        return ImageFormat(min(width, MAX_NATIVE_SIDE), gray)
    median = int(np.median([min(shape.width, shape.height) for shape in shapes]))
    return ImageFormat(min(max(median, MIN_SIDE), MAX_RESIZED_SIDE), gray)


def _outline(
    images: Sequence[LabeledImage], classes: list[str], image_format: ImageFormat, seed: int
) -> statistics.DatasetOutline:
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
    )


def _rows(images: Sequence[LabeledImage]) -> list[int]:
    """Return the row of each image in its split."""
    before: Counter[SubsetName] = Counter()
    rows = []
    for image in images:
        rows.append(before[image.split])
        before[image.split] += 1
    return rows


def _check_size(count: int, image_format: ImageFormat, request: IngestRequest) -> None:
    needed = count * (1 if image_format.gray else 3) * image_format.size**2
    if needed > request.max_decoded_bytes:
        raise UserError(
            "dataset_invalid",
            f"the decoded images take {needed} bytes; at most {request.max_decoded_bytes} "
            "are allowed",
            hint="upload fewer images, or request a smaller image_size",
        )


def _dataset_error(problems: list[ErrorDetail]) -> UserError:
    count = "1 part" if len(problems) == 1 else f"{len(problems)} parts"
    return UserError(
        "dataset_invalid",
        f"{count} of the data set cannot be used",
        hint="correct or remove the parts that are named, and upload the data set again",
        items=problems,
    )
