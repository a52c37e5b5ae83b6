"""Find a network in an upload: a program of torch.export, or ONNX with its files of data.

Uploads may be hostile: nothing in them is run here, and members of an archive are written under
numbers, never under their names.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import NamedTuple

from kdcore.models.programs.archive import is_program, list_members, read_json
from kdcore.models.programs.onnx_network import OnnxContent, encode_onnx, parse_onnx
from kdcore.models.programs.program_network import program_error
from kdcore.runtime.errors import UserError
from kdcore.schema.catalog import ProgramFormat
from kdcore.weights import pickle_scan
from kdcore.weights.containers import (
    WEIGHT_SUFFIXES,
    UploadArchive,
    UploadMember,
    gunzip,
    is_visible,
    max_unpacked,
    read_start,
)

FORMAT_NOUNS = {"onnx": "an ONNX file", "exported_program": "a program of torch.export (.pt2)"}
"""The formats, for messages."""
_ZIP = b"PK\x03\x04"
_SUFFIXES = {".onnx": "onnx", ".pt2": "exported_program"}
_LAST_IR_VERSION = b"\x3f"
"""An ONNX file usually begins with its version of the format, as field 1."""
_MAX_ONNX_BYTES = 2**31 - 1


class ProgramUpload(NamedTuple):
    """The file of a network."""

    format: ProgramFormat
    name: str
    """The user's name of the file, for messages."""
    path: Path
    folder: Path
    """For unpacked files."""
    data: Mapping[str, Path] = MappingProxyType({})
    """Files beside an ONNX file, by their path from its folder."""


def find_program(
    path: Path, name: str, folder: Path, requested: str | None
) -> ProgramUpload | None:
    """Return the network in the upload at ``path``; None for checkpoints and everything else.

    ``requested`` is the architecture in the request, ``folder`` the one for unpacked files. Raises
    :class:`UserError` for an archive with several networks, and for an upload without the one that
    is requested.
    """
    upload = _find(path, name, folder, requested)
    if upload is None and requested in FORMAT_NOUNS:
        raise program_error(
            f"{name} is not {FORMAT_NOUNS[requested]}",
            hint="leave architecture out, or set the network of the checkpoint",
            fix_fields=("architecture",),
        )
    return upload


def _find(path: Path, name: str, folder: Path, requested: str | None) -> ProgramUpload | None:
    start, bare = read_start(path, name), name.removesuffix(".gz")
    known = requested in _SUFFIXES.values() or PurePosixPath(bare).suffix.lower() in _SUFFIXES
    if start.startswith(b"\x1f\x8b") and known:
        path, name = gunzip(path, name, folder, max_unpacked(path)), bare
        start = read_start(path, name)
    if start.startswith(_ZIP):
        return _find_in_zip(path, name, folder, requested)
    starts_like_onnx = start[:1] == b"\x08" and b"\0" < start[1:2] <= _LAST_IR_VERSION
    foreign = start[:1] in (b"\x80", b"{", b"<") or start[8:9] == b"{"
    if starts_like_onnx or (not foreign and (name.endswith(".onnx") or requested == "onnx")):
        return ProgramUpload("onnx", name, path, folder)
    return None


def _find_in_zip(
    path: Path, name: str, folder: Path, requested: str | None
) -> ProgramUpload | None:
    try:
        with zipfile.ZipFile(path) as archive:
            if is_program(archive.namelist()):
                return ProgramUpload("exported_program", name, path, folder)
            members = [
                UploadMember(info.filename, info.file_size, info)
                for info in archive.infolist()
                if is_visible(info.filename)
            ]
            networks = [m for m in members if PurePosixPath(m.name).suffix.lower() in _SUFFIXES]
            weights = [m for m in members if m.name.lower().endswith(WEIGHT_SUFFIXES)]
            if not networks or (weights and requested not in _SUFFIXES.values()):
                return None
            unpacked = UploadArchive(name, folder, max_unpacked(path), archive.open)
            return _unpack_network(unpacked, members, networks)
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
        return None  # the reader of checkpoints says what is wrong with the zip


def _unpack_network(
    archive: UploadArchive, members: list[UploadMember], networks: list[UploadMember]
) -> ProgramUpload:
    if len(networks) > 1:
        raise program_error(
            f"{archive.name} holds {len(networks)} networks",
            hint="upload one of them, with its files of data",
            items=[member.name for member in networks],
        )
    if sum(member.size for member in members) > archive.limit:
        raise program_error(f"{archive.name} unpacks to far more bytes than weights do")
    network = networks[0]
    path = archive.extract(network, 0)
    if PurePosixPath(network.name).suffix.lower() == ".pt2":
        return ProgramUpload("exported_program", network.name, path, archive.folder)
    folder = PurePosixPath(network.name).parent
    data = {
        str(PurePosixPath(member.name).relative_to(folder)): archive.extract(member, number)
        for number, member in enumerate(members, 1)
        if member != network and PurePosixPath(member.name).is_relative_to(folder)
    }
    return ProgramUpload("onnx", network.name, path, archive.folder, data)


