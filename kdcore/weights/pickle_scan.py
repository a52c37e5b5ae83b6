"""Scan a checkpoint's pickles for imports, by their opcodes, without running them.

The scan refuses pickles that name code, and lists the other globals that torch does not load, so
that inert placeholders take their places (:func:`inert_globals`). It is no protection by itself:
``torch.load(weights_only=True)`` in a process with limits is what keeps code from running, because
a scanner never parses hostile bytes exactly like the loader.

``torch.serialization.get_unsafe_globals_in_checkpoint`` (torch 2.14) does not replace this scan: it
raises for the format before torch 1.6, for plain pickles and for pickle protocol 4, reads only the
archive's ``data.pkl`` and no other pickle, and accepts sparse, quantized and meta tensors, which
are refused here.
"""

import _compat_pickle
import contextlib
import pickletools
import re
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

import torch

from kdcore.runtime.errors import UserError, error_detail

STATE_DICT_LINES = (
    'model = torch.load("{file}", weights_only=False){key}\n'
    'torch.save(model.state_dict(), "state_dict.pt")'
)
"""The two lines that turn a pickled module into a state dict, where its classes can be imported."""
_TORCHSCRIPT_LINES = (
    'model = torch.jit.load("model.pt")\ntorch.save(model.state_dict(), "state_dict.pt")'
)
_MAX_PICKLE = 64 << 20
_MAX_GLOBALS = 1000
MAX_OBJECTS = 1_000_000
"""Objects that one pickle may make; a checkpoint has some for each tensor and logged number."""
_OBJECT_OPCODES = frozenset({"REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST", "BUILD"})
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PICKLES = 5
"""Pickles of the old format: magic number, version, system, object, keys of the storages."""
_TORCH_PROTOCOL = 2
"""The newest pickle protocol that ``torch.load(weights_only=True)`` reads."""
_DOTTED_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_SAFE_BUILTINS = frozenset(
    {"bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list"}
    | {"object", "range", "set", "slice", "str", "tuple"}
)
_CODE_PARTS = frozenset(
    {"__builtin__", "__builtins__", "__import__", "builtins", "commands", "ctypes", "eval", "exec"}
    | {"execfile", "getattr", "importlib", "nt", "os", "popen", "posix", "pty", "runpy", "setattr"}
    | {"subprocess", "sys", "system"}
)
"""Parts of a dotted name that stand for running code, wherever they are."""
_CODE_MODULES = frozenset(
    {"_ctypes", "_io", "_pickle", "_posixsubprocess", "_socket", "_thread", "asyncio", "atexit"}
    | {
        "bdb",
        "cloudpickle",
        "code",
        "codeop",
        "concurrent",
        "cProfile",
        "dill",
        "doctest",
        "ftplib",
    }
    | {"gc", "http", "idlelib", "imp", "inspect", "io", "joblib", "marshal", "mmap", "operator"}
    | {"_operator", "pdb", "pickle", "pip", "pkgutil", "profile", "pydoc", "requests", "shelve"}
    | {"shutil", "signal", "site", "smtplib", "socket", "socketserver", "ssl", "telnetlib"}
    | {"tempfile", "threading", "timeit", "trace", "types", "urllib", "venv", "webbrowser"}
    | {"multiprocessing", "xmlrpc", "zipimport"}
)
"""Top-level modules with functions that run code, start processes or open files and sockets."""
_CODE_LIBRARIES = (
    *("numpy.f2py.", "numpy.load", "numpy.testing.", "torch._dynamo.", "torch._inductor."),
    *("torch.hub.", "torch.jit.", "torch.load", "torch.package.", "torch.serialization.load"),
    "torch.storage._load_from_bytes",
    *("torch.utils.cpp_extension.", "torch.utils.collect_env.", "torch.testing."),
)
"""Beginnings of names in torch and numpy that compile, load or start something."""
_HARMLESS = frozenset({"types.SimpleNamespace"})
_NOT_PLAIN = re.compile(
    r"^torch\..*(sparse|qtensor|meta_tensor|nested|wrapper_subclass|device_tensor|dtensor)", re.I
)
_STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE"}
_STATE_DICT_HINT = (
    "save the weights alone with torch.save(model.state_dict(), path), or as safetensors"
)


