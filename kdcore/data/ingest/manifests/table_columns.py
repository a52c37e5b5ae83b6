"""The meaning of a table's columns: by their names, and by the cells of the first rows."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kdcore.data.ingest.archives.member_names import path_parts_of
from kdcore.data.ingest.archives.safe_zip import ArchiveMember
from kdcore.data.ingest.manifests.column_roles import ManifestColumns
from kdcore.data.ingest.splits import folder_word

PATH_COLUMNS = (
    *("path", "file", "filename", "filepath", "fname", "relpath", "relativepath"),
    *("image", "imagepath", "imagefile", "imagefilename", "img", "imgpath", "imgfile"),
    *("imagename", "imgname", "imageid", "id"),
)
LABEL_COLUMNS = (
    *("label", "labels", "class", "classname", "target", "category", "labelname", "categoryname"),
    *("classid", "cls", "species"),
)
_SPLIT_COLUMNS = ("split", "set", "subset", "partition", "fold")
SAMPLED_ROWS = 1000
"""Rows that decide what the columns mean."""
_ONE_HOT = {"0": False, "0.0": False, "1": True, "1.0": True}


class ImageFiles:
    """Finds the files of an archive by paths as tables have them."""

    def __init__(self, members: Iterable[ArchiveMember]) -> None:
        self._by_path = {member.path_parts: member for member in members}
        self._by_name: dict[str, list[ArchiveMember]] = defaultdict(list)
        for path_parts, member in self._by_path.items():
            name = path_parts[-1]
            self._by_name[name].append(member)
            if "." in name:
                self._by_name[name.rpartition(".")[0]].append(member)

    def find(self, path: str, folder: tuple[str, ...]) -> "FileMatch":
        """Return the file of a path: below ``folder``, of the archive, or with the same end.

        A path that is longer than that in the archive, or that lacks the ending of the name, is
        found if only one file fits, or one below ``folder``; several files are returned otherwise.
        """
        parts = tuple(part for part in path_parts_of(path) if part != "..")
        for exact in ((*folder, *parts), parts):
            if exact in self._by_path:
                return FileMatch([self._by_path[exact]], is_exact=True)
        named = self._by_name.get(parts[-1], []) if parts else []
        alike = [member for member in named if _ends_alike(member.path_parts[:-1], parts[:-1])]
        below = [member for member in alike if member.path_parts[: len(folder)] == folder]
        return FileMatch(below or alike, is_exact=False)


class FileMatch(NamedTuple):
    """The files that a path may be."""

    members: list[ArchiveMember]
    is_exact: bool
    """Whether the path is that of the file, and not only its end."""


def _ends_alike(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    common = min(len(first), len(second))
    return common == 0 or first[-common:] == second[-common:]


class ColumnSample:
    """What the cells of the first rows hold, by column."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = [re.sub(r"[\W_]+", "", name.lower()) for name in names]
        self._paths = [0] * len(names)
        self._values = [0] * len(names)
        self._split_words = [0] * len(names)
        self._binary = [True] * len(names)
        self._ones: set[tuple[int, ...]] = set()

    def add(self, cells: Sequence[str], files: ImageFiles, folder: tuple[str, ...]) -> None:
        """Count one row; ``folder`` is that of the table."""
        texts = [cell.strip() for cell in cells]
        for index, text in enumerate(texts):
            self._values[index] += bool(text)
            self._paths[index] += bool(text) and bool(files.find(text, folder).members)
            self._split_words[index] += folder_word(text) is not None
            self._binary[index] &= text in _ONE_HOT
        self._ones.add(tuple(i for i, text in enumerate(texts) if _ONE_HOT.get(text)))

    def choose_columns(self) -> ManifestColumns | None:
        """Return the meaning of the columns; None if no cell is the path of a file."""
        label = self._first_of(LABEL_COLUMNS)
        paths = [i for i, count in enumerate(self._paths) if count and i != label]
        paths = [i for i in paths if self._names[i] not in _SPLIT_COLUMNS]
        if not paths:
            return None
        path = min(paths, key=lambda i: (-self._paths[i], _rank(self._names[i]), i))
        split = self._split_column({path, label})
        one_hot = self._one_hot_columns({path, split}) if label is None else ()
        return ManifestColumns(path, split, label, one_hot)

    def _first_of(self, names: Iterable[str]) -> int | None:
        return next((self._names.index(name) for name in names if name in self._names), None)

    def _split_column(self, used: set[int | None]) -> int | None:
        """Return ``split``, or a column whose cells are words for splits."""
        named = self._first_of(_SPLIT_COLUMNS[:1])
        if named is not None:
            return named
        columns = [i for i, count in enumerate(self._split_words) if count and i not in used]
        full = [i for i in columns if self._split_words[i] == self._values[i]]
        partial = [i for i in columns if self._names[i] in _SPLIT_COLUMNS]
        full.sort(key=lambda i: self._names[i] not in _SPLIT_COLUMNS)
        return next(iter([*full, *partial]), None)

    def _one_hot_columns(self, used: set[int | None]) -> tuple[int, ...]:
        columns = {i for i, binary in enumerate(self._binary) if binary and i not in used}
        is_one_hot = len(columns) > 1 and all(
            len(columns.intersection(ones)) == 1 for ones in self._ones
        )
        return tuple(sorted(columns)) if is_one_hot else ()


def _rank(name: str) -> int:
    return PATH_COLUMNS.index(name) if name in PATH_COLUMNS else len(PATH_COLUMNS)


def read_label(cells: Sequence[str], names: Sequence[str], columns: ManifestColumns) -> str | None:
    """Return the label of a row; None if not exactly one column of classes holds 1."""
    if columns.label is not None:
        return cells[columns.label]
    ones = [i for i in columns.one_hot if _ONE_HOT.get(cells[i].strip())]
    return names[ones[0]] if len(ones) == 1 else None
