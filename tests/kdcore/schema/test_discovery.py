"""Parameter classes are discovered in a folder, and incomplete ones are refused."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdcore.schema.discovery import discover_params
from kdcore.schema.methods import METHODS
from kdcore.schema.methods.base import METHOD_GROUPS, MethodParams
from kdcore.schema.schemes import SCHEMES
from kdcore.schema.schemes.base import SchemeParams

COMPLETE = """
from typing import Literal
from kdcore.schema.schemes.base import SchemeParams

class Example(SchemeParams):
    teacher = "optional"
    type: Literal["example"]
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An importable package ``extra_schemes`` without modules."""
    folder = tmp_path / "extra_schemes"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.startswith("extra_schemes")]:
        del sys.modules[name]


def test_params_are_discovered_by_name_of_file(package: Path) -> None:
    (package / "example.py").write_text(COMPLETE)
    (package / "base.py").write_text("class Shared: ...")
    assert [
        (name, params.__name__)
        for name, params in discover_params("extra_schemes", SchemeParams).items()
    ] == [("example", "Example")]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("", "defines 0 subclasses of SchemeParams"),
        (COMPLETE + "\nclass Second(Example): ...", "defines 2 subclasses of SchemeParams"),
        (COMPLETE.replace('teacher = "optional"', "pass"), "lacks teacher"),
        (COMPLETE.replace('"example"', '"other"'), "needs the field `type: Literal"),
    ],
    ids=("no class", "two classes", "no teacher", "other name"),
)
def test_incomplete_params_are_refused(package: Path, code: str, message: str) -> None:
    (package / "example.py").write_text(code)
    with pytest.raises(TypeError, match=message):
        discover_params("extra_schemes", SchemeParams)


def test_catalog_entries_are_complete() -> None:
    assert len(METHODS) >= 18
    assert [params.group for params in METHODS.values()] == sorted(
        (params.group for params in METHODS.values()), key=METHOD_GROUPS.index
    )
    for name, params in METHODS.items():
        assert issubclass(params, MethodParams)
        assert params.method_name() == name
        assert params.paper is not None or name == "supervised"
        assert params.when_to_use.endswith(".")
    assert set(SCHEMES) >= {
        *("offline", "mutual", "born_again", "teacher_assistant", "label_refinery")
    }
    assert all(params.scheme_name() == name and params.paper for name, params in SCHEMES.items())
