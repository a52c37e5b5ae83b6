"""ManifestColumns: which columns of a table are read; UnreadTable: a table without labels."""

from collections.abc import Sequence
from typing import NamedTuple

from kdcore.data.ingest.archives.safe_zip import ArchiveMember


class ManifestColumns(NamedTuple):
    """Indices of the columns that are read."""

    path: int
    split: int | None
    label: int | None
    one_hot: tuple[int, ...]
    """Columns of which one holds 1 in each row, if there is no column of labels."""

    @property
    def has_labels(self) -> bool:
        """Whether a row has a label."""
        return self.label is not None or bool(self.one_hot)

    def names_of_others(self, names: Sequence[str]) -> list[str]:
        """Return the names of the columns that are not read."""
        used = {self.path, self.split, self.label, *self.one_hot}
        return [name for index, name in enumerate(names) if index not in used]


class UnreadTable(NamedTuple):
    """A table whose cells name images, without a column of labels."""

    member: ArchiveMember
    names: list[str]
    columns: ManifestColumns

    @property
    def folder(self) -> tuple[str, ...]:
        """The folders that the table lies in."""
        return self.member.path_parts[:-1]
