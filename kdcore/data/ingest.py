"""The ``ingest`` command: uploaded bytes in, one decoded store and its facts out."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kdcore.data import decode, digits, facts, layout, splits, store
from kdcore.data.archive import Archive, Unreadable
from kdcore.data.layout import Labelled
from kdcore.data.store import SPLITS, Arrays, SplitName
from kdcore.errors import UserFault, item, printable
from kdcore.process.events import EventWriter
from kdcore.process.stop import Stop
from kdcore.spec.events import Item, Progress
from kdcore.spec.protocol import IngestRequest

MIN_SIDE = 8
MAX_SIDE = 224
_REPORT_EVERY_S = 1.0


class Job(NamedTuple):
    """What every step of one ingestion needs."""

    request: IngestRequest
    archive: Archive
    events: EventWriter
    stop: Stop
    problems: list[Item]


def ingest(request: IngestRequest, workdir: Path, events: EventWriter, stop: Stop) -> None:
    """Check an archive, split it, decode it, write the store and report its DatasetInfo.

    Raises UserFault ``dataset_invalid`` with every bad file named at once, and Stopped.
    """
    built_in = workdir / "digits.zip"
    if request.source == "archive":
        path = Path(request.path or "")
    else:
        digits.write_archive(built_in)
        path = built_in
    try:
        with Archive(
            path,
            max_bytes=request.max_decoded_bytes,
            max_members=request.max_images,
            max_member=4 * request.max_pixels + (1 << 20),
        ) as archive:
            job = Job(request, archive, events, stop, list(archive.problems))
            classes, decoded = _read(job)
    finally:
        built_in.unlink(missing_ok=True)
    events.phase("write")
    info = facts.describe(classes, decoded, request.split_seed)
    target = workdir / "artifacts" / "dataset.safetensors"
    store.write(target, decoded, info)
    events.artifact(target, target.name, "safetensors", "application/octet-stream")
    events.report(info.model_dump(mode="json"))


def _read(job: Job) -> tuple[list[str], dict[SplitName, Arrays]]:
    job.events.phase("check")
    arranged = layout.arrange(job.archive.members)
    job.problems.extend(arranged.problems)
    if arranged.ignored:
        names = printable(", ".join(arranged.ignored[:3]))
        count = len(arranged.ignored)
        job.events.log("warning", f"{count} files that are no images are left out: {names}")
    if len(arranged.images) > job.request.max_images:
        raise UserFault(
            "dataset_invalid",
            f"the archive has {len(arranged.images)} images; at most {job.request.max_images} "
            "are taken",
        )
    readable, shapes = _peek_all(job, arranged.images)
    classes = layout.check_classes(arranged.images, job.problems)
    if not shapes:
        raise _fault(job.problems)
    size, grey = _common(shapes)
    job.events.phase("decode")
    if job.problems:
        # Nothing can come of it, but broken pixels are to be told together with the rest.
        for image in _counted(job, readable):
            _pixels(job, image, size, grey)
        raise _fault(job.problems)
    images = splits.draw_missing(readable, job.request.split_seed)
    decoded = _decode(job, images, classes, size, grey)
    if job.problems:
        raise _fault(job.problems)
    return classes, decoded


def _peek_all(job: Job, images: list[Labelled]) -> tuple[list[Labelled], list[decode.Shape]]:
    readable, shapes = [], []
    for image in _counted(job, images):
        try:
            data = job.archive.read(image.member)
            shapes.append(decode.peek(data, job.request.max_pixels))
            readable.append(image)
        except (Unreadable, decode.BadImage) as error:
            job.problems.append(item("/".join(image.member.parts), str(error)))
    return readable, shapes


def _common(shapes: list[decode.Shape]) -> tuple[int, bool]:
    """The side that all images get, and whether all are grey."""
    sides = {(shape.width, shape.height) for shape in shapes}
    width, height = next(iter(sides))
    grey = all(shape.grey for shape in shapes)
    if len(sides) == 1 and width == height >= MIN_SIDE:
        return width, grey
    median = int(np.median([min(shape.width, shape.height) for shape in shapes]))
    return min(max(median, MIN_SIDE), MAX_SIDE), grey


def _decode(
    job: Job, images: list[Labelled], classes: list[str], size: int, grey: bool
) -> dict[SplitName, Arrays]:
    channels = 1 if grey else 3
    needed = len(images) * channels * size * size
    if needed > job.request.max_decoded_bytes:
        raise UserFault(
            "dataset_invalid",
            f"decoded, the images take {needed} bytes; at most {job.request.max_decoded_bytes} "
            "are kept",
            hint="send fewer or smaller images",
        )
    index = {label: position for position, label in enumerate(classes)}
    counts = {split: sum(image.split == split for image in images) for split in SPLITS}
    decoded = {
        split: Arrays(np.zeros((count, channels, size, size), np.uint8), np.zeros(count, np.int64))
        for split, count in counts.items()
    }
    rows = dict.fromkeys(SPLITS, 0)
    for image in _counted(job, images):
        pixels = _pixels(job, image, size, grey)
        if pixels is not None:
            row, arrays = rows[image.split], decoded[image.split]
            arrays.images[row] = pixels
            arrays.targets[row] = index[image.label]
            rows[image.split] += 1
    return decoded


def _pixels(job: Job, image: Labelled, size: int, grey: bool) -> npt.NDArray[np.uint8] | None:
    try:
        data = job.archive.read(image.member, count=False)
        return decode.decode(data, grey=grey, size=size, max_pixels=job.request.max_pixels)
    except (Unreadable, decode.BadImage) as error:
        job.problems.append(item("/".join(image.member.parts), str(error)))
        return None


def _counted(job: Job, images: list[Labelled]) -> Iterator[Labelled]:
    """Each image, with a look at the stop flag before it and progress now and then."""
    last = time.monotonic()
    for done, image in enumerate(images):
        job.stop.check()
        if time.monotonic() - last >= _REPORT_EVERY_S:
            last = time.monotonic()
            fraction = done / len(images)
            progress = Progress(epoch=0, epochs=0, step=done, steps=len(images), fraction=fraction)
            job.events.metrics(done, 0.0, {}, progress=progress)
        yield image


def _fault(problems: list[Item]) -> UserFault:
    files = "1 file" if len(problems) == 1 else f"{len(problems)} files"
    return UserFault(
        "dataset_invalid",
        f"{files} of the archive cannot be used",
        hint="mend or remove them and upload the archive again",
        items=problems,
    )
