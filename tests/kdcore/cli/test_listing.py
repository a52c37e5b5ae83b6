"""Tables of methods, schemes and networks."""

import re
import subprocess
import sys

import pytest

from kdcore.__main__ import main
from kdcore.cli import listing
from kdcore.protocol.requests import ExitCode
from kdcore.schema.catalog import architectures
from kdcore.schema.methods import METHODS
from kdcore.schema.schemes import SCHEMES


@pytest.fixture
def wide_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.parametrize(
    ("command", "names"),
    [("methods", METHODS), ("schemes", SCHEMES), ("networks", architectures())],
)
def test_all_entries_are_listed(wide_terminal, capsys, command, names):
    assert main([command]) == 0
    lines = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert [name for name in names if name not in lines] == []


@pytest.mark.parametrize("name", METHODS)
def test_method_is_shown_with_all_parameters(wide_terminal, capsys, name):
    assert main(["methods", name]) == 0
    out = capsys.readouterr().out
    entry = METHODS[name]
    missing = [f for f in entry.model_fields if f != "type" and f not in out]
    assert missing == []
    assert entry.formula in " ".join(out.split()) or entry.formula.split()[0] in out


def test_bounds_and_defaults_are_those_of_the_field():
    rows = {row[0]: row[1:3] for row in listing.parameters(METHODS["dkd"])}
    assert rows["temperature"] == ("4", "≥ 0.01, ≤ 1000")
    assert rows["weight"][0] == "1"
    assert set(rows["weight"][1].split(", ")) == {"≤ 1e+06", "> 0", "auto", "published"}
    assert rows["warmup_epochs"] == ("null", "≥ 0, ≤ 100000")
    assert rows["logit_standardization"] == ("false", "boolean")


def test_networks_are_listed_by_pattern_and_one_is_shown_in_full(wide_terminal, capsys):
    assert main(["networks", "cifar/resnet8*"]) == 0
    assert re.findall(r"^cifar/\S+", capsys.readouterr().out, re.MULTILINE) == [
        "cifar/resnet8",
        "cifar/resnet8x4",
    ]
    assert main(["networks", "cifar/resnet8"]) == 0
    assert "tap layer3: 64 x 8 x 8" in capsys.readouterr().out
    assert main(["schemes", "mutual"]) == 0
    assert "Deep Mutual Learning" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["methods", "schemes", "networks"])
def test_unknown_name_is_a_user_error(capsys, command):
    assert main([command, "resnte8-nope"]) == ExitCode.USER_ERROR
    assert "resnte8-nope" in capsys.readouterr().err


def test_listings_load_neither_torch_nor_numpy(subprocess_environment):
    code = "import sys, kdcore.cli.user_commands as c; c.main(['methods']);"
    code += "print('torch' in sys.modules, 'numpy' in sys.modules)"
    completed = subprocess.run(
        [sys.executable, "-c", code],
        env=subprocess_environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert completed.stdout.splitlines()[-1] == "False False"
