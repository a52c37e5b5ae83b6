"""Read arrays: an ``.npz``, or an archive of ``.npy`` files; one of images, one of labels.

The names say what is images, what labels and which split (:mod:`kdcore.data.ingest.arrays`):
``images`` and ``labels``, ``x_train`` and ``y_train``, ``val_images``, ``unlabeled_images``,
``class_names``. All other arrays are ignored.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from kdcore.data import decode
from kdcore.data.class_labels import class_name_problem
from kdcore.data.image_signature import has_image_name
from kdcore.data.ingest.archives.open_archive import MemberArchive
from kdcore.data.ingest.arrays import label_array
from kdcore.data.ingest.arrays.array_names import ArrayChoice, ArrayKey, choose_arrays
from kdcore.data.ingest.arrays.image_array import ImageArray, set_scale
from kdcore.data.ingest.arrays.numpy_file import ArrayFile, InvalidArrayError
from kdcore.data.ingest.arrays.pixel_layout import MIN_BRIGHTEST
from kdcore.data.ingest.base import ImageFormat, IngestContext, LabeledImage, Pixels, ScannedImage
from kdcore.data.types import SubsetName
from kdcore.protocol.events import ErrorDetail
from kdcore.runtime.errors import UserError, error_detail

_NAMES_HINT = "name the arrays images and labels, or x_train, y_train, x_test and y_test"


def open_reader(context: IngestContext) -> "ArrayReader | None":
    """Return a reader for an archive that has ``.npy`` files and no images."""
    names = [member.path_parts[-1].lower() for member in context.archive.members]
    if any(map(has_image_name, names)) or not any(name.endswith(".npy") for name in names):
        return None
    return ArrayReader(context.archive, context)


class ArrayReader:
    """Reads the arrays of an open archive, row by row."""

    def __init__(self, archive: MemberArchive, context: IngestContext) -> None:
        self._archive = archive
        self._context = context
        self.classes: tuple[str, ...] | None = None
        self.problems = list(archive.problems)
        self._images: dict[SubsetName, ImageArray] = {}
        self._labels: dict[SubsetName, list[str]] = {}
        self._was_decoded = False

    def scan(self) -> list[ScannedImage]:
        """Check every header and every label; return the images in the order of their rows."""
        files, broken = self._open_files()
        headers = {name: file.header for name, file in files.items()}
        choice = choose_arrays(headers | dict.fromkeys(broken))
        self.problems.extend(_choice_problems(choice))
        for name in choice.chosen.values():
            if name in broken:
                self.problems.append(error_detail(name, broken[name]))
        if not self.problems:
            _check_roles(choice, files)
        chosen = {key: files[name] for key, name in choice.chosen.items() if name in files}
        self._read_images(chosen)
        self._read_labels(chosen)
        self._check_pairs(chosen)
        self._summarize(chosen, choice.others)
        return [] if self.problems else self._list_images()

    def decode_images(
        self, images: Sequence[LabeledImage], image_format: ImageFormat
    ) -> Iterator[tuple[int, Pixels | None]]:
        """Decode in the order of splits and rows."""
        positions = {image.location: position for position, image in enumerate(images)}
        for part, array in self._images.items():
            with self._collect_problem(array.file):
                rows = array.iter_images(count_bytes=not self._was_decoded)
                for row, pixels in enumerate(rows):
                    position = positions.get((part, row))
                    if position is None:
                        self._context.report_progress(0)
                        continue
                    self._context.report_progress(position, len(images))
                    yield position, _fit(pixels, image_format)
        self._was_decoded = True

    @contextlib.contextmanager
    def _collect_problem(self, file: ArrayFile) -> Iterator[None]:
        try:
            yield
        except InvalidArrayError as error:
            self.problems.append(error_detail(file.name, str(error)))

    def _open_files(self) -> tuple[dict[str, ArrayFile], dict[str, str]]:
        """Return the arrays by name, and what is wrong with those that cannot be used."""
        files, broken, others = {}, {}, []
        for member in self._archive.members:
            name = "/".join(member.path_parts)
            if not name.lower().endswith(".npy"):
                others.append(name)
                continue
            name = name[: -len(".npy")]
            try:
                files[name] = ArrayFile(self._archive, member, name)
            except InvalidArrayError as error:
                broken[name] = str(error)
        self._context.summary.add_ignored("is not an array (.npy)", others)
        return files, broken

    def _read_images(self, chosen: Mapping[ArrayKey, ArrayFile]) -> None:
        for (role, part), file in chosen.items():
            if role == "images":
                with self._collect_problem(file):
                    array = ImageArray.open(file, self._context.request.max_pixels)
                    self._images[part] = array
        self._context.check_count(sum(a.layout.num_images for a in self._images.values()))
        for part, array in list(self._images.items()):
            with self._collect_problem(array.file):
                array.measure(lambda: self._context.report_progress(0))
                continue
            del self._images[part]
        for array in self._images.values():
            with self._collect_problem(array.file):
                set_scale(array, self._images.values())

    def _read_labels(self, chosen: Mapping[ArrayKey, ArrayFile]) -> None:
        most = self._context.request.max_images
        names_file = chosen.get(("class_names", "train"))
        if names_file is not None:
            with self._collect_problem(names_file):
                names = label_array.read_labels(names_file, most)
                self.classes = label_array.read_class_names(names)
            if self.classes is None:
                return
        for (role, part), file in chosen.items():
            if role == "labels":
                with self._collect_problem(file):
                    labels = label_array.read_labels(file, most)
                    self._labels[part] = label_array.name_labels(labels, self.classes)
        for name in {text for part in self._labels.values() for text in part}:
            if problem := class_name_problem(name):
                self.problems.append(error_detail(name, problem))

    def _check_pairs(self, chosen: Mapping[ArrayKey, ArrayFile]) -> None:
        """Compare the numbers of images and labels; arrays with a problem are left out."""
        for part, labels in self._labels.items():
            images = self._images.get(part)
            if images is not None and len(labels) != images.layout.num_images:
                detail = (
                    f"has {len(labels)} labels, but {images.file.name} has "
                    f"{images.layout.num_images} images"
                )
                self.problems.append(error_detail(chosen["labels", part].name, detail))

    def _summarize(self, chosen: Mapping[ArrayKey, ArrayFile], others: list[str]) -> None:
        summary = self._context.summary
        summary.add_ignored("is not named as images, labels or class names", others)
        for part, array in self._images.items():
            labels = chosen.get(("labels", part))
            beside = "" if labels is None else f" and {labels.name} {labels.header.shape}"
            summary.sources[part] = array.describe() + beside
            if array.dtype == np.uint8 and array.values.high < MIN_BRIGHTEST:
                stored = "stored as 0 to 255" if array.white == 1 else "of 255, so images are dark"
                summary.add_warning(
                    f"the largest value of {array.file.name} is {array.values.high:.0f}, {stored}"
                )

    def _list_images(self) -> list[ScannedImage]:
        deep = [array.values.high for array in self._images.values() if array.white > 255]
        scanned = []
        for part, array in self._images.items():
            layout = array.layout
            header = decode.ImageHeader(
                layout.width,
                layout.height,
                gray=layout.channels == 1,
                transparent=layout.channels == 4,
                max_value=int(max(deep)) if array.white > 255 else None,
            )
            for row in range(layout.num_images):
                label = self._labels[part][row] if part in self._labels else ""
                # Named by its row, so that the draw of splits does not depend on the packing.
                image = LabeledImage((part, f"{row:08d}"), part, label, (part, row))
                scanned.append(ScannedImage(image, header))
        return scanned


def _choice_problems(choice: ArrayChoice) -> list[ErrorDetail]:
    """Return the arrays that are one too many, and those that lack their other half."""
    problems: list[ErrorDetail] = []
    for (role, part), names in choice.ambiguous.items():
        detail = f"is a second array of {role.replace('_', ' ')} of {part}, beside {names[0]}"
        problems.extend(error_detail(name, f"{detail}; remove one") for name in names[1:])
    for (role, part), name in choice.chosen.items():
        other: ArrayKey = ("images" if role == "labels" else "labels", part)
        if role == "class_names" or part == "unlabeled":
            continue
        if other not in choice.chosen and other not in choice.ambiguous:
            detail = f"has {role} of {part}, but no array has {other[0]} of {part}"
            problems.append(error_detail(name, detail))
    return problems


def _check_roles(choice: ArrayChoice, files: Mapping[str, ArrayFile]) -> None:
    """Raise :class:`UserError` ``dataset_invalid`` without images, with the arrays that exist."""
    if not any(role == "images" for role, _ in choice.chosen):
        listed = ", ".join(f"{name} {file.header.shape}" for name, file in list(files.items())[:20])
        raise UserError(
            "dataset_invalid",
            f"no array of the upload is named as images; it has {listed}",
            hint=_NAMES_HINT,
        )


def _fit(values: npt.NDArray[np.uint8], image_format: ImageFormat) -> Pixels:
    return decode.fit_image(Image.fromarray(values), gray=image_format.gray, size=image_format.size)
