"""The images and the compose file, as far as a machine without Docker can check them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

IMAGES = {
    "api": [
        "api.app",
        "store.migrate",
        "store.access.bootstrap",
        "worker.maintenance.__main__",
        "kdcore.serving.predictor",
    ],
    "worker": ["worker.celery_app", "kdcore.__main__"],
}


@pytest.fixture(scope="module")
def compose(root: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((root / "docker-compose.yml").read_text())
    return loaded


def copied_paths(root: Path, image: str) -> list[tuple[str, str]]:
    """What the final stage of an image copies from the checkout."""
    final = (root / "docker" / f"{image}.Dockerfile").read_text().split("\nFROM ")[-1]
    pairs = re.findall(r"^COPY (?!--from)(\S+) (\S+)$", final, re.MULTILINE)
    assert pairs
    return pairs


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_holds_all_that_its_programs_import(
    image: str, root: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    for source, target in copied_paths(root, image):
        destination = tmp_path / target
        destination.parent.mkdir(parents=True, exist_ok=True)
        if (root / source).is_dir():
            shutil.copytree(root / source, destination)
        else:
            shutil.copy(root / source, destination)
    rooms = ("api", "kdcore", "store", "worker", "stillhouse")
    code = (
        f"import sys, {', '.join(IMAGES[image])}\n"
        f"for name, module in list(sys.modules.items()):\n"
        f"    if name.partition('.')[0] in {rooms} and getattr(module, '__file__', None):\n"
        f"        print(module.__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    outside = [name for name in done.stdout.split() if not name.startswith(str(tmp_path))]
    assert done.stdout
    assert not outside


STARTS = {
    "api": "from api.predictions.prediction_runner import subprocess_env; "
    "given = subprocess_env(Path('/nowhere'))",
    "worker": "from worker.engine import engine_process; given = engine_process.base_environment()",
}


@pytest.mark.parametrize("image", STARTS)
def test_an_image_can_start_the_engine(
    image: str, root: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """The engine's own environment must find the rooms where nothing of ours is installed."""
    code = f"from pathlib import Path; {STARTS[image]}; print(given['PYTHONPATH'])"
    for source, target in copied_paths(root, image):
        destination = tmp_path / target
        destination.parent.mkdir(parents=True, exist_ok=True)
        if (root / source).is_dir():
            shutil.copytree(root / source, destination)
        else:
            shutil.copy(root / source, destination)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(tmp_path)


def test_compose_has_every_part_with_a_health_check(compose: dict[str, Any]) -> None:
    services = compose["services"]
    parts = {"postgres", "valkey", "objects", "migrate", "api", "train", "prepare", "maintenance"}
    assert set(services) == parts
    for name in ("postgres", "valkey", "objects"):
        assert services[name]["healthcheck"]["test"], name


def test_compose_has_no_default_password(compose: dict[str, Any], root: Path) -> None:
    example = (root / "docker" / "env.example").read_text()
    names = re.findall(r"^([A-Z0-9_]+)=(.*)$", example, re.MULTILINE)
    assert names
    assert all(not value for _, value in names)
    text = (root / "docker-compose.yml").read_text()
    for name, _ in names:
        uses = re.findall(r"\$\{" + name + r"(:\?|:-|\})", text)
        assert uses, name
        assert set(uses) == {":?"}, f"{name} must be refused when it is missing"


def test_compose_gives_the_servers_every_setting_without_a_default(
    compose: dict[str, Any],
) -> None:
    from store.settings import Settings

    required = {
        f"STILLHOUSE_{name.upper()}"
        for name, field in Settings.model_fields.items()
        if field.is_required()
    }
    for name in ("api", "maintenance", "train", "prepare", "migrate"):
        assert required <= set(compose["services"][name]["environment"]), name