class Placeholder(list[Any]):
    """Stands for an object whose class is not loaded; it holds nothing."""

    replaces = ""
    """Dotted name of the class or function."""

    def __new__(cls, *_: object, **__: object) -> Self:
        """Ignore the arguments of the class or function."""
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()

    __hash__ = object.__hash__  # type: ignore[assignment]  # an object may be a key of a dict

    def __eq__(self, other: object) -> bool:
        return self is other

    def __setstate__(self, _: object) -> None:
        """Ignore the state of the object."""

    def append(self, _: object) -> None:
        """Ignore an entry of the object."""

    def extend(self, _: object) -> None:
        """Ignore entries of the object."""


class _DictPlaceholder:
    """Stands for a subclass of dict: its instances are ordered dicts, which torch can fill."""

    def __new__(cls, *_: object, **__: object) -> Any:
        return OrderedDict()


class _NumpyType(Placeholder):
    """Stands for a numpy dtype, and holds its code, such as ``f8``, and its byte order."""

    code = ""
    order = "<"

    def __new__(cls, code: object = "", *_: object, **__: object) -> Self:
        """Read the code; the other arguments are flags of numpy."""
        placeholder = super().__new__(cls)
        placeholder.code = str(code)
        return placeholder

    def __setstate__(self, state: object) -> None:
        """Read the byte order, which follows a version."""
        if isinstance(state, tuple) and state[1:2] == (">",):
            self.order = ">"


class _NumpyNumber(Placeholder):
    """Stands for ``numpy.core.multiarray.scalar``: its results are Python's numbers."""

    def __new__(cls, dtype: object = None, data: object = None, *_: object, **__: object) -> Any:
        """Return the number, or a placeholder for other types."""
        if isinstance(dtype, _NumpyType) and isinstance(data, bytes) and dtype.code in _NUMBERS:
            number_format = f"{dtype.order}{_NUMBERS[dtype.code]}"
            if len(data) == struct.calcsize(number_format):
                return struct.unpack(number_format, data)[0]
        return super().__new__(cls)


class PickleGlobals(NamedTuple):
    """Classes and functions that pickles name, none of which is imported."""

    names: frozenset[str]
    """Dotted names; ``(hidden)`` for computed ones."""
    dicts: frozenset[str]
    """Those whose objects are filled like a dict."""
    protocol: int
    """The highest pickle protocol."""


_NUMBERS = {"f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b"}
"""Formats of ``struct``, by numpy's codes."""
_NUMPY: dict[str, type[Placeholder]] = {
    "numpy.dtype": _NumpyType,
    "numpy.core.multiarray.scalar": _NumpyNumber,
    "numpy._core.multiarray.scalar": _NumpyNumber,
}


def inert_globals(pickle_globals: PickleGlobals) -> contextlib.AbstractContextManager[None]:
    """Let torch load placeholders for every global that is not on its list of safe ones.

    torch looks a global up in its own list first, and blocks ``os`` and ``sys`` in any case.
    """
    pairs: list[Any] = []
    for name in pickle_globals.names:
        kind = _DictPlaceholder if name in pickle_globals.dicts else _NUMPY.get(name, Placeholder)
        stand_in = type(name.rpartition(".")[2], (kind,), {"replaces": name})
        pairs += [(stand_in, alias) for alias in {name, _current_name(name)}]
    manager: contextlib.AbstractContextManager[None] = torch.serialization.safe_globals(pairs)
    return manager


