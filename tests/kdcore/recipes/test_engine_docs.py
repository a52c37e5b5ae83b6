"""The examples of docs/how-to/engine.md work, here with fewer epochs and a smaller teacher."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kdcore.recipes.config import Recipe

DOCS = Path(__file__).parents[3] / "docs"
SMALLER = {'"epochs": 5': '"epochs": 1', "resnet8x4": "resnet8"}


def code_blocks(language):
    text = (DOCS / "how-to" / "engine.md").read_text()
    blocks = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for original, smaller in SMALLER.items():
        blocks = [block.replace(original, smaller) for block in blocks]
    return blocks


@pytest.fixture
def shell_environment(subprocess_environment):
    """Variables with which ``python`` is this interpreter."""
    path = f"{Path(sys.executable).parent}:{subprocess_environment['PATH']}"
    return subprocess_environment | {"PATH": path, "COLUMNS": "120"}


def run_code(command, code, folder, environment):
    completed = subprocess.run(
        [*command, code], cwd=folder, env=environment, capture_output=True, text=True, timeout=280
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


def test_documented_commands_work(tmp_path, shell_environment):
    first_run, listings = code_blocks("sh")
    assert '"epochs": 1' in first_run
    bash = ["bash", "-euo", "pipefail", "-c"]
    out = run_code(bash, first_run, tmp_path, shell_environment)
    assert re.search(r"student\W+teacher\W+undistilled", out)
    out = run_code(bash, listings, tmp_path, shell_environment)
    assert "standard errors" in out
    assert (tmp_path / "student" / "student.safetensors").exists()


OBJECTS = """
import torch
from torch.utils.data import DataLoader, TensorDataset
from kdcore import distill

def network():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2))

images = torch.rand(64, 3, 8, 8)
train_set = TensorDataset(images, (images.mean((1, 2, 3)) > images.mean()).long())
test_set, train_loader = train_set, DataLoader(train_set, 16)
student_module, teacher_module = network(), network()
teacher_module[1].weight.data.copy_(torch.stack([-torch.ones(192), torch.ones(192)]))
teacher_module[1].bias.data.copy_(torch.tensor([1.0, -1.0]) * 192 * images.mean())
"""
"""The networks and data that the second example takes as existing."""


def test_documented_python_works(tmp_path, shell_environment):
    names, objects = code_blocks("python")
    objects = objects.replace("teachers=", "training={'epochs': 1}, teachers=")
    run_code([sys.executable, "-c"], names, tmp_path, shell_environment)
    (tmp_path / "objects").mkdir()
    run_code([sys.executable, "-c"], OBJECTS + objects, tmp_path / "objects", shell_environment)


def test_every_field_of_a_recipe_is_documented():
    text = (DOCS / "reference" / "recipes.md").read_text()
    documented = set(re.findall(r"`([a-z_]+)", text))
    fields = {field.alias or name for name, field in Recipe.model_fields.items()}
    # A local run waits in no queue.
    assert fields - documented == {"priority"}
