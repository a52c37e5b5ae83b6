"""``from kdcore import distill``: a recipe as a call, its outcome as an object."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcore.protocol.events import EngineEvent
from kdcore.recipes import recipe_data
from kdcore.recipes.prepare import recipe_digest
from kdcore.recipes.runner import RunSpec, run_recipe
from kdcore.runtime.cancellation import CancellationToken
from kdcore.schema.catalog import Normalization
from kdcore.schema.exports import STUDENT_FILE
from kdcore.schema.old_spelling import with_current_spelling
from kdcore.schema.report import Report

if TYPE_CHECKING:
    from kdcore.models.normalized_model import NormalizedModel

RecipeDict = Mapping[str, Any]


@dataclass(frozen=True)
class DistillationResult:
    """What a run left: its report, its folder, its curves, its network."""

    report: Report
    path: Path
    """The folder with student.safetensors, config.json and the rest."""
    history: dict[str, list[tuple[int, float]]]
    """By the metric's name: (step of the whole run, value), in the order of the steps."""

    def __repr__(self) -> str:
        """One line: a notebook shows this wherever a call is a cell's last line."""
        student, teacher = self.report.student, self.report.teacher
        teacher_text = f", teacher {teacher.top1:.2f} %" if teacher else ""
        summary = f"top1 {student.top1:.2f} %{teacher_text}, {student.num_params:,} parameters"
        return f"Distilled({summary}, {str(self.path)!r})"

    def load(self) -> "NormalizedModel":
        """The student in eval mode: images (B, C, H, W), uint8 or floats in 0..1, to logits (B, C).

        It normalizes for itself; the bare network is its ``network``.
        """
        from safetensors.torch import load_file

        from kdcore.models.factory import build
        from kdcore.models.normalized_model import NormalizedModel

        text = (self.path / "config.json").read_text(encoding="utf-8")
        config = with_current_spelling(json.loads(text))
        shape = {name: config[name] for name in ("num_classes", "in_channels", "input_size")}
        network = build(config["architecture"], **shape)
        network.load_state_dict(load_file(self.path / STUDENT_FILE))
        normalization = Normalization.model_validate(config["normalization"])
        channels = config.get("channels")
        return NormalizedModel(network, normalization, config["input_size"], channels).eval()


def distill(
    student: str | RecipeDict,
    dataset: Any = None,
    *,
    teachers: Sequence[Any] = (),
    out: Path | str | None = None,
    progress: bool = True,
    **settings: Any,
) -> DistillationResult:
    """Carry out a recipe in this process, or go on with it, or take its finished outcome.

    ``student`` is an architecture, a recipe's ``student``, or a whole recipe. ``dataset`` is as in
    a recipe, or ``(images, labels)``: uint8 (N, H, W[, C]) and (N,); or such arrays by the names of
    an ``.npz``. A teacher is as in a recipe, a path, or a :class:`Distilled`; its ``weights`` may
    be a state dict. ``settings`` are the other fields of a recipe: method, scheme, training,
    evaluation, exports, seed, accept, device, threads and the rest. Paths are relative to the
    current folder. ``out`` is the folder of the run, by default one in ``distilled/`` that is named
    after the recipe: the same call goes on where it was stopped.

    Raises :class:`~kdcore.runtime.errors.UserFault` with all that is wrong in its notes,
    ``Stopped`` after Ctrl-C when the checkpoint is written, ``NonFinite`` and
    ``OutOfDeviceMemory``.
    """
    body = dict(settings)
    if isinstance(student, Mapping) and "dataset" in student:
        body = {**student, **body}
    else:
        body["student"] = (
            dict(student) if isinstance(student, Mapping) else _student_config(student)
        )
    if dataset is not None:
        body["dataset"] = dataset
    if teachers:
        body["teachers"] = list(teachers)
    return _run(body, out, progress=progress)


