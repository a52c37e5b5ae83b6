"""From a recipe to the engine's request: every file opened, every fault told, nothing trained."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError

from kdcore.protocol.requests import CheckpointFile, ModelFile, RunRequest, TeacherFile
from kdcore.recipes import model_files, recipe_data, recipe_errors
from kdcore.recipes.config import Data, Recipe, RecipeFrom, RecipeTeacher, Weights, spelled
from kdcore.runtime.cancellation import Stop
from kdcore.runtime.errors import UserFault
from kdcore.schema.defaults import resolve, warnings
from kdcore.schema.job import JobSpec
from kdcore.schema.validation.compatibility import misfits
from kdcore.schema.validation.errors import Fault
from kdcore.schema.validation.partial_job import ModelFacts
from kdcore.training.job_digest import digest

_T = TypeVar("_T")
_OWN = ("random", "pretrained")


class Prepared(NamedTuple):
    """A recipe that can be run."""

    request: RunRequest
    warnings: list[str]
    """What is allowed and yet probably not meant."""

    def key(self) -> dict[str, Any]:
        """What the run is asked: equal keys, equal results."""
        job = self.request.job.model_dump(mode="json")
        for name in ("labels", "limits", "priority"):
            del job[name]
        return {"digest": digest(self.request), "job": job}


@dataclass
class _Files:
    """What a recipe refers to, as far as it could be opened."""

    dataset: recipe_data.Taken | None = None
    teachers: list[ModelFile | None] = field(default_factory=list)
    init: ModelFile | None = None
    model: ModelFile | None = None
    continued: CheckpointFile | None = None
    faults: list[Fault] = field(default_factory=list)

    def tried(self, pointer: str, opening: Callable[[], _T]) -> _T | None:
        """What ``opening`` gives; None and a fault where it is refused."""
        try:
            return opening()
        except UserFault as fault:
            self.faults.append(recipe_errors.of_user(fault, pointer))
            return None

    def ids(self) -> dict[str, str]:
        """A name for each file in a job's words, by pointer: a function of the bytes alone."""
        found = {f"/teachers/{n}": _id("mdl", file) for n, file in enumerate(self.teachers)}
        found["/dataset"] = _id("ds", self.dataset.file if self.dataset else None)
        found["/model"] = _id("mdl", self.model)
        found["/from"] = _id("job", self.continued or self.init)
        if self.init is not None:
            found["/student/init"] = _id("mdl", self.init)
        return found


def prepare(body: object, base: Path, work: Path, stop: Stop, *, fresh: bool = False) -> Prepared:
    """Open all that the recipe ``body`` names, relative to ``base``, and resolve the job.

    ``work`` is room for what is made of it; ``fresh`` takes nothing that an earlier run left there
    of a run that may have gone on since. Raises ``UserFault`` with every fault of the recipe and
    of its files, and ``Stopped``.
    """
    body = spelled(body)
    recipe, faults = recipe_errors.parsed(body)
    files = _open(body, base, work, stop, fresh=fresh)
    told = {fault.pointer for fault in faults}
    faults += [fault for fault in files.faults if fault.pointer not in told]
    if files.dataset is not None:
        taught = [_facts(teacher) for teacher in files.teachers]
        facts = (_facts(files.init), _facts(files.model))
        asked = recipe_errors.asked(body)
        continued = asked.continued is not None
        for misfit in misfits(asked, files.dataset.facts, taught, *facts):
            faults.append(recipe_errors.in_own_words(misfit, continued=continued))
    if faults or recipe is None or files.dataset is None:
        raise recipe_errors.refusal(faults)
    return _prepared(recipe, files, files.dataset)


