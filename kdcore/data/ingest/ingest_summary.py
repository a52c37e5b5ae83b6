"""SummaryBuilder: collects what ingestion reads of an upload, for its :class:`IngestSummary`."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from kdcore.data.class_labels import missing_label_names
from kdcore.data.decode import FULL_RANGE, ImageHeader
from kdcore.data.types import SPLITS, SubsetName
from kdcore.runtime.errors import MAX_NAMES, join_names, to_printable
from kdcore.schema.asset_info import IgnoredItems, IngestSummary, SplitSource

_MAX_TEXT = 300
_SPLIT_COLUMN = re.compile(
    r"(is)?(train|training|val|valid|validation|test|testing)|phase|usage|dataset|trainval|traintest"
    r"|splits?|.*split"
)
_DARK_FACTOR = 8
"""Images whose largest value is by this factor below the range are dark."""


class SummaryBuilder:
    """Sources of the splits, ignored parts and warnings of one upload; readers add to them.

    ``sources`` names for each split the folders, shards or arrays that its images come from.
    """

    def __init__(self) -> None:
        self.sources: dict[SubsetName, str] = {}
        self._warnings: dict[str, None] = {}
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}

    def add_ignored(
        self, reason: str, names: Iterable[str], *, max_examples: int = MAX_NAMES
    ) -> None:
        """Count parts of the upload that are ignored for ``reason``, and keep the first names."""
        examples = self._examples.setdefault(reason, [])
        for name in names:
            self._counts[reason] = self._counts.get(reason, 0) + 1
            if len(examples) < max_examples:
                examples.append(to_printable(name)[:_MAX_TEXT])

    def add_warning(self, text: str, names: Iterable[str] = ()) -> None:
        """Add a sentence, once; it ends with the first ``names`` and the number of the others."""
        listed = join_names(list(names))
        self._warnings[to_printable(f"{text}: {listed}" if listed else text)] = None

    def add_unread_splits(self, columns: Iterable[str], table: str) -> None:
        """Warn of columns that are not read, but may say the splits by their names."""
        for name in columns:
            if _looks_like_splits(name):
                self.add_warning(
                    f"the column {name} of {table} is not read, but may say the splits; name it "
                    "split, and write train, val or test into each row"
                )

    def ignored_names(self) -> list[str]:
        """Return the first names of ignored parts."""
        return [name for examples in self._examples.values() for name in examples]

    def add_drawn_splits(self, existing: Iterable[SubsetName], split_seed: int) -> None:
        """Name the source of the splits that the upload does not have."""
        for split in set(SPLITS) - {"train"} - set(existing):
            self.sources[split] = f"drawn from train with split_seed {split_seed}"

    def describe_classes(self, classes: Sequence[str]) -> None:
        """Warn of classes whose images probably have no label."""
        if missing := missing_label_names(classes):
            self.add_warning(
                "these classes have the name of a missing label; if their images have no label, "
                "leave them out or put them into unlabeled",
                missing,
            )

    def describe_headers(self, headers: Sequence[ImageHeader], num_values: int) -> None:
        """Warn of images that are not stored as they are: transparency, frames, 16 bits."""
        num_transparent = sum(header.transparent for header in headers)
        if num_transparent:
            self.add_warning(
                f"{num_transparent} of {len(headers)} images have an alpha channel or a "
                "transparent color; transparent parts became white"
            )
        num_animated = sum(header.animated for header in headers)
        if num_animated:
            self.add_warning(
                f"{num_animated} of {len(headers)} images have several frames or pages; only the "
                "first was read"
            )
        max_values = [header.max_value for header in headers if header.max_value is not None]
        if max_values and num_values < FULL_RANGE:
            self.add_warning(
                f"{len(max_values)} images have 16 bits and no value above {max(max_values)}, so "
                f"the range 0 to {num_values - 1} was scaled to 0 to 255; the same range is used "
                "for predictions"
            )

    def describe_dark_images(
        self, deep: Iterable[tuple[SubsetName, str, int]], num_values: int
    ) -> None:
        """Warn if a few images, or those of another split, have far larger values than the others.

        ``deep`` are split, name and largest value of images with 16 bits. One hot pixel of 65535
        among images of 12 bits leaves them 16 levels.
        """
        bright: dict[SubsetName, list[str]] = defaultdict(list)
        dark: dict[SubsetName, list[int]] = defaultdict(list)
        for split, name, value in deep:
            if value * _DARK_FACTOR < num_values:
                dark[split].append(value)
            else:
                bright[split].append(name)
        is_most = sum(map(len, dark.values())) > sum(map(len, bright.values()))
        splits = list(dark) if is_most else [split for split in dark if split not in bright]
        if splits:
            images = "most" if is_most else f"the {' and '.join(splits)}"
            most = max(value for split in splits for value in dark[split])
            self.add_warning(
                f"{images} images with 16 bits have no value above {most} and become dark, because "
                f"the range of the data set is 0 to {num_values - 1}: larger values are in",
                [name for names in bright.values() for name in names],
            )

    def build(self, counts: Mapping[SubsetName, int]) -> IngestSummary:
        """Return the summary; ``counts`` has the usable images of each split."""
        return IngestSummary(
            splits={
                split: SplitSource(source=self.sources.get(split, "the upload"), count=count)
                for split, count in counts.items()
            },
            ignored=tuple(
                IgnoredItems(reason=reason, count=count, examples=tuple(self._examples[reason]))
                for reason, count in self._counts.items()
            ),
            warnings=tuple(self._warnings),
        )


def _looks_like_splits(name: str) -> bool:
    """Return whether a column or field has a name that is usual for splits: ``is_train``."""
    return _SPLIT_COLUMN.fullmatch(re.sub(r"[\W_]+", "", name.lower())) is not None