def scan_zip(path: Path) -> PickleGlobals:
    """Check every pickle of a torch archive. Raises :class:`UserError` ``checkpoint_invalid``."""
    scanned = []
    with zipfile.ZipFile(path) as archive:
        names = [info.orig_filename for info in archive.infolist()]
        if len(set(names)) != len(names):
            raise _checkpoint_error("the checkpoint has two members of the same name")
        if any("/code/" in f"/{name}" for name in names):
            raise UserError(
                "checkpoint_invalid",
                "the checkpoint is a TorchScript program, not a state dict",
                hint="run these two lines and upload the result; or export the network's code "
                f"with torch.export.export:\n{_TORCHSCRIPT_LINES}",
            )
        # torch does not compress; compressed or overlapping members could unpack to any size.
        packed = any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist())
        if packed or sum(i.file_size for i in archive.infolist()) > path.stat().st_size:
            raise _checkpoint_error(
                "the checkpoint is compressed; torch.save writes it uncompressed"
            )
        for info in archive.infolist():
            if not info.filename.endswith(".pkl"):
                continue
            if info.file_size > _MAX_PICKLE:
                raise _checkpoint_error("the checkpoint has a pickle of more than 64 MiB")
            with archive.open(info) as file:
                scanned.append(find_globals(file))
    return check_globals(scanned)


def scan_legacy(path: Path) -> PickleGlobals:
    """Check the consecutive pickles of the format before torch 1.6, or any other pickle."""
    with path.open("rb") as file:
        magic = _first_number(file)
        file.seek(0)
        num_pickles = _LEGACY_PICKLES if magic == _LEGACY_MAGIC else 1
        checked = check_globals([find_globals(file) for _ in range(num_pickles)])
    if magic != _LEGACY_MAGIC:
        raise _checkpoint_error("the file is a pickle that torch.save did not write")
    return checked


def find_globals(file: IO[bytes]) -> PickleGlobals:
    """Return the globals that one pickle names; the file is read up to the pickle's end."""
    names: set[str] = set()
    tracker = _StackTracker()
    protocol = num_objects = 0
    for opcode, argument, _ in pickletools.genops(file):
        name = _global_name(opcode.name, argument, tracker)
        if name is not None:
            names.add(name)
        num_objects += opcode.name in _OBJECT_OPCODES
        if num_objects > MAX_OBJECTS:
            raise _checkpoint_error(f"the checkpoint has more than {MAX_OBJECTS} objects")
        if opcode.name == "PROTO":
            protocol = max(protocol, int(argument or 0))
        tracker.step(opcode, argument, name)
    return PickleGlobals(frozenset(names), frozenset(tracker.dicts), protocol)


def _global_name(opcode: str, argument: object, tracker: "_StackTracker") -> str | None:
    """Return the dotted name of the global that an opcode looks up, or None for other opcodes."""
    if opcode in ("GLOBAL", "INST"):
        return str(argument).replace(" ", ".", 1)
    if opcode == "STACK_GLOBAL":
        return tracker.joined_strings() or "(hidden)"
    return "(hidden)" if opcode in ("EXT1", "EXT2", "EXT4") else None


class _Text(str):
    """A string on the stack of a pickle."""

    __slots__ = ()


class _StackTracker:
    """Follows the stack of a pickle, to learn which globals make objects that are filled as dicts.

    The stack holds strings, and the name of the global that an entry is or was made by; else None.
    """

    def __init__(self) -> None:
        self.dicts: set[str] = set()
        self._stack: list[Any] = []
        self._memo: dict[Any, Any] = {}

    def step(self, opcode: pickletools.OpcodeInfo, argument: Any, name: str | None) -> None:
        kind = opcode.name
        if kind in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memo[argument] = self._top()
        elif kind == "MEMOIZE":
            self._memo[len(self._memo)] = self._top()
        elif kind in ("BINGET", "LONG_BINGET", "GET"):
            self._stack.append(self._memo.get(argument))
        elif kind in ("REDUCE", "NEWOBJ"):
            self._pop(1)  # the arguments; the object replaces its class
        elif kind in ("SETITEM", "SETITEMS"):
            self._pop_arguments(opcode, 1)
            if isinstance(self._top(), str) and not isinstance(self._top(), _Text):
                self.dicts.add(self._top())
        elif kind in ("APPEND", "APPENDS", "ADDITEMS", "BUILD"):
            self._pop_arguments(opcode, 1)
        else:
            self._pop_arguments(opcode, 0)
            after = opcode.stack_after
            value = _Text(argument) if kind in _STRINGS else name
            marks = [entry is pickletools.markobject for entry in after]
            self._stack += [pickletools.markobject if mark else value for mark in marks]

    def joined_strings(self) -> str | None:
        """Return the two strings at the top, a module and a name, joined; None without them."""
        module, name = [None, None, *self._stack][-2:]
        both = isinstance(module, _Text) and isinstance(name, _Text)
        return f"{module}.{name}" if both else None

    def _top(self) -> Any:
        return self._stack[-1] if self._stack else None

    def _pop(self, count: int) -> None:
        del self._stack[max(len(self._stack) - count, 0) :]

    def _pop_arguments(self, opcode: pickletools.OpcodeInfo, num_retained: int) -> None:
        """Pop what the opcode takes, but for its first entries."""
        before = opcode.stack_before
        if pickletools.markobject in before:
            while self._stack and self._stack.pop() is not pickletools.markobject:
                pass
            before = before[: before.index(pickletools.markobject)]
        self._pop(max(len(before) - num_retained, 0))