def _prepared(recipe: Recipe, files: _Files, dataset: recipe_data.Taken) -> Prepared:
    body = recipe.model_dump(mode="json", exclude_unset=True)
    ids = files.ids()
    if recipe.from_ is not None:
        ids.pop("/student/init", None)
    spec = JobSpec.model_validate(recipe_errors.as_job(body, ids))
    teachers = [file for file in files.teachers if file is not None]
    known = tuple(model_files.facts(file) for file in teachers)
    request = RunRequest(
        job=resolve(spec, dataset.facts, known, _facts(files.model)),
        dataset=dataset.file,
        teachers=tuple(
            TeacherFile(
                **file.model_dump(),
                weight=asked.weight,
                class_map=asked.class_map,
                channels=asked.channels,
                taps=asked.taps,
            )
            for file, asked in zip(teachers, recipe.teachers, strict=True)
        ),
        init=files.init or files.model,
        continued=files.continued,
        device=recipe.device,
        threads=recipe.threads,
    )
    return Prepared(request, warnings(spec, dataset.facts))


def _open(body: object, base: Path, work: Path, stop: Stop, *, fresh: bool) -> _Files:
    """Everything that can be opened, also where the recipe is wrong in another place."""
    files = _Files()
    whole = body if isinstance(body, dict) else {}
    asked = _read(str | Data, whole.get("dataset"))
    if asked is not None:
        files.dataset = files.tried("/dataset", lambda: _dataset(asked, base, work, stop))
    facts = files.dataset.facts if files.dataset else None
    finder = model_files.Finder(base, facts, work / "networks", stop, fresh)
    listed = whole.get("teachers")
    for number, one in enumerate(listed if isinstance(listed, list | tuple) else ()):
        teacher = _read(RecipeTeacher, one)
        files.teachers.append(_network(files, finder, teacher, f"/teachers/{number}"))
    files.model = _network(files, finder, _read(Weights, whole.get("model")), "/model")
    _open_beginning(files, finder, whole)
    return files


def _open_beginning(files: _Files, finder: model_files.Finder, whole: dict[str, Any]) -> None:
    student = whole.get("student")
    student = student if isinstance(student, dict) else {}
    start = _read(RecipeFrom, whole.get("from"))
    init = student.get("init", "random")
    if start is not None:
        if start.checkpoint == "best":
            folder = finder.base / Path(start.folder).expanduser()
            asked = Weights(weights=str(folder), architecture=_architecture(student))
            files.init = files.tried("/from", lambda: finder.file(asked, "from"))
        else:
            files.continued = files.tried(
                "/from", lambda: finder.checkpoint(start.folder, start.checkpoint)
            )
    elif isinstance(init, str) and init and init not in _OWN:
        given = Weights(weights=init, architecture=_architecture(student))
        files.init = files.tried("/student/init", lambda: finder.file(given, "init"))


def _dataset(asked: str | Data, base: Path, work: Path, stop: Stop) -> recipe_data.Taken:
    try:
        chosen = recipe_data.asked_of(asked)
    except ValidationError as error:
        raise UserFault("dataset_invalid", str(error.errors()[0]["msg"])) from error
    return recipe_data.take(chosen, base, work / "data", stop)


def _network(
    files: _Files, finder: model_files.Finder, asked: Weights | None, pointer: str
) -> ModelFile | None:
    if asked is None:
        return None
    place = pointer.strip("/").replace("/", "-")
    return files.tried(f"{pointer}/weights", lambda: finder.file(asked, place))


def _read(kind: Any, value: object) -> Any:
    """``value`` as ``kind``; None where it is none: that is told with the faults of fields."""
    try:
        return None if value is None else TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return None


def _architecture(student: dict[str, Any]) -> Any:
    name = student.get("architecture")
    return name if _known(name) else None


def _known(name: object) -> bool:
    return _read(Weights, {"weights": "-", "architecture": name}) is not None


def _facts(file: ModelFile | None) -> ModelFacts | None:
    return None if file is None else model_files.facts(file)


def _id(kind: str, file: Any) -> str:
    return f"{kind}_" if file is None else f"{kind}_{file.sha256[:16]}"


def canonical(body: object) -> str:
    """A short name for a recipe: equal recipes, equal names."""
    text = json.dumps(spelled(body), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
