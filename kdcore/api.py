"""``from kdcore import distill``: a recipe as a call, its outcome as an object."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcore.protocol.events import Event
from kdcore.recipes import recipe_data
from kdcore.recipes.prepare import canonical
from kdcore.recipes.runner import Order, perform
from kdcore.runtime.cancellation import Stop
from kdcore.schema.catalog import Normalisation
from kdcore.schema.exports import STUDENT
from kdcore.schema.report import Report

if TYPE_CHECKING:
    from kdcore.models.normalized_model import Normalised

Recipe = Mapping[str, Any]


@dataclass(frozen=True)
class Distilled:
    """What a run left: its report, its folder, its curves, its network."""

    report: Report
    path: Path
    """The folder with student.safetensors, config.json and the rest."""
    history: dict[str, list[tuple[int, float]]]
    """By the metric's name: (step of the whole run, value), in the order of the steps."""

    def __repr__(self) -> str:
        """One line: a notebook shows this wherever a call is a cell's last line."""
        student, teacher = self.report.student, self.report.teacher
        beside = f", teacher {teacher.top1:.2f} %" if teacher else ""
        told = f"top1 {student.top1:.2f} %{beside}, {student.num_params:,} parameters"
        return f"Distilled({told}, {str(self.path)!r})"

    def load(self) -> "Normalised":
        """The student in eval mode: images (B, C, H, W), uint8 or floats in 0..1, to logits (B, C).

        It normalises for itself; the bare network is its ``network``.
        """
        from safetensors.torch import load_file

        from kdcore.models import build
        from kdcore.models.normalized_model import Normalised

        config = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        shape = {name: config[name] for name in ("num_classes", "in_channels", "input_size")}
        network = build(config["architecture"], **shape)
        network.load_state_dict(load_file(self.path / STUDENT))
        normalisation = Normalisation.model_validate(config["normalisation"])
        channels = config.get("channels")
        return Normalised(network, normalisation, config["input_size"], channels).eval()


def distill(
    student: str | Recipe,
    dataset: Any = None,
    *,
    teachers: Sequence[Any] = (),
    out: Path | str | None = None,
    progress: bool = True,
    **settings: Any,
) -> Distilled:
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
        body["student"] = dict(student) if isinstance(student, Mapping) else _named(student)
    if dataset is not None:
        body["dataset"] = dataset
    if teachers:
        body["teachers"] = list(teachers)
    return _carried_out(body, out, progress=progress)


def evaluate(
    model: Any,
    dataset: Any,
    *,
    out: Path | str | None = None,
    progress: bool = True,
    **settings: Any,
) -> Distilled:
    """Measure a network on a data set and train nothing; ``model`` is as a teacher of `distill`."""
    body = {"kind": "evaluate", "model": model, "dataset": dataset, **settings}
    return _carried_out(body, out, progress=progress)


def _named(architecture: str) -> dict[str, str]:
    return {"architecture": architecture}


def _carried_out(body: dict[str, Any], out: Path | str | None, *, progress: bool) -> Distilled:
    files = Path("distilled") / ".given"
    body = _written(body, files)
    folder = Path(out) if out is not None else Path("distilled") / _name(body)
    stop = Stop()
    with stop.listening():
        report = _watched(Order(body, Path.cwd(), folder), stop, progress=progress)
    return Distilled(Report.model_validate(report), folder.resolve(), history(folder))


def _watched(order: Order, stop: Stop, *, progress: bool) -> dict[str, Any]:
    if not progress:
        return perform(order, _unseen, stop)
    from rich.console import Console

    from kdcore.cli.progress import View

    with View(Console()) as view:
        return perform(order, view, stop)


def _unseen(_event: Event) -> None:
    pass


def _written(body: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The recipe with a path in place of everything that a file cannot say."""
    found = dict(body)
    if "dataset" in found and not isinstance(found["dataset"], str):
        found["dataset"] = _data(found["dataset"], folder)
    if found.get("teachers") is not None:
        found["teachers"] = [_network(each, folder) for each in found["teachers"]]
    if found.get("model") is not None:
        found["model"] = _network(found["model"], folder)
    return found


def _data(dataset: Any, folder: Path) -> Any:
    if isinstance(dataset, Path):
        return str(dataset.resolve())
    arrays = isinstance(dataset, tuple | list) or "images" in dataset or "train_images" in dataset
    return str(recipe_data.of_arrays(dataset, folder).resolve()) if arrays else dataset


def _network(given: Any, folder: Path) -> Any:
    if isinstance(given, Distilled):
        return {"weights": str(given.path)}
    if isinstance(given, str | Path):
        return {"weights": str(given)}
    weights = given.get("weights")
    if isinstance(weights, Distilled):
        weights = weights.path
    if isinstance(weights, Mapping):
        weights = _state(weights, folder)
    return {**given, "weights": str(weights)} if weights is not None else given


def _state(state: Mapping[str, Any], folder: Path) -> Path:
    """A live state dict as a file that is named by its bytes."""
    import hashlib

    from kdcore.runtime.files import replacing
    from kdcore.weights.safetensors_io import encoded

    written = encoded(dict(state))
    path = folder / f"weights-{hashlib.sha256(written).hexdigest()[:16]}.safetensors"
    with replacing(path) as partial:
        partial.write_bytes(written)
    return path.resolve()


def _name(body: dict[str, Any]) -> str:
    student = body.get("student")
    named = student.get("architecture") if isinstance(student, Mapping) else None
    kind = str(named or body.get("kind") or "student").rpartition("/")[2]
    safe = "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in kind)
    return f"{safe}-{canonical(body)}"


def history(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every metric of a run's events; what a stopped run did after its checkpoint counts once."""
    found: dict[str, dict[int, float]] = {}
    path = folder / ".work" / "events.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["type"] == "metrics":
            step = (event["progress"] or event)["step"]
            for name, value in event["values"].items():
                if value is not None:
                    found.setdefault(name, {})[step] = value
    return {name: sorted(values.items()) for name, values in found.items()}
