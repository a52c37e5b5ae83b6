"""A recipe's faults, all of them at once, and the recipe as a job may be looked at."""

from typing import Any

from pydantic import ValidationError

from kdcore.recipes.config import HERE, Recipe, Weights
from kdcore.runtime.errors import UserFault, item
from kdcore.schema.validation.cross_field import contradictions
from kdcore.schema.validation.errors import Fault, field_faults
from kdcore.schema.validation.partial_job import References

_FILE_FIELDS = set(Weights.model_fields)


def parsed(body: object) -> tuple[Recipe | None, list[Fault]]:
    """The recipe, or every fault of its fields and between them."""
    try:
        return Recipe.model_validate(body), list(contradictions(asked(body)))
    except ValidationError as error:
        faults = field_faults(error.errors(include_url=False), body, Recipe)
    told = {fault.pointer for fault in faults}
    return None, faults + [each for each in contradictions(asked(body)) if each.pointer not in told]


def asked(body: object) -> References:
    """What a recipe asks for, in a job's words; the recipe may be wrong in any way."""
    return References.of(as_job(body, {}))


def as_job(body: object, ids: dict[str, str]) -> object:
    """The recipe as the body of a job: ``ids`` by pointer stand where it names files."""
    if not isinstance(body, dict):
        return body
    job: dict[str, Any] = {key: value for key, value in body.items() if key not in HERE}
    if isinstance(job.get("teachers"), list | tuple):
        job["teachers"] = [
            _teacher(teacher, ids.get(f"/teachers/{position}", "mdl_"))
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


def _teacher(teacher: object, identity: str) -> object:
    if not isinstance(teacher, dict):
        return teacher
    return {k: v for k, v in teacher.items() if k not in _FILE_FIELDS} | {"model": identity}


def of_user(fault: UserFault, pointer: str) -> Fault:
    """What was found when a file was opened, as a fault of the field that names it."""
    bad = [f"{each.name} {each.detail}" for each in fault.items[:5]]
    if len(fault.items) > len(bad):
        bad.append(f"and {len(fault.items) - len(bad)} more")
    sentence = "; ".join(filter(None, (fault.message, *bad, fault.hint)))
    return Fault(pointer=pointer, code=fault.code, detail=sentence)


def refusal(faults: list[Fault]) -> UserFault:
    """All faults as the one error that a run of the recipe ends with."""
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return UserFault(
        "recipe_invalid",
        f"the recipe has {count}; nothing was trained",
        items=[item(fault.pointer or "/", _here(fault.detail)) for fault in faults],
    )


def in_own_words(fault: Fault, *, continued: bool) -> Fault:
    """A misfit of a job as one of a recipe: a teacher has ``weights`` where a job's has a model."""
    pointer = fault.pointer
    if pointer.startswith("/teachers/") and pointer.endswith("/model"):
        pointer = pointer.removesuffix("model") + "weights"
    elif pointer == "/student/init" and continued:
        pointer = "/from"
    return fault.model_copy(update={"pointer": pointer})


def _here(detail: str) -> str:
    return detail.replace("GET /v1/architectures lists", "`python -m kdcore networks` lists")