def evaluate(
    model: Any,
    dataset: Any,
    *,
    out: Path | str | None = None,
    progress: bool = True,
    **settings: Any,
) -> DistillationResult:
    """Measure a network on a data set and train nothing; ``model`` is as a teacher of `distill`."""
    body = {"kind": "evaluate", "model": model, "dataset": dataset, **settings}
    return _run(body, out, progress=progress)


def _student_config(architecture: str) -> dict[str, str]:
    return {"architecture": architecture}


def _run(body: dict[str, Any], out: Path | str | None, *, progress: bool) -> DistillationResult:
    files = Path("distilled") / ".given"
    body = _write_inputs(body, files)
    folder = Path(out) if out is not None else Path("distilled") / _run_name(body)
    cancellation = CancellationToken()
    with cancellation.handle_signals():
        report = _run_with_progress(
            RunSpec(body, Path.cwd(), folder), cancellation, progress=progress
        )
    return DistillationResult(Report.model_validate(report), folder.resolve(), history(folder))


def _run_with_progress(
    run_spec: RunSpec, cancellation: CancellationToken, *, progress: bool
) -> dict[str, Any]:
    if not progress:
        return run_recipe(run_spec, _ignore_event, cancellation)
    from rich.console import Console

    from kdcore.cli.progress import ProgressView

    with ProgressView(Console()) as view:
        return run_recipe(run_spec, view, cancellation)


def _ignore_event(_event: EngineEvent) -> None:
    pass


def _write_inputs(body: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The recipe with a path in place of everything that a file cannot say."""
    recipe = dict(body)
    if "dataset" in recipe and not isinstance(recipe["dataset"], str):
        recipe["dataset"] = _dataset_input(recipe["dataset"], folder)
    if recipe.get("teachers") is not None:
        recipe["teachers"] = [_model_input(teacher, folder) for teacher in recipe["teachers"]]
    if recipe.get("model") is not None:
        recipe["model"] = _model_input(recipe["model"], folder)
    return recipe


def _dataset_input(dataset: Any, folder: Path) -> Any:
    if isinstance(dataset, Path):
        return str(dataset.resolve())
    arrays = isinstance(dataset, tuple | list) or "images" in dataset or "train_images" in dataset
    return str(recipe_data.write_arrays(dataset, folder).resolve()) if arrays else dataset


def _model_input(model: Any, folder: Path) -> Any:
    if isinstance(model, DistillationResult):
        return {"weights": str(model.path)}
    if isinstance(model, str | Path):
        return {"weights": str(model)}
    weights = model.get("weights")
    if isinstance(weights, DistillationResult):
        weights = weights.path
    if isinstance(weights, Mapping):
        weights = _write_state_dict(weights, folder)
    return {**model, "weights": str(weights)} if weights is not None else model


def _write_state_dict(state_dict: Mapping[str, Any], folder: Path) -> Path:
    """A live state dict as a file that is named by its bytes."""
    import hashlib

    from kdcore.runtime.files import atomic_write
    from kdcore.weights.safetensors_io import encode_safetensors

    written = encode_safetensors(dict(state_dict))
    path = folder / f"weights-{hashlib.sha256(written).hexdigest()[:16]}.safetensors"
    with atomic_write(path) as partial:
        partial.write_bytes(written)
    return path.resolve()


def _run_name(body: dict[str, Any]) -> str:
    student = body.get("student")
    named = student.get("architecture") if isinstance(student, Mapping) else None
    kind = str(named or body.get("kind") or "student").rpartition("/")[2]
    safe = "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in kind)
    return f"{safe}-{recipe_digest(body)}"


def history(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every metric of a run's events; what a stopped run did after its checkpoint counts once."""
    metrics: dict[str, dict[int, float]] = {}
    path = folder / ".work" / "events.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["type"] == "metrics":
            step = (event["progress"] or event)["step"]
            for name, value in event["values"].items():
                if value is not None:
                    metrics.setdefault(name, {})[step] = value
    return {name: sorted(values.items()) for name, values in metrics.items()}
