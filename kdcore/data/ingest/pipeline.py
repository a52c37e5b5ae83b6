"""The ``ingest`` command: uploaded bytes in, one decoded store and its facts out.

Images are looked at twice, headers first and pixels then, and held one at a time: memory is bounded
whatever the size of the data set.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kdcore.data import splits, statistics
from kdcore.data.decode import Shape
from kdcore.data.ingest import folder_layout
from kdcore.data.ingest.base import Context, Frame, Labelled, Source
from kdcore.data.ingest.detect import opened
from kdcore.data.store_writer import drafting
from kdcore.data.types import SPLITS, PartName
from kdcore.protocol.events import Item
from kdcore.protocol.requests import IngestRequest
from kdcore.runtime.cancellation import Stop
from kdcore.runtime.errors import UserFault
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.asset_info import DatasetInfo

MIN_SIDE = 8
MAX_SIDE = 224
"""Of images that have to be resized anyway."""
MAX_KEPT = 256
"""Of images that all have one square size already."""


def ingest(request: IngestRequest, workdir: Path, events: EventWriter, stop: Stop) -> None:
    """Check a source, split it, decode it, write the store and report its DatasetInfo.

    Raises UserFault ``dataset_invalid`` with every bad file named at once, and Stopped.
    """
    context = Context(request, workdir, events, stop)
    target = workdir / "artifacts" / "dataset.safetensors"
    with opened(context) as source:
        info = _stored(source, context, target)
    events.artifact(target, target.name, "safetensors", "application/octet-stream")
    events.report(info.model_dump(mode="json"))


def _stored(source: Source, context: Context, target: Path) -> DatasetInfo:
    context.events.phase("check")
    found = source.survey()
    images = [one.image for one in found]
    classes = folder_layout.check_classes(images, source.problems, source.classes)
    if not found:
        raise _fault(source.problems)
    frame = _frame(context.request, [one.shape for one in found])
    context.events.phase("decode")
    if source.problems:
        # Nothing can come of it, but broken pixels are to be told together with the rest.
        for _ in source.pixels(images, frame):
            pass
        raise _fault(source.problems)
    images = splits.draw_missing(images, context.request.split_seed)
    _check_size(len(images), frame, context.request)
    plan = _plan(images, classes, frame, context.request.split_seed)
    return _written(source, context, images, (plan, target))


def _written(
    source: Source, context: Context, images: Sequence[Labelled], form: tuple[statistics.Plan, Path]
) -> DatasetInfo:
    plan, target = form
    frame = Frame(plan.image_size, grey=plan.in_channels == 1)
    outline = statistics.outline(plan)
    rows = _rows(images)
    with drafting(target, outline, plan.targets) as draft:
        for position, pixels in source.pixels(images, frame):
            if pixels is not None:
                draft.put(images[position].split, rows[position], pixels)
        if source.problems:
            raise _fault(source.problems)
        context.events.phase("write")
        info = statistics.completed(outline, draft.arrays())
        draft.finish(info)
    return info


def _frame(request: IngestRequest, shapes: list[Shape]) -> Frame:
    """The side that all images get, and whether all are grey."""
    grey = all(shape.grey for shape in shapes)
    if request.image_size is not None:
        return Frame(request.image_size, grey)
    sides = {(shape.width, shape.height) for shape in shapes}
    width, height = next(iter(sides))
    if len(sides) == 1 and width == height >= MIN_SIDE:
        return Frame(min(width, MAX_KEPT), grey)
    median = int(np.median([min(shape.width, shape.height) for shape in shapes]))
    return Frame(min(max(median, MIN_SIDE), MAX_SIDE), grey)


def _plan(
    images: Sequence[Labelled], classes: list[str], frame: Frame, seed: int
) -> statistics.Plan:
    index = {label: position for position, label in enumerate(classes)}
    return statistics.Plan(
        classes=classes,
        targets={
            split: np.array([index[i.label] for i in images if i.split == split], dtype=np.int64)
            for split in SPLITS
        },
        num_unlabelled=sum(image.split == "unlabelled" for image in images),
        in_channels=1 if frame.grey else 3,
        image_size=frame.size,
        split_seed=seed,
    )


def _rows(images: Sequence[Labelled]) -> list[int]:
    """The place of each image within its part."""
    before: Counter[PartName] = Counter()
    rows = []
    for image in images:
        rows.append(before[image.split])
        before[image.split] += 1
    return rows


def _check_size(count: int, frame: Frame, request: IngestRequest) -> None:
    needed = count * (1 if frame.grey else 3) * frame.size**2
    if needed > request.max_decoded_bytes:
        raise UserFault(
            "dataset_invalid",
            f"decoded, the images take {needed} bytes; at most {request.max_decoded_bytes} "
            "are kept",
            hint="send fewer images, or ask for a smaller image_size",
        )


def _fault(problems: list[Item]) -> UserFault:
    things = "1 thing" if len(problems) == 1 else f"{len(problems)} things"
    return UserFault(
        "dataset_invalid",
        f"{things} in the data set cannot be used",
        hint="mend or remove what is named, and give the data set again",
        items=problems,
    )
