"""Networks on disk: a state dict, published weights, or the student of an earlier run."""

import contextlib
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from kdcore.protocol.requests import CheckpointFile, ModelFile, VerifyRequest
from kdcore.recipes.config import Weights
from kdcore.runtime.cancellation import Stop
from kdcore.runtime.errors import UserFault
from kdcore.runtime.event_writer import EventWriter
from kdcore.runtime.files import replacing, sha256_of
from kdcore.schema.catalog import Normalisation, architectures
from kdcore.schema.exports import STUDENT
from kdcore.schema.validation.partial_job import DatasetFacts, ModelFacts

CONFIG = "config.json"
_PUBLISHED = ("torchvision:", "timm:")


class Finder(NamedTuple):
    """Opens the networks that one recipe names."""

    base: Path
    """What relative paths are relative to."""
    dataset: DatasetFacts | None
    folder: Path
    stop: Stop
    fresh: bool = False
    """Whether what an earlier run took for itself is of no use."""

    def file(self, asked: Weights, place: str) -> ModelFile:
        """The network as the engine takes it; ``place`` is a name for what is written.

        Raises ``UserFault`` with all that is wrong with it."""
        self.stop.check()
        if asked.weights.startswith(_PUBLISHED):
            return _published(asked, self.folder / place)
        path = self.base / Path(asked.weights).expanduser()
        if path.is_dir():
            return _student(path, asked.architecture)
        if not path.is_file():
            raise UserFault("checkpoint_invalid", f"there is no file or folder {path}")
        return self._verified(path, asked, self.folder / place)

    def checkpoint(self, run: str, which: str) -> CheckpointFile:
        """A copy of a checkpoint of the run in the folder ``run``: ``last``, or a step.

        That run may go on and drop it, and this one must find the same when it goes on itself: a
        copy that is there is taken again. Raises ``UserFault`` where there is no such checkpoint.
        """
        folder = (self.base / Path(run).expanduser()).resolve()
        name = hashlib.sha256(f"{folder}\0{which}".encode()).hexdigest()[:16]
        copy = self.folder / f"from-{name}.pt"
        if self.fresh or not copy.exists():
            found = _checkpoint(folder, which)
            with replacing(copy) as partial:
                shutil.copyfile(found, partial)
        return CheckpointFile(path=str(copy), sha256=sha256_of(copy))

    def _verified(self, path: Path, asked: Weights, folder: Path) -> ModelFile:
        from kdcore.weights.verify import verify  # loads torch

        name, dataset = asked.architecture, self.dataset
        classes = asked.num_classes or (dataset.num_classes if dataset else None)
        if name is None or classes is None:
            missing = "architecture" if name is None else "num_classes"
            raise UserFault(
                "checkpoint_invalid", f"a state dict does not say its {missing}: add it"
            )
        request = VerifyRequest(path=str(path), architecture=name, num_classes=classes)
        with contextlib.closing(EventWriter(folder / "events.jsonl", folder)) as events:
            verify(request, folder, events, self.stop)
        written = folder / "artifacts" / "model.safetensors"
        report = json.loads((folder / "events.jsonl").read_text().splitlines()[-1])["report"]
        size = asked.input_size or (dataset.image_size if dataset else 32)
        normalisation = asked.normalisation or architectures()[name].normalisation
        return ModelFile(
            path=str(written),
            sha256=sha256_of(written),
            architecture=name,
            num_classes=report["num_classes"],
            in_channels=report["in_channels"],
            input_size=size,
            normalisation=_of_channels(normalisation, report["in_channels"]),
        )


def facts(file: ModelFile) -> ModelFacts:
    """What must be known to tell whether it fits."""
    return ModelFacts(
        architecture=file.architecture, num_classes=file.num_classes, in_channels=file.in_channels
    )


def _checkpoint(folder: Path, which: str) -> Path:
    kept = sorted((folder / ".work" / "checkpoints").glob("step-*.pt"))
    steps = {str(int(path.stem.removeprefix("step-"))): path for path in kept}
    path = kept[-1] if which == "last" and kept else steps.get(which)
    if path is None:
        known = ", ".join(steps) or "none"
        raise UserFault(
            "checkpoint_invalid",
            f"the run in {folder} has no checkpoint {which!r}; steps that are kept: {known}",
        )
    return path


def _student(folder: Path, architecture: str | None) -> ModelFile:
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        path = folder / STUDENT
        found = ModelFile(
            path=str(path),
            sha256=sha256_of(path),
            **{name: config[name] for name in ("architecture", "num_classes", "in_channels")},
            **{name: config[name] for name in ("input_size", "normalisation")},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserFault(
            "checkpoint_invalid",
            f"{folder} is not the folder of a finished run: {STUDENT} and {CONFIG} are expected",
        ) from error
    if architecture not in (None, found.architecture):
        raise UserFault(
            "checkpoint_invalid",
            f"the student in {folder} is {found.architecture}, not {architecture}: leave the "
            "architecture out",
        )
    return found


def _published(asked: Weights, folder: Path) -> ModelFile:
    from kdcore.models.pretrained import pretrained
    from kdcore.weights.safetensors_io import write  # these two load torch

    found = pretrained(asked.weights)
    path = folder / "model.safetensors"
    write(path, found.weights)
    return ModelFile(
        path=str(path),
        sha256=sha256_of(path),
        architecture=found.architecture,
        num_classes=found.num_classes,
        in_channels=len(found.normalisation.mean),
        input_size=asked.input_size or found.input_size,
        normalisation=asked.normalisation or found.normalisation,
    )


def _of_channels(normalisation: Normalisation, channels: int) -> Normalisation:
    if len(normalisation.mean) == channels:
        return normalisation
    if channels == 3:
        return Normalisation(mean=normalisation.mean * 3, std=normalisation.std * 3)
    mean, std = (sum(values) / 3 for values in (normalisation.mean, normalisation.std))
    return Normalisation(mean=(mean,), std=(std,))
