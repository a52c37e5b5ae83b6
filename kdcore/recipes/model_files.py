"""Resolves the weights of a recipe: a state dict, published weights, or an earlier student."""

import contextlib
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from kdcore.protocol.requests import CheckpointFile, ModelFile, VerifyRequest
from kdcore.recipes.config import RecipeModel
from kdcore.runtime.atomic_files import atomic_write, sha256_of
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import UserError
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.asset_info import DatasetFacts, ModelFacts
from kdcore.schema.catalog import Normalization, architectures
from kdcore.schema.exports import EXPORTS, STUDENT_FILE
from kdcore.schema.old_spelling import with_current_spelling

CONFIG_FILE = "config.json"
_PRETRAINED_PREFIXES = ("torchvision:", "timm:")


class ModelResolver(NamedTuple):
    """Resolves the networks of one recipe to files."""

    base: Path
    """The folder that relative paths start from."""
    dataset: DatasetFacts | None
    """Supplies the classes and the image size that a state dict does not have."""
    folder: Path
    """The folder for converted weights and copied checkpoints."""
    cancellation: CancellationToken
    fresh: bool = False
    """Whether to replace the checkpoint that an earlier run of the recipe copied."""

    def resolve(self, model: RecipeModel, name: str) -> ModelFile:
        """Return the network as the engine reads it; files are written to a folder ``name``.

        Raises ``UserError`` if the weights are missing or invalid.
        """
        self.cancellation.check_cancelled()
        if model.weights.startswith(_PRETRAINED_PREFIXES):
            return _pretrained_file(model, self.folder / name)
        path = self.base / Path(model.weights).expanduser()
        if path.is_dir():
            return _student_file(path, model)
        if not path.is_file():
            raise UserError("checkpoint_invalid", f"there is no file or folder {path}")
        return self._verify(path, model, self.folder / name)

    def copy_checkpoint(self, run: str, which: str) -> CheckpointFile:
        """Copy checkpoint ``which`` (``last``, or a step) of the run in the folder ``run``.

        The copy is reused when this run resumes, because the other run may have advanced and
        deleted the checkpoint. Raises ``UserError`` if there is no such checkpoint.
        """
        folder = (self.base / Path(run).expanduser()).resolve()
        name = hashlib.sha256(f"{folder}\0{which}".encode()).hexdigest()[:16]
        copy = self.folder / f"from-{name}.pt"
        if self.fresh or not copy.exists():
            source = _checkpoint_path(folder, which)
            with atomic_write(copy) as partial:
                shutil.copyfile(source, partial)
        return CheckpointFile(path=str(copy), sha256=sha256_of(copy))

    def _verify(self, path: Path, model: RecipeModel, folder: Path) -> ModelFile:
        from kdcore.weights.verify import verify  # loads torch

        dataset = self.dataset
        request = VerifyRequest(
            path=str(path),
            filename=path.name,
            architecture=model.architecture,
            num_classes=model.num_classes,
            input_size=model.input_size,
        )
        with contextlib.closing(EventWriter(folder / "events.jsonl", folder)) as events:
            verify(request, folder, events, self.cancellation)
        report = json.loads((folder / "events.jsonl").read_text().splitlines()[-1])["report"]
        program_format = report["architecture"] if report["architecture"] in EXPORTS else None
        written = folder / "artifacts" / EXPORTS[program_format or "safetensors"].file_name("model")
        size = model.input_size or (dataset.image_size if dataset else 32)
        if program_format is not None:
            size = report["input_size"]
            default = _normalization_of_file(report)
        else:
            default = architectures()[report["architecture"]].normalization
        normalization = model.normalization or default
        return ModelFile(
            path=str(written),
            sha256=sha256_of(written),
            architecture=report["architecture"],
            num_classes=report["num_classes"],
            in_channels=report["in_channels"],
            input_size=size,
            normalization=_match_channels(normalization, report["in_channels"]),
            class_names=model.class_names or report["class_names"],
            reported_top1=report["reported_top1"],
            outputs=report["outputs"],
            normalization_declared=model.normalization is not None
            or report["normalization"] is not None,
        )


