"""From a recipe to the engine's request: every file opened, every fault told, nothing trained."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from kdcore.protocol.requests import CheckpointFile, ModelFile, RunRequest, TeacherFile
from kdcore.recipes import model_files, recipe_data, recipe_errors
from kdcore.recipes.config import (
    Recipe,
    RecipeDataset,
    RecipeModel,
    normalize_keys,
)
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import UserError
from kdcore.schema.asset_info import ModelFacts
from kdcore.schema.defaults import job_warnings, resolve_job
from kdcore.schema.job import BUILT_IN_INITS, JobSpec
from kdcore.schema.validation.compatibility import JobAssets
from kdcore.schema.validation.errors import ValidationIssue
from kdcore.schema.validation.partial_spec import PartialSpec
from kdcore.schema.validation.rules import validate
from kdcore.training.job_digest import compute_job_digest

_T = TypeVar("_T")


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
    if recipe is None:
        raise recipe_errors.recipe_error(issues)
    files = _open_files(recipe, base, work, cancellation, fresh=fresh)
    assets = None
    if files.dataset is not None:
        assets = JobAssets(
            files.dataset.facts,
            tuple(_model_facts(teacher) for teacher in files.teachers),
            _model_facts(files.init),
            _model_facts(files.model),
        )
    continued = recipe.spec.from_ is not None
    issues += [
        recipe_errors.to_recipe_issue(issue, continued=continued)
        for issue in validate(recipe, assets)
    ]
    issues += files.issues
    if issues or files.dataset is None:
        raise recipe_errors.recipe_error(issues)
    return _build_run(recipe.spec, files, files.dataset)


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
    recipe: PartialSpec[Recipe],
    base: Path,
    work: Path,
    cancellation: CancellationToken,
    *,
    fresh: bool,
) -> _OpenedFiles:
    """Open every file that an intact field of the recipe names."""
    files, spec = _OpenedFiles(), recipe.spec
    if recipe.is_intact("/dataset"):
        files.dataset = files.try_open(
            "/dataset", lambda: _open_dataset(spec.dataset, base, work, cancellation)
        )
    facts = files.dataset.facts if files.dataset else None
    resolver = model_files.ModelResolver(base, facts, work / "networks", cancellation, fresh)
    for position, teacher in enumerate(spec.teachers):
        pointer = f"/teachers/{recipe.index('/teachers', position)}"
        files.teachers.append(_open_network(files, resolver, recipe, teacher, pointer))
    files.model = _open_network(files, resolver, recipe, spec.model, "/model")
    _open_initial_weights(files, resolver, recipe)
    return files


def _open_initial_weights(
    files: _OpenedFiles, resolver: model_files.ModelResolver, recipe: PartialSpec[Recipe]
) -> None:
    start, student = recipe.spec.from_, recipe.spec.student
    architecture = student.architecture if student else None
    init = student.init if student else "random"
    if start is not None and recipe.is_intact("/from/folder", "/from/checkpoint"):
        if start.checkpoint == "best":
            folder = resolver.base / Path(start.folder).expanduser()
            best_model = RecipeModel(weights=str(folder), architecture=architecture)
            files.init = files.try_open("/from", lambda: resolver.resolve(best_model, "from"))
        else:
            files.continue_from = files.try_open(
                "/from", lambda: resolver.copy_checkpoint(start.folder, start.checkpoint)
            )
    elif start is None and init not in BUILT_IN_INITS:
        init_model = RecipeModel(weights=init, architecture=architecture)
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
    recipe: PartialSpec[Recipe],
    model: RecipeModel | None,
    pointer: str,
) -> ModelFile | None:
    if model is None or not recipe.is_intact(f"{pointer}/weights"):
        return None
    name = pointer.strip("/").replace("/", "-")
    return files.try_open(f"{pointer}/weights", lambda: resolver.resolve(model, name))


def _model_facts(file: ModelFile | None) -> ModelFacts | None:
    return None if file is None else model_files.model_facts(file)


def _file_id(kind: str, file: Any) -> str:
    return f"{kind}_" if file is None else f"{kind}_{file.sha256[:16]}"


def recipe_digest(body: object) -> str:
    """A short name for a recipe: equal recipes, equal names."""
    text = json.dumps(normalize_keys(body), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
