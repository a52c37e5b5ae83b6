"""Find the checkpoint files in an upload: one file, gzip, or an archive with shards and an index.

Uploads may be hostile: sizes are checked before and while anything is unpacked, and members are
written under numbers, never under their names.
"""

import gzip
import json
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from kdcore.data.ingest.archives.safe_tar import DamagedTarError, header_class
from kdcore.runtime.errors import UserError, error_detail

EXPECTED_FORMATS = "a safetensors file or a state dict saved with torch.save"
_ARCHIVES = f"{EXPECTED_FORMATS}, also as .gz, or a zip or tar of shards with their index"
MIN_UNPACKED_BYTES = 256 << 20
MAX_EXPANSION = 20
"""Weights are hardly compressible: more unpacked bytes for each byte of the upload are refused."""
_MAX_MEMBERS = 10_000
_MAX_INDEX_BYTES = 64 << 20
_CHUNK = 1 << 20
_LFS_START = b"version https://git-lfs.github.com/spec/"
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".tar", ".gz")
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\.[a-z]+)")
_PREFERRED = ("model.safetensors", "pytorch_model.bin")
"""Names of the weights in the folders of accelerate and of the Hugging Face Hub."""
_FOREIGN = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes it"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"GGUF", "a GGUF file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"BZh", "a bzip2 file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"<!DOCTYPE", "a web page"),
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"{", "a JSON file"),
)


class CheckpointPart(NamedTuple):
    """One file that torch or safetensors reads: a checkpoint, or one of its shards."""

    name: str
    path: Path
    format: str
    """`safetensors`, `zip` (torch.save), or `legacy` (torch.save before torch 1.6)."""
    expected: tuple[str, ...] = ()
    """Tensors that the index says are in this shard."""


class UploadContent(NamedTuple):
    """The checkpoint of an upload."""

    parts: tuple[CheckpointPart, ...]
    notes: tuple[str, ...] = ()
    """Sentences about members that are not read."""


class UploadMember(NamedTuple):
    """A file in a zip or tar."""

    name: str
    size: int
    entry: Any


def open_upload(path: Path, name: str, folder: Path) -> UploadContent:
    """Find the checkpoint files of the upload at ``path``.

    Unpacked files are written to ``folder``. ``name`` is the user's name of the file, for messages.
    Raises :class:`UserError` ``checkpoint_invalid`` for any other content.
    """
    start = read_start(path, name)
    limit = max_unpacked(path)
    if start.startswith(b"\x1f\x8b"):
        path, name = gunzip(path, name, folder, limit), name.removesuffix(".gz")
        start = read_start(path, name)
    file_format = _single_format(path, start)
    if file_format is not None:
        return UploadContent((CheckpointPart(name, path, file_format),))
    if start.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as archive:
            members = [UploadMember(i.filename, i.file_size, i) for i in archive.infolist()]
            return _unpack(UploadArchive(name, folder, limit, archive.open), members)
    if _is_tar(path, start):
        with _open_tar(path, name) as tar:
            members = [UploadMember(i.name, i.size, i) for i in _tar_members(tar, name)]
            return _unpack(UploadArchive(name, folder, limit, tar.extractfile), members)
    raise _foreign_error(name, start)


def read_start(path: Path, name: str) -> bytes:
    """Return the first bytes of an upload. Raises :class:`UserError` for an empty file."""
    try:
        with path.open("rb") as file:
            start = file.read(1024)
    except OSError as error:
        raise UserError("checkpoint_invalid", f"{name} cannot be read: {error.strerror}") from error
    if not start:
        raise UserError("checkpoint_invalid", f"{name} is empty; upload {EXPECTED_FORMATS}")
    if start.startswith(_LFS_START):
        raise UserError(
            "checkpoint_invalid",
            f"{name} is a Git LFS pointer of {path.stat().st_size} bytes, not the weights",
            hint="run `git lfs pull` in the repository and upload the file that replaces it",
        )
    return start


def _single_format(path: Path, start: bytes) -> str | None:
    if start.startswith(b"PK\x03\x04"):
        return "zip" if _is_torch_zip(path) else None
    if start[8:9] == b"{":
        return "safetensors"
    # Checked last, because a safetensors header of 128 bytes starts with the same byte.
    return "legacy" if start[:1] == b"\x80" else None