def read_onnx(upload: ProgramUpload) -> bytes:
    """Return the ONNX file with all of its data inside.

    Raises :class:`UserError` for custom operators, for data outside the upload, and above 2 GiB.
    """
    if upload.path.stat().st_size > _MAX_ONNX_BYTES:
        raise program_error(f"{upload.name} has more than 2 GiB")
    content = parse_onnx(upload.path.read_bytes(), upload.name)
    _insert_external_data(content, upload)
    return encode_onnx(content.model, upload.name)


def _insert_external_data(content: OnnxContent, upload: ProgramUpload) -> None:
    total = 0
    for tensor in content.external:
        fields = {entry.key: entry.value for entry in tensor.external_data}
        location = fields.get("location", "")
        path = _data_file(location, upload)
        try:
            offset, length = int(fields.get("offset", 0)), int(fields.get("length", 0))
        except ValueError as error:
            raise program_error(
                f"the tensor {tensor.name[:200]} has no valid range of {location[:200]}"
            ) from error
        size = path.stat().st_size
        length = length or size - offset
        total += length
        if offset < 0 or length < 0 or offset + length > size or total > _MAX_ONNX_BYTES:
            raise program_error(
                f"the tensor {tensor.name[:200]} needs bytes {offset} to {offset + length} of "
                f"{location[:200]}, which has {size}; 2 GiB of data are read",
            )
        with path.open("rb") as file:
            file.seek(offset)
            tensor.raw_data = file.read(length)
        del tensor.external_data[:]
        tensor.data_location = tensor.DEFAULT


def _data_file(location: str, upload: ProgramUpload) -> Path:
    """Return the file of the upload that a tensor's location names; no other file is opened."""
    relative = PurePosixPath(location)
    if not location or relative.is_absolute() or ".." in relative.parts or "\\" in location:
        raise program_error(
            f"{upload.name} has its data outside the upload, at {location[:200] or 'no path'}",
            hint="put the data beside the .onnx file, and upload both as one zip",
            items=[location[:200]],
        )
    path = upload.data.get(str(relative))
    if path is None:
        raise program_error(
            f"{upload.name} has its data in another file, {location[:200]}, which is not in the "
            "upload",
            hint="upload a zip with the .onnx file and its data, or save it with them: "
            'onnx.save(onnx.load("model.onnx"), "one_file.onnx")',
            items=[location[:200]],
        )
    return path


def scan_program(upload: ProgramUpload, folder: Path) -> None:
    """Check the pickles in a program of torch.export, none of which is needed to run it.

    Their opcodes are read; they are not loaded. Raises :class:`UserError` for pickles with code.
    """
    with zipfile.ZipFile(upload.path) as archive:
        members = list_members(archive, upload.name, upload.path.stat().st_size)
        pickled = [name for name in members if name.startswith("data/sample_inputs/")]
        for config in [name for name in members if name.endswith("_config.json")]:
            entries = read_json(archive, members[config])["config"].values()
            part = config.rpartition("/")[0]
            pickled += [f"{part}/{e['path_name']}" for e in entries if e["use_pickle"]]
        for number, name in enumerate(pickled):
            if name in members:
                path = folder / f"pickled-{number}"
                path.write_bytes(archive.read(members[name]))
                _check_pickle(path, name, upload.name)


def _check_pickle(path: Path, part: str, name: str) -> None:
    try:
        if zipfile.is_zipfile(path):
            pickle_scan.scan_zip(path)
        else:
            with path.open("rb") as file:
                pickle_scan.check_globals([pickle_scan.find_globals(file)])
    except MemoryError:
        raise
    except UserError as error:
        raise _pickle_error(part, name, error.message) from error
    except Exception as error:  # hostile bytes make loaders raise many types
        raise _pickle_error(part, name, "its bytes are no pickle") from error


def _pickle_error(part: str, name: str, reason: str) -> UserError:
    return program_error(
        f"{name} has a pickle that is never loaded, {part[:200]}: {reason}",
        hint="export the network without objects: inputs and constants must be plain tensors",
        items=[part[:200]],
    )
