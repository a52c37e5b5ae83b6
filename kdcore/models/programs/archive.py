"""Read the archive of torch.export.save: a zip with a graph as JSON and tensors as raw bytes."""

import json
import math
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdcore.models.programs.operator_arguments import DTYPES, EXPORT_HINT
from kdcore.models.programs.program_network import program_error

FORMAT_FILE = "archive_format"
OLD_GRAPH_FILE = "serialized_exported_program.json"
"""The graph in files of torch 2.6 and older."""
COMPILED_FOLDER = "data/aotinductor/"
_GRAPH_FOLDER = "models/"
_MAX_JSON_BYTES = 128 << 20
_MAX_MEMBERS = 100_000


class ProgramArchive(NamedTuple):
    """The contents of an archive. Pickles in it are not read."""

    program: Any
    """The JSON of the graph."""
    tensors: dict[str, Tensor]
    """Parameters, buffers and constants by name."""
    parameters: frozenset[str]
    """Names of the parameters."""
    size_bytes: int


def is_program(names: list[str]) -> bool:
    """Return whether a zip with these members is a program of torch.export, of any version."""
    bases = {name.rpartition("/")[2] for name in names}
    return FORMAT_FILE in bases or OLD_GRAPH_FILE in bases


def read_archive(path: Path, name: str) -> ProgramArchive:
    """Read the graph and the tensors of a file. ``name`` is the user's name of it.

    Raises :class:`UserError` for compiled code, pickled tensors, and files that
    ``torch.export.save`` does not write.
    """
    with zipfile.ZipFile(path) as archive:
        members = list_members(archive, name, path.stat().st_size)
        graphs = [m for m in members if m.startswith(_GRAPH_FOLDER) and m.endswith(".json")]
        if len(graphs) != 1:
            raise program_error(f"{name} has {len(graphs)} programs; one is run", EXPORT_HINT)
        model = graphs[0].removeprefix(_GRAPH_FOLDER).removesuffix(".json")
        reader = _TensorReader(archive, members, name)
        weights = f"data/weights/{model}_weights_config.json"
        parameters = reader.read_config("data/weights/", weights)
        constants = f"data/constants/{model}_constants_config.json"
        reader.read_config("data/constants/", constants)
        return ProgramArchive(
            read_json(archive, members[graphs[0]]),
            reader.tensors,
            frozenset(parameters),
            path.stat().st_size,
        )


def list_members(
    archive: zipfile.ZipFile, name: str, size_bytes: int
) -> dict[str, zipfile.ZipInfo]:
    """Return the members by their path below the archive's root folder.

    Raises :class:`UserError` for compiled code, an older format, and archives that unpack to more
    bytes than they have.
    """
    infos = archive.infolist()
    if len(infos) > _MAX_MEMBERS:
        raise program_error(f"{name} has more than {_MAX_MEMBERS} members")
    if any(info.filename.endswith(OLD_GRAPH_FILE) for info in infos):
        raise program_error(
            f"{name} has the format of torch.export before torch 2.7",
            hint="save it again where it can be loaded: "
            f'torch.export.save(torch.export.load("{name}"), "model.pt2") with torch 2.7 or later',
        )
    # torch does not compress; compressed or overlapping members could unpack to any size.
    packed = any(info.compress_type != zipfile.ZIP_STORED for info in infos)
    if packed or sum(info.file_size for info in infos) > size_bytes:
        raise program_error(f"{name} is compressed; torch.export.save writes it uncompressed")
    members = {info.filename.partition("/")[2]: info for info in infos}
    if len(members) != len(infos):
        raise program_error(f"{name} has two members of the same name")
    compiled = [member for member in members if member.startswith(COMPILED_FOLDER)]
    if compiled:
        raise program_error(
            f"{name} is compiled by AOTInductor ({compiled[0][:200]}); compiled code is never run",
            hint=f"upload the program itself; {EXPORT_HINT}",
        )
    order = members.get("byteorder")
    if order is not None and archive.read(order) != b"little":
        raise program_error(f"{name} has big-endian tensors; little-endian ones are read")
    return members


def read_json(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    """Return the JSON of a member. Raises :class:`UserError` above 128 MiB."""
    if info.file_size > _MAX_JSON_BYTES:
        raise program_error(f"{info.filename} has more than {_MAX_JSON_BYTES >> 20} MiB")
    return json.loads(archive.read(info))


class _TensorReader:
    def __init__(
        self, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], name: str
    ) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._archive, self._members, self._name = archive, members, name
        self._storages: dict[str, bytearray] = {}

    def read_config(self, folder: str, config: str) -> list[str]:
        """Read the tensors that a member lists. Return the names of those that are parameters."""
        if config not in self._members:
            return []
        parameters = []
        for name, entry in read_json(self._archive, self._members[config])["config"].items():
            if entry["use_pickle"] or entry["tensor_meta"] is None:
                raise program_error(
                    f"{self._name} has {name[:200]} as a pickled object, which is never loaded",
                    hint=f"replace it by a plain tensor, and {EXPORT_HINT}",
                    items=[name[:200]],
                )
            self.tensors[name] = self._view(name, f"{folder}{entry['path_name']}", entry)
            if entry["is_param"]:
                parameters.append(name)
        return parameters

    def _view(self, name: str, member: str, entry: Any) -> Tensor:
        meta = entry["tensor_meta"]
        dtype = DTYPES.get(meta["dtype"])
        if dtype is None:
            raise program_error(f"the tensor {name[:200]} has a type that is not run")
        sizes, strides = ([int(n["as_int"]) for n in meta[key]] for key in ("sizes", "strides"))
        offset = int(meta["storage_offset"]["as_int"])
        if math.prod(sizes) == 0:
            return torch.zeros(sizes, dtype=dtype)
        storage = self._storage(member)
        last = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
        fits = min(offset, *sizes, *strides, 0) == 0 and last < len(storage) // dtype.itemsize
        if not fits or math.prod(sizes) > len(storage) // dtype.itemsize:
            raise program_error(
                f"the tensor {name[:200]} has {math.prod(sizes)} values, more than the file "
                f"contains of it ({len(storage)} bytes)"
            )
        flat = torch.frombuffer(storage, dtype=dtype, count=len(storage) // dtype.itemsize)
        tensor = torch.as_strided(flat, sizes, strides, offset).contiguous()
        if dtype.is_floating_point and not bool(tensor.isfinite().all()):
            raise program_error(f"the tensor {name[:200]} has values that are not numbers")
        return tensor

    def _storage(self, member: str) -> bytearray:
        if member not in self._storages:
            self._storages[member] = bytearray(self._archive.read(self._members[member]))
        return self._storages[member]