def _is_torch_zip(path: Path) -> bool:
    """Return whether a zip is torch's; a damaged one counts as torch's.

    torch writes one root folder with ``data.pkl``; TorchScript adds ``code/`` and
    ``constants.pkl``. Other archives may have a folder ``code`` of their programs.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return True
    roots = {name.partition("/")[0] for name in names}
    scripts = {name.partition("/")[0] for name in names if name.split("/")[1:2] == ["code"]}
    return (
        "data.pkl" in names
        or any(f"{root}/data.pkl" in names for root in roots)
        or any(f"{root}/constants.pkl" in names for root in scripts)
    )


def _is_tar(path: Path, start: bytes) -> bool:
    return start[257:262] == b"ustar" or (len(start) >= 512 and tarfile.is_tarfile(path))


def _open_tar(path: Path, name: str) -> tarfile.TarFile:
    try:
        return tarfile.open(path, "r:", tarinfo=header_class())
    except (tarfile.TarError, DamagedTarError) as error:
        raise _damaged_error(name) from error


def _tar_members(tar: tarfile.TarFile, name: str) -> Iterator[tarfile.TarInfo]:
    try:
        for number, entry in enumerate(tar):
            if number >= _MAX_MEMBERS:
                raise UserError(
                    "checkpoint_invalid", f"{name} has more than {_MAX_MEMBERS} members"
                )
            if entry.isreg():
                yield entry
    except (tarfile.TarError, DamagedTarError) as error:
        raise _damaged_error(name) from error


def gunzip(path: Path, name: str, folder: Path, limit: int) -> Path:
    """Unpack a gzip file to ``folder``, up to ``limit`` bytes, and return the path."""
    target = folder / "gunzipped"
    try:
        with gzip.open(path, "rb") as source:
            _copy(source, target, limit, name)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged_error(name) from error
    return target


def max_unpacked(path: Path) -> int:
    """Return how many bytes the upload at ``path`` may unpack to."""
    return max(MIN_UNPACKED_BYTES, MAX_EXPANSION * path.stat().st_size)


def _copy(source: IO[bytes] | gzip.GzipFile, target: Path, limit: int, name: str) -> None:
    size = 0
    with target.open("xb") as file:
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise UserError(
                    "checkpoint_invalid",
                    f"{name} unpacks to more than {limit >> 20} MiB, which weights never do; "
                    "upload it uncompressed",
                )
            file.write(chunk)


class UploadArchive(NamedTuple):
    """An open zip or tar."""

    name: str
    folder: Path
    limit: int
    """Bytes that its files may have together, by the size of the original upload."""
    open_member: Any

    def extract(self, member: UploadMember, number: int) -> Path:
        """Write a member to the folder, and return its path."""
        target = self.folder / f"part-{number}"
        try:
            with self.open_member(member.entry) as source:
                _copy(source, target, min(member.size, self.limit), member.name)
        except (EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError) as error:
            raise _damaged_error(f"{member.name} in {self.name}") from error
        except (RuntimeError, NotImplementedError) as error:
            raise UserError(
                "checkpoint_invalid",
                f"{member.name} in {self.name} is encrypted or packed in an unusual way",
                hint="pack the files again without a password",
            ) from error
        return target


def _unpack(archive: UploadArchive, members: list[UploadMember]) -> UploadContent:
    files = [member for member in members if is_visible(member.name)]
    if sum(member.size for member in files) > archive.limit:
        raise UserError(
            "checkpoint_invalid", f"{archive.name} unpacks to far more bytes than weights do"
        )
    indexes = [member for member in files if member.name.endswith(".index.json")]
    if indexes:
        return _unpack_indexed(archive, files, indexes)
    weights = [member for member in files if member.name.lower().endswith(WEIGHT_SUFFIXES)]
    if not weights:
        listing = ", ".join(member.name for member in files[:5]) or "nothing"
        raise UserError(
            "checkpoint_invalid",
            f"{archive.name} is an archive without a checkpoint; it holds {listing}",
            hint=f"upload {_ARCHIVES}",
        )
    shards = [member for member in weights if _SHARD.fullmatch(_base(member.name))]
    if shards:
        _check_numbering(archive.name, shards)
        return _extract(archive, shards, weights)
    if len(weights) == 1:
        return _extract(archive, weights, weights)
    for preferred in _PREFERRED:
        matching = [member for member in weights if _base(member.name) == preferred]
        if len(matching) == 1:
            return _extract(archive, matching, weights)
    raise UserError(
        "checkpoint_invalid",
        f"{archive.name} holds {len(weights)} checkpoints and no index that joins them",
        hint="upload one of them alone, or add the index (….index.json) of the shards",
        items=[error_detail(member.name, f"has {member.size} bytes") for member in weights],
    )


def _unpack_indexed(
    archive: UploadArchive, files: list[UploadMember], indexes: list[UploadMember]
) -> UploadContent:
    index = next((m for m in indexes if "safetensors" in m.name), indexes[0])
    names_of_shards = _read_index(archive, index)
    folder = PurePosixPath(index.name).parent
    by_name = {member.name: member for member in files}
    missing = [name for name in names_of_shards if str(folder / name) not in by_name]
    if missing:
        raise UserError(
            "checkpoint_invalid",
            f"{archive.name} lacks {len(missing)} of the {len(names_of_shards)} shards that "
            f"{index.name} names",
            hint="pack all shards together with their index",
            items=[error_detail(name, "is missing") for name in missing],
        )
    shards = [by_name[str(folder / name)] for name in names_of_shards]
    weights = [member for member in files if member.name.lower().endswith(WEIGHT_SUFFIXES)]
    content = _extract(archive, shards, weights)
    parts = [
        part._replace(expected=tuple(names))
        for part, names in zip(content.parts, names_of_shards.values(), strict=True)
    ]
    return content._replace(parts=tuple(parts))


def _read_index(archive: UploadArchive, index: UploadMember) -> dict[str, list[str]]:
    """Return the names of the tensors of each shard."""
    if index.size > _MAX_INDEX_BYTES:
        raise UserError("checkpoint_invalid", f"{index.name} has more than 64 MiB")
    try:
        text = archive.extract(index, 0).read_bytes()
        weight_map = json.loads(text)["weight_map"]
        shards: dict[str, list[str]] = {}
        for tensor, shard in weight_map.items():
            shards.setdefault(str(shard), []).append(str(tensor))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            "checkpoint_invalid",
            f"{index.name} in {archive.name} is not an index of shards: it has no `weight_map` "
            "from tensors to files",
        ) from error
    return shards


def _check_numbering(name: str, shards: list[UploadMember]) -> None:
    """Require all shards ``model-00001-of-00003`` of one checkpoint."""
    numbered = [_SHARD.fullmatch(_base(member.name)) for member in shards]
    numbers = sorted(int(match[2]) for match in numbered if match)
    stems = {(match[1], match[3], match[4]) for match in numbered if match}
    totals = {int(total) for _, total, _ in stems}
    if len(stems) > 1 or numbers != list(range(1, max(totals) + 1)):
        raise UserError(
            "checkpoint_invalid",
            f"{name} does not hold all shards of one checkpoint",
            hint="pack all shards together with their index (….index.json)",
            items=[error_detail(member.name, "is in the archive") for member in shards],
        )


def _extract(
    archive: UploadArchive, selected: list[UploadMember], weights: Iterable[UploadMember]
) -> UploadContent:
    parts = []
    for number, member in enumerate(selected, 1):
        path = archive.extract(member, number)
        start = read_start(path, member.name)
        if start.startswith(b"\x1f\x8b"):
            raise UserError("checkpoint_invalid", f"{member.name} is packed twice; unpack it once")
        file_format = _single_format(path, start)
        if file_format is None:
            raise _foreign_error(member.name, start)
        parts.append(CheckpointPart(member.name, path, file_format))
    others = sorted({member.name for member in weights} - {member.name for member in selected})
    notes = [f"the archive also holds {', '.join(others[:20])}: not read"] if others else []
    return UploadContent(tuple(parts), tuple(notes))


def is_visible(name: str) -> bool:
    """Return whether a member of an archive is a file that its user put there."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    hidden = any(part == "__MACOSX" or part.startswith(".") for part in parts)
    return bool(parts) and not hidden and not name.endswith("/")


def _base(name: str) -> str:
    return PurePosixPath(name).name


def _damaged_error(name: str) -> UserError:
    return UserError(
        "checkpoint_invalid",
        f"{name} is cut off or damaged and cannot be unpacked",
        hint="upload the complete file again",
    )


def _foreign_error(name: str, start: bytes) -> UserError:
    kind = next((kind for magic, kind in _FOREIGN if start.startswith(magic)), None)
    if kind is None:
        message = f"{name} is neither {EXPECTED_FORMATS.replace(' or ', ' nor ')}"
    else:
        message = f"{name} is {kind}, not {EXPECTED_FORMATS}"
    return UserError("checkpoint_invalid", message, hint=f"upload {_ARCHIVES}")
