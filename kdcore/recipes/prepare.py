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
from kdcore.recipes.config import (
    Recipe,
    RecipeDataset,
    RecipeFrom,
    RecipeModel,
    RecipeTeacher,
    normalize_keys,
)
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import UserError
from kdcore.schema.defaults import job_warnings, resolve_job
from kdcore.schema.job import JobSpec
from kdcore.schema.validation.compatibility import compatibility_issues
from kdcore.schema.validation.errors import ValidationIssue
from kdcore.schema.validation.partial_job import ModelFacts
from kdcore.training.job_digest import compute_job_digest

_T = TypeVar("_T")
_BUILT_IN_INITS = ("random", "pretrained")


class PreparedRun(NamedTuple):
    """A recipe that can be run."""

    request: RunRequest
    warnings: list[str]
    """What is allowed and yet probably not meant."""

    def key(self) -> dict[str, Any]:
        """What the run is asked: equal keys, equal results."""
        job = self.request.job.model_dump(mode="json")
        for name in ("labels", "limits", "priority"):
            del job[name]
        return {"digest": compute_job_digest(self.request), "job": job}


@dataclass
class _OpenedFiles:
    """What a recipe refers to, as far as it could be opened."""

    dataset: recipe_data.PreparedDataset | None = None
    teachers: list[ModelFile | None] = field(default_factory=list)
    init: ModelFile | None = None
    model: ModelFile | None = None
    continue_from: CheckpointFile | None = None
    issues: list[ValidationIssue] = field(default_factory=list)

    def try_open(self, pointer: str, open_file: Callable[[], _T]) -> _T | None:
        """What ``opening`` gives; None and a fault where it is refused."""
        try:
            return open_file()
        except UserError as error:
            self.issues.append(recipe_errors.issue_from_user_error(error, pointer))
            return None

    def ids(self) -> dict[str, str]:
        """A name for each file in a job's words, by pointer: a function of the bytes alone."""
        names = {f"/teachers/{n}": _file_id("mdl", file) for n, file in enumerate(self.teachers)}
        names["/dataset"] = _file_id("ds", self.dataset.file if self.dataset else None)
        names["/model"] = _file_id("mdl", self.model)
        names["/from"] = _file_id("job", self.continue_from or self.init)
        if self.init is not None:
            names["/student/init"] = _file_id("mdl", self.init)
        return names


def prepare(
    body: object, base: Path, work: Path, cancellation: CancellationToken, *, fresh: bool = False
) -> PreparedRun:
    """Open all that the recipe ``body`` names, relative to ``base``, and resolve the job.

    ``work`` is room for what is made of it; ``fresh`` takes nothing that an earlier run left there
    of a run that may have gone on since. Raises ``UserFault`` with every fault of the recipe and
    of its files, and ``Stopped``.
    """
    body = normalize_keys(body)
    recipe, issues = recipe_errors.parse_recipe(body)
    files = _open_files(body, base, work, cancellation, fresh=fresh)
    pointers = {fault.pointer for fault in issues}
    issues += [fault for fault in files.issues if fault.pointer not in pointers]
    if files.dataset is not None:
        teacher_facts = [_model_facts(teacher) for teacher in files.teachers]
        facts = (_model_facts(files.init), _model_facts(files.model))
        partial_job = recipe_errors.partial_job(body)
        continued = partial_job.from_job is not None
        for issue in compatibility_issues(partial_job, files.dataset.facts, teacher_facts, *facts):
            issues.append(recipe_errors.to_recipe_issue(issue, continued=continued))
    if issues or recipe is None or files.dataset is None:
        raise recipe_errors.recipe_error(issues)
    return _build_run(recipe, files, files.dataset)


def _build_run(
    recipe: Recipe, files: _OpenedFiles, dataset: recipe_data.PreparedDataset
) -> PreparedRun:
    body = recipe.model_dump(mode="json", exclude_unset=True)
    ids = files.ids()
    if recipe.from_ is not None:
        ids.pop("/student/init", None)
    spec = JobSpec.model_validate(recipe_errors.as_job(body, ids))
    teachers = [file for file in files.teachers if file is not None]
    teacher_facts = tuple(model_files.model_facts(file) for file in teachers)
    request = RunRequest(
        job=resolve_job(spec, dataset.facts, teacher_facts, _model_facts(files.model)),
        dataset=dataset.file,
        teachers=tuple(
            TeacherFile(
                **file.model_dump(),
                weight=teacher.weight,
                class_map=teacher.class_map,
                channels=teacher.channels,
                taps=teacher.taps,
            )
            for file, teacher in zip(teachers, recipe.teachers, strict=True)
        ),
        init=files.init or files.model,
        continue_from=files.continue_from,
        device=recipe.device,
        threads=recipe.threads,
    )
    return PreparedRun(request, job_warnings(spec, dataset.facts))