def _normalization_of_file(report: dict[str, Any]) -> Normalization:
    """The normalization in the file of a network; pixels as they are without one."""
    if report["normalization"] is not None:
        return Normalization.model_validate(report["normalization"])
    channels = report["in_channels"]
    return Normalization(mean=(0.0,) * channels, std=(1.0,) * channels)


def model_facts(file: ModelFile) -> ModelFacts:
    """Return what validation compares with the job."""
    return ModelFacts(
        architecture=file.architecture,
        num_classes=file.num_classes,
        in_channels=file.in_channels,
        class_names=file.class_names,
        outputs=file.outputs,
    )


def _checkpoint_path(folder: Path, which: str) -> Path:
    checkpoints = sorted((folder / ".work" / "checkpoints").glob("step-*.pt"))
    steps = {str(int(path.stem.removeprefix("step-"))): path for path in checkpoints}
    path = checkpoints[-1] if which == "last" and checkpoints else steps.get(which)
    if path is None:
        known = ", ".join(steps) or "none"
        raise UserError(
            "checkpoint_invalid",
            f"the run in {folder} has no checkpoint {which!r}; its checkpoints are: {known}",
        )
    return path


def _student_file(folder: Path, model: RecipeModel) -> ModelFile:
    """Return the student of a finished run; fields of the recipe replace those of its config."""
    try:
        text = (folder / CONFIG_FILE).read_text(encoding="utf-8")
        config: dict[str, Any] = with_current_spelling(json.loads(text))
        path = folder / STUDENT_FILE
        model_file = ModelFile(
            path=str(path),
            sha256=sha256_of(path),
            **{name: config[name] for name in ("architecture", "num_classes", "in_channels")},
            **{name: config[name] for name in ("input_size", "normalization")},
            class_names=config.get("classes"),
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            "checkpoint_invalid",
            f"{folder} is not the folder of a finished run: {STUDENT_FILE} and {CONFIG_FILE} "
            "are required",
        ) from error
    for name in ("architecture", "num_classes"):
        value, declared = getattr(model_file, name), getattr(model, name)
        if declared not in (None, value):
            raise UserError(
                "checkpoint_invalid",
                f"the student in {folder} has {name} {value}, not {declared}: remove the field "
                f"{name}",
            )
    fields = ("class_names", "input_size", "normalization")
    declared_fields = {name: getattr(model, name) for name in fields if getattr(model, name)}
    if model.normalization is not None:
        declared_fields["normalization"] = _match_channels(
            model.normalization, model_file.in_channels
        )
    return model_file.model_copy(update=declared_fields)


def _pretrained_file(model: RecipeModel, folder: Path) -> ModelFile:
    # These load torch, which most recipes do not need yet.
    from kdcore.models.pretrained import load_pretrained
    from kdcore.weights.safetensors_io import write_safetensors

    pretrained_model = load_pretrained(model.weights)
    path = folder / "model.safetensors"
    write_safetensors(path, pretrained_model.weights)
    return ModelFile(
        path=str(path),
        sha256=sha256_of(path),
        architecture=pretrained_model.architecture,
        num_classes=pretrained_model.num_classes,
        in_channels=len(pretrained_model.normalization.mean),
        input_size=model.input_size or pretrained_model.input_size,
        normalization=model.normalization or pretrained_model.normalization,
        class_names=model.class_names or pretrained_model.class_names,
    )


def _match_channels(normalization: Normalization, channels: int) -> Normalization:
    if len(normalization.mean) == channels:
        return normalization
    if channels == 3:
        return Normalization(mean=normalization.mean * 3, std=normalization.std * 3)
    mean, std = (sum(values) / 3 for values in (normalization.mean, normalization.std))
    return Normalization(mean=(mean,), std=(std,))