def _first_number(file: IO[bytes]) -> object:
    numbers = [a for op, a, _ in pickletools.genops(file) if op.name in ("LONG1", "LONG4")]
    return numbers[0] if len(numbers) == 1 else None


def check_globals(scanned: list[PickleGlobals]) -> PickleGlobals:
    """Join the globals of several pickles. Raises :class:`UserError` for code."""
    merged = PickleGlobals(
        names=frozenset().union(*(entry.names for entry in scanned)),
        dicts=frozenset().union(*(entry.dicts for entry in scanned)),
        protocol=max((entry.protocol for entry in scanned), default=0),
    )
    code = sorted(name for name in merged.names if _names_code(name))
    if code:
        raise UserError(
            "checkpoint_invalid",
            f"the checkpoint contains code ({code[0]}), which is never run; only plain state dicts "
            "are accepted",
            hint=_STATE_DICT_HINT,
            items=[error_detail(name, "is not part of a plain state dict") for name in code],
        )
    special = sorted(name for name in merged.names if _NOT_PLAIN.search(name))
    if special:
        raise UserError(
            "checkpoint_invalid",
            f"the checkpoint has tensors that are not plain and dense ({special[0]})",
            hint=_STATE_DICT_HINT,
            items=[error_detail(name, "makes tensors that are not read") for name in special],
        )
    if len(merged.names) > _MAX_GLOBALS:
        raise _checkpoint_error(f"the checkpoint names more than {_MAX_GLOBALS} classes")
    return merged


def explain_failure(scanned: PickleGlobals) -> None:
    """Raise :class:`UserError` if the scan shows why torch did not load the file."""
    if scanned.protocol > _TORCH_PROTOCOL:
        raise _checkpoint_error(
            f"the checkpoint was saved with pickle_protocol={scanned.protocol}, "
            f"but only protocol {_TORCH_PROTOCOL}, the default of torch.save, is read"
        )
    modules = sorted(name for name in scanned.names if name.startswith("torch.nn.modules."))
    if modules:
        raise _checkpoint_error(f"the checkpoint holds a whole model object ({modules[0]})")


def _names_code(name: str) -> bool:
    """Return whether a dotted name stands for code that must never run."""
    if not _DOTTED_NAME.fullmatch(name):
        return True
    for alias in {name, _current_name(name)}:
        parts = alias.split(".")
        if alias in _HARMLESS or (parts[0] == "builtins" and set(parts[1:]) <= _SAFE_BUILTINS):
            continue
        if alias.startswith(_CODE_LIBRARIES):
            return True
        old_builtin = parts[0] == "__builtin__" and set(parts[1:]) <= _SAFE_BUILTINS
        if not old_builtin and (parts[0] in _CODE_MODULES or not _CODE_PARTS.isdisjoint(parts)):
            return True
    return False


def _current_name(name: str) -> str:
    """Return the name in Python 3 of a global that protocol 2 names as in Python 2."""
    module, _, attribute = name.rpartition(".")
    module, attribute = _compat_pickle.NAME_MAPPING.get((module, attribute), (module, attribute))
    return f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{attribute}"


def _checkpoint_error(message: str) -> UserError:
    return UserError("checkpoint_invalid", message, hint=_STATE_DICT_HINT)
