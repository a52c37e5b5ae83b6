"""The public Python API: :func:`distill`, :func:`evaluate` and :class:`DistillationResult`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcore.protocol.events import EngineEvent
from kdcore.recipes.call_inputs import CallInputs
from kdcore.recipes.prepare import recipe_digest
from kdcore.recipes.run_directory import RunDirectory
from kdcore.recipes.runner import RunSpec, run_recipe
from kdcore.runtime.cancellation import CancellationToken
from kdcore.schema.catalog import Normalization
from kdcore.schema.exports import STUDENT_FILE
from kdcore.schema.old_spelling import with_current_spelling
from kdcore.schema.report import Report

if TYPE_CHECKING:
    from torch import nn

    from kdcore.models.normalized_model import NormalizedModel

RecipeDict = Mapping[str, Any]


@dataclass(frozen=True)
class DistillationResult:
    """The result of a finished run."""

    report: Report
    """Metrics of the student, the teacher and the baseline, as in ``report.json``."""
    path: Path
    """The output folder with ``student.safetensors``, ``config.json`` and the exports."""
    history: dict[str, list[tuple[int, float]]]
    """For each metric, such as ``val/top1`` in percent, its (step, value) pairs in order of the
    step. Steps count through all phases of the run."""

    def __repr__(self) -> str:
        """Return one line, because a notebook shows the result of its last call."""
        student, teacher = self.report.student, self.report.teacher
        teacher_text = f", teacher {teacher.top1:.2f} %" if teacher else ""
        size = "" if student.num_params is None else f", {student.num_params:,} parameters"
        summary = f"top1 {student.top1:.2f} %{teacher_text}{size}"
        return f"DistillationResult({summary}, {str(self.path)!r})"

    def load(self) -> "NormalizedModel":
        """Return the student in eval mode, on the CPU.

        The model takes images (B, C, H, W), uint8 or floats in 0..1, normalizes them and returns
        logits (B, num_classes). Its attribute ``network`` is the network without normalization.

        Raises:
            OSError: the output folder was moved or deleted.
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
    student: "str | nn.Module | RecipeDict",
    dataset: Any = None,
    *,
    teachers: Any = (),
    out: Path | str | None = None,
    progress: bool = True,
    **settings: Any,
) -> DistillationResult:
    """Train a student in this process and return the result.

    The same call resumes a cancelled run, and returns the result of a finished one.

    Args:
        student: an architecture, an ``nn.Module``, the ``student`` of a recipe, or a complete
            recipe. A module's weights are the student's initial weights; it is not changed.
        dataset: as in a recipe; or ``(images, labels)``, images uint8 (N, H, W[, C]), labels (N,);
            or a dict of such arrays with the names of an ``.npz`` file; or a ``Dataset`` or
            ``DataLoader`` of torch, or a dict of those with the keys train, val and test. These are
            read once, without augmentation: pixels from 0 to 1 or uint8, labels as indices.
        teachers: a list, or one teacher: ``nn.Module``, an item as in a recipe, a path, or the
            result of a run; ``weights`` of an item may be a state dict or a module. A module gets
            pixels from 0 to 1 unless its item has a ``normalization``.
        out: output folder; by default one in ``distilled/``, named by the recipe.
        progress: whether to print the progress.
        settings: the other fields of a recipe (docs/reference/recipes.md), ``from`` as ``from_``.

    Raises the errors of :mod:`kdcore.runtime.errors`: ``UserError`` with every issue of the recipe
    in ``items``, ``RunCancelledError`` after Ctrl-C and a checkpoint, ``NonFiniteError`` and
    ``OutOfDeviceMemoryError``.
    """
    body: dict[str, Any] = {"student": student, **settings}
    if isinstance(student, Mapping) and "dataset" in student:
        body = {**student, **settings}
    if dataset is not None:
        body["dataset"] = dataset
    if not isinstance(teachers, list | tuple) or teachers:
        body["teachers"] = teachers
    return _run(body, out, progress=progress)


def evaluate(
    model: Any,
    dataset: Any,
    *,
    out: Path | str | None = None,
    progress: bool = True,
    **settings: Any,
) -> DistillationResult:
    """Measure a network on the test split of a data set, without training.

    A set whose only split is test is measured whole, and ``{"test": data}`` suffices. ``model`` is
    of the same types as an item of ``teachers`` in :func:`distill`, and the measured network is
    ``report.student`` of the result. Other arguments and errors are those of :func:`distill`.
    """
    body = {"kind": "evaluate", "model": model, "dataset": dataset, **settings}
    return _run(body, out, progress=progress)


def _run(body: dict[str, Any], out: Path | str | None, *, progress: bool) -> DistillationResult:
    cancellation = CancellationToken()
    with cancellation.handle_signals():
        body = CallInputs(Path("distilled") / ".inputs", cancellation).to_recipe(body)
        folder = Path(out) if out is not None else Path("distilled") / _run_name(body)
        run_spec = RunSpec(body, Path.cwd(), folder)
        report = _run_with_progress(run_spec, cancellation, progress=progress)
    return DistillationResult(Report.model_validate(report), folder.resolve(), read_history(folder))


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


def _run_name(body: dict[str, Any]) -> str:
    student = body.get("student")
    architecture = student.get("architecture") if isinstance(student, Mapping) else None
    kind = str(architecture or body.get("kind") or "student").rpartition("/")[2]
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in kind)
    return f"{safe}-{recipe_digest(body)}"


def read_history(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the (step, value) pairs of every metric in the events of the run in ``folder``.

    A resumed run repeats the steps after its checkpoint; the last value of a step counts.
    """
    metrics: dict[str, dict[int, float]] = {}
    for line in RunDirectory(folder).events.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["type"] == "metrics":
            step = (event["progress"] or event)["step"]
            for name, value in event["values"].items():
                if value is not None:
                    metrics.setdefault(name, {})[step] = value
    return {name: sorted(values.items()) for name, values in metrics.items()}
