"""Prepares a recipe: opens its files, reports all issues, builds the engine's request."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from kdcore.protocol.events import ErrorDetail
from kdcore.protocol.requests import CheckpointFile, ModelFile, RunRequest, TeacherFile
from kdcore.recipes import model_files, recipe_data
from kdcore.recipes.config import (
    Recipe,
    RecipeDataset,
    RecipeModel,
    dataset_config,
    normalize_keys,
)
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import UserError, to_printable
from kdcore.schema.asset_info import ModelFacts
from kdcore.schema.defaults import job_warnings, resolve_job
from kdcore.schema.job import BUILT_IN_INITS
from kdcore.schema.validation.compatibility import JobAssets
from kdcore.schema.validation.errors import ValidationIssue, field_issues
from kdcore.schema.validation.partial_spec import PartialSpec, parse_partially
from kdcore.schema.validation.rules import validate
from kdcore.training.job_digest import compute_job_digest

_T = TypeVar("_T")
_MAX_DETAILS = 5
"""Items of a file's error that its issue names; further items are counted."""


class PreparedRun(NamedTuple):
    """A valid recipe as a request of the engine."""

    request: RunRequest
    warnings: list[str]
    """Settings that are valid and probably a mistake, as sentences."""
    measured: str | None = None
    """What an evaluation measures."""

    def key(self) -> dict[str, Any]:
        """Return the digest, which decides the results, and the settings of the job.

        The digest covers the bytes of data and weights and not their paths. Of the paths, the
        settings have ``student.init`` as the recipe has it.
        """
        excluded = {"labels", "limits", "priority", "dataset", "teachers", "model", "from_"}
        job = self.request.job.model_dump(mode="json", exclude=excluded)
        return {"digest": compute_job_digest(self.request), "job": job}


@dataclass
class _OpenedFiles:
    """The files of a recipe, None for those that could not be opened."""

    dataset: recipe_data.PreparedDataset | None = None
    teachers: list[ModelFile | None] = field(default_factory=list)
    init: ModelFile | None = None
    model: ModelFile | None = None
    continue_from: CheckpointFile | None = None
    issues: list[ValidationIssue] = field(default_factory=list)

    def try_open(self, pointer: str, open_file: Callable[[], _T]) -> _T | None:
        """Call ``open_file``; turn a ``UserError`` into an issue at ``pointer`` and return None."""
        try:
            return open_file()
        except UserError as error:
            self.issues.append(_file_issue(error, pointer))
            return None


def prepare(
    body: object, base: Path, work: Path, cancellation: CancellationToken, *, fresh: bool = False
) -> PreparedRun:
    """Open the files of the recipe ``body`` and resolve its job.

    Args:
        body: the parsed JSON; it may be invalid in any way.
        base: the folder that relative paths start from.
        work: the folder for ingested data, converted weights and copied checkpoints.
        cancellation: checked while files are opened.
        fresh: copy the checkpoint of another run again, instead of reusing the copy in ``work``.

    Raises:
        UserError: the recipe or its files are invalid; ``items`` has every issue with its pointer.
        RunCancelledError: ``cancellation`` was requested.
    """
    recipe, issues = _parse_recipe(normalize_keys(body))
    if recipe is None:
        raise _recipe_error(issues)
    files = _open_files(recipe, base, work, cancellation, fresh=fresh)
    assets = None
    if files.dataset is not None:
        assets = JobAssets(
            files.dataset.facts,
            tuple(_model_facts(teacher) for teacher in files.teachers),
            _model_facts(files.init),
            _model_facts(files.model),
        )
    issues += [*validate(recipe, assets), *files.issues]
    if issues or files.dataset is None:
        raise _recipe_error(issues)
    return _build_run(recipe.spec, files, files.dataset)


def _parse_recipe(body: object) -> tuple[PartialSpec[Recipe] | None, list[ValidationIssue]]:
    """Return the valid part of a recipe, None without any, and an issue for each invalid field."""
    context = {"architecture_listing": "`python -m kdcore networks`"}
    try:
        return PartialSpec(Recipe.model_validate(body, context=context)), []
    except ValidationError as error:
        issues = field_issues(error.errors(include_url=False), body, Recipe)
    return parse_partially(Recipe, body), issues


def _recipe_error(issues: list[ValidationIssue]) -> UserError:
    count = "1 issue" if len(issues) == 1 else f"{len(issues)} issues"
    return UserError(
        "job_invalid",
        f"the recipe has {count}; nothing was trained",
        # Details of files name several parts, and their hints come last: nothing is cut.
        items=[
            ErrorDetail(name=to_printable(issue.pointer or "/"), detail=to_printable(issue.detail))
            for issue in issues
        ],
    )


def _file_issue(error: UserError, pointer: str) -> ValidationIssue:
    """Return the error of a file as an issue of the field that names the file."""
    details = [f"{item.name} {item.detail}" for item in error.items[:_MAX_DETAILS]]
    if len(error.items) > len(details):
        details.append(f"and {len(error.items) - len(details)} more")
    sentence = "; ".join(filter(None, (error.message, *details, error.hint)))
    return ValidationIssue(pointer=pointer, code=error.code, detail=sentence)


def _build_run(
    recipe: Recipe, files: _OpenedFiles, dataset: recipe_data.PreparedDataset
) -> PreparedRun:
    teachers = [file for file in files.teachers if file is not None]
    teacher_facts = tuple(model_files.model_facts(file) for file in teachers)
    start = _model_facts(files.model or files.init)
    job = resolve_job(recipe, dataset.facts, teacher_facts, _model_facts(files.model), start)
    request = RunRequest(
        job=job,
        dataset=dataset.file,
        teachers=tuple(
            TeacherFile(
                **file.model_dump(),
                weight=teacher.weight,
                class_map=teacher.class_map,
                channels=teacher.channels,
                taps=teacher.taps,
            )
            for file, teacher in zip(teachers, job.teachers, strict=True)
        ),
        init=files.init or files.model,
        init_is_path=recipe.from_ is None,
        continue_from=files.continue_from,
        device=recipe.device,
        threads=recipe.threads,
    )
    # The engine itself warns of models whose classes or input size may be wrong.
    warnings = list(job_warnings(recipe, dataset.facts))
    return PreparedRun(request, warnings, None if job.trains else dataset.test_source)


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
            "/dataset",
            lambda: _open_dataset(
                spec.dataset, base, work, cancellation, for_evaluation=spec.kind == "evaluate"
            ),
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
    dataset: str | RecipeDataset,
    base: Path,
    work: Path,
    cancellation: CancellationToken,
    *,
    for_evaluation: bool,
) -> recipe_data.PreparedDataset:
    try:
        config = dataset_config(dataset)
    except ValidationError as error:
        raise UserError("dataset_invalid", str(error.errors()[0]["msg"])) from error
    return recipe_data.prepare_dataset(
        config, base, work / "data", cancellation, for_evaluation=for_evaluation
    )


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
    file = files.try_open(f"{pointer}/weights", lambda: resolver.resolve(model, name))
    names = model.class_names
    if file is not None and names is not None and len(names) != file.num_classes:
        files.issues.append(
            ValidationIssue(
                pointer=f"{pointer}/class_names",
                code="classes_mismatch",
                detail=f"class_names has {len(names)} names, and the network {file.num_classes} "
                "classes: name each class, in the order of the logits",
            )
        )
    return file


def _model_facts(file: ModelFile | None) -> ModelFacts | None:
    return None if file is None else model_files.model_facts(file)


def recipe_digest(body: object) -> str:
    """Return 8 hex digits of the recipe's SHA-256."""
    text = json.dumps(normalize_keys(body), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