def _open_files(
    body: object, base: Path, work: Path, cancellation: CancellationToken, *, fresh: bool
) -> _OpenedFiles:
    """Everything that can be opened, also where the recipe is wrong in another place."""
    files = _OpenedFiles()
    fields = body if isinstance(body, dict) else {}
    dataset = _parse_or_none(str | RecipeDataset, fields.get("dataset"))
    if dataset is not None:
        files.dataset = files.try_open(
            "/dataset", lambda: _open_dataset(dataset, base, work, cancellation)
        )
    facts = files.dataset.facts if files.dataset else None
    resolver = model_files.ModelResolver(base, facts, work / "networks", cancellation, fresh)
    listed = fields.get("teachers")
    for index, entry in enumerate(listed if isinstance(listed, list | tuple) else ()):
        teacher = _parse_or_none(RecipeTeacher, entry)
        files.teachers.append(_open_network(files, resolver, teacher, f"/teachers/{index}"))
    files.model = _open_network(
        files, resolver, _parse_or_none(RecipeModel, fields.get("model")), "/model"
    )
    _open_initial_weights(files, resolver, fields)
    return files


def _open_initial_weights(
    files: _OpenedFiles, resolver: model_files.ModelResolver, fields: dict[str, Any]
) -> None:
    student = fields.get("student")
    student = student if isinstance(student, dict) else {}
    start = _parse_or_none(RecipeFrom, fields.get("from"))
    init = student.get("init", "random")
    if start is not None:
        if start.checkpoint == "best":
            folder = resolver.base / Path(start.folder).expanduser()
            best_model = RecipeModel(weights=str(folder), architecture=_architecture(student))
            files.init = files.try_open("/from", lambda: resolver.resolve(best_model, "from"))
        else:
            files.continue_from = files.try_open(
                "/from", lambda: resolver.copy_checkpoint(start.folder, start.checkpoint)
            )
    elif isinstance(init, str) and init and init not in _BUILT_IN_INITS:
        init_model = RecipeModel(weights=init, architecture=_architecture(student))
        files.init = files.try_open("/student/init", lambda: resolver.resolve(init_model, "init"))


def _open_dataset(
    dataset: str | RecipeDataset, base: Path, work: Path, cancellation: CancellationToken
) -> recipe_data.PreparedDataset:
    try:
        config = recipe_data.dataset_config(dataset)
    except ValidationError as error:
        raise UserError("dataset_invalid", str(error.errors()[0]["msg"])) from error
    return recipe_data.prepare_dataset(config, base, work / "data", cancellation)


def _open_network(
    files: _OpenedFiles,
    resolver: model_files.ModelResolver,
    model: RecipeModel | None,
    pointer: str,
) -> ModelFile | None:
    if model is None:
        return None
    name = pointer.strip("/").replace("/", "-")
    return files.try_open(f"{pointer}/weights", lambda: resolver.resolve(model, name))


def _parse_or_none(kind: Any, value: object) -> Any:
    """``value`` as ``kind``; None where it is none: that is told with the faults of fields."""
    try:
        return None if value is None else TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return None


def _architecture(student: dict[str, Any]) -> Any:
    name = student.get("architecture")
    return name if _is_architecture(name) else None


def _is_architecture(name: object) -> bool:
    return _parse_or_none(RecipeModel, {"weights": "-", "architecture": name}) is not None


def _model_facts(file: ModelFile | None) -> ModelFacts | None:
    return None if file is None else model_files.model_facts(file)


def _file_id(kind: str, file: Any) -> str:
    return f"{kind}_" if file is None else f"{kind}_{file.sha256[:16]}"


def recipe_digest(body: object) -> str:
    """A short name for a recipe: equal recipes, equal names."""
    text = json.dumps(normalize_keys(body), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
