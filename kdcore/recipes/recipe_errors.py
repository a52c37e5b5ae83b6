"""A recipe's faults, all of them at once, and the recipe as a job may be looked at."""

from typing import Any

from pydantic import ValidationError

from kdcore.recipes.config import MACHINE_FIELDS, Recipe, RecipeModel
from kdcore.runtime.errors import UserError, error_detail
from kdcore.schema.validation.errors import ValidationIssue, field_issues
from kdcore.schema.validation.partial_spec import PartialSpec, parse_partially

_FILE_FIELDS = set(RecipeModel.model_fields)


def parse_recipe(body: object) -> tuple[PartialSpec[Recipe] | None, list[ValidationIssue]]:
    """The valid part of a recipe, and an issue for each invalid field; None where nothing is."""
    try:
        return PartialSpec(Recipe.model_validate(body)), []
    except ValidationError as error:
        issues = field_issues(error.errors(include_url=False), body, Recipe)
    return parse_partially(Recipe, body), issues


def as_job(body: object, ids: dict[str, str]) -> object:
    """The recipe as the body of a job: ``ids`` by pointer stand where it names files."""
    if not isinstance(body, dict):
        return body
    job: dict[str, Any] = {key: value for key, value in body.items() if key not in MACHINE_FIELDS}
    if isinstance(job.get("teachers"), list | tuple):
        job["teachers"] = [
            _job_teacher(teacher, ids.get(f"/teachers/{position}", "mdl_"))
            for position, teacher in enumerate(job["teachers"])
        ]
    student, start = job.get("student"), job.get("from")
    if isinstance(student, dict) and "/student/init" in ids:
        job["student"] = student | {"init": ids["/student/init"]}
    if job.get("model") is not None:
        job["model"] = ids.get("/model", "mdl_")
    if isinstance(start, dict):
        job["from"] = {key: value for key, value in start.items() if key != "folder"}
        job["from"]["job"] = ids.get("/from", "job_")
    if "dataset" in job:
        job["dataset"] = ids.get("/dataset", "ds_")
    return job


def _job_teacher(teacher: object, identity: str) -> object:
    if not isinstance(teacher, dict):
        return teacher
    return {k: v for k, v in teacher.items() if k not in _FILE_FIELDS} | {"model": identity}


def issue_from_user_error(error: UserError, pointer: str) -> ValidationIssue:
    """What was found when a file was opened, as a fault of the field that names it."""
    bad = [f"{entry.name} {entry.detail}" for entry in error.items[:5]]
    if len(error.items) > len(bad):
        bad.append(f"and {len(error.items) - len(bad)} more")
    sentence = "; ".join(filter(None, (error.message, *bad, error.hint)))
    return ValidationIssue(pointer=pointer, code=error.code, detail=sentence)


def recipe_error(issues: list[ValidationIssue]) -> UserError:
    """All faults as the one error that a run of the recipe ends with."""
    count = "1 fault" if len(issues) == 1 else f"{len(issues)} faults"
    return UserError(
        "job_invalid",
        f"the recipe has {count}; nothing was trained",
        items=[error_detail(issue.pointer or "/", _in_cli_terms(issue.detail)) for issue in issues],
    )


def to_recipe_issue(issue: ValidationIssue, *, continued: bool) -> ValidationIssue:
    """A misfit of a job as one of a recipe: a teacher has ``weights`` where a job's has a model."""
    pointer = issue.pointer
    if pointer.startswith("/teachers/") and pointer.endswith("/model"):
        pointer = pointer.removesuffix("model") + "weights"
    elif pointer == "/student/init" and continued:
        pointer = "/from"
    return issue.model_copy(update={"pointer": pointer})


def _in_cli_terms(detail: str) -> str:
    return detail.replace("GET /v1/architectures lists", "`python -m kdcore networks` lists")
