"""The frontier: of all that was taught on a data set, what nothing else beats."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, Field
from sqlalchemy import Double, cast, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.http import scoping
from api.http.auth import Reader
from api.http.pagination import Page
from api.http.responses import reply
from api.http.router import router
from kdcore.schema.job import ResolvedStudent
from store.database import reading
from store.tables import Dataset, Job, Model

frontier = router("/frontier", "insight")

X = Literal["latency_ms", "size_bytes", "macs"]
Y = Literal["top1", "agreement"]
_MOST = 10_000
"""Jobs that are looked at, the newest first."""


class Point(BaseModel):
    """A network that was measured on the data set's test images."""

    job: str = Field(description="The job that taught it; a teacher's: the first that it taught")
    name: str
    role: Literal["student", "teacher"]
    model: str | None = Field(description="A teacher's id")
    architecture: str
    methods: list[str]
    x: float
    y: float
    on_frontier: bool = Field(description="Whether no other student is as small and as good")
    device: str = Field(description="Where latency was measured: others are not comparable")
    created_at: str
    top1: float
    agreement: float | None
    latency_ms: float
    size_bytes: int
    macs: int
    num_params: int


class Frontier(Page):
    """Students and their teachers, by x."""

    object: Literal["frontier"]
    dataset: str
    x: X
    y: Y
    data: list[Point]
    total: int = Field(description="Networks that there are; `limit` may leave out dominated ones")


@frontier.get("", response_model=Frontier)
def get_frontier(
    caller: Reader,
    dataset: Annotated[str, Query(max_length=64)],
    x: X = "latency_ms",
    y: Y = "top1",
    limit: Annotated[int, Query(ge=1, le=2000)] = 500,
) -> Response:
    """Accuracy or agreement against latency, size or multiply-accumulates, on the test split.

    Among students alone is decided who is on the frontier; with latency, on each device by itself.
    """
    with reading() as session:
        row = scoping.get(session, Dataset, dataset, caller)
        points = _points(session, row.id, x, y)
    students = [each for each in points if each["role"] == "student"]
    for device in {each["device"] for each in students} if x == "latency_ms" else {None}:
        _mark([each for each in students if device in (None, each["device"])])
    # The newest dominated ones fill what the frontier and the teachers leave.
    kept = sorted(points, key=_dominated)[:limit]
    return reply(
        {
            "object": "frontier",
            "dataset": row.id,
            "x": x,
            "y": y,
            "data": sorted(kept, key=lambda each: (each["x"], -each["y"])),
            "total": len(points),
            "next_cursor": None,
        }
    )


def _dominated(point: dict[str, Any]) -> bool:
    return point["role"] == "student" and not point["on_frontier"]


def _mark(students: Sequence[dict[str, Any]]) -> None:
    """Whoever is better than all that are smaller is on the frontier; of equals the first."""
    best = float("-inf")
    for point in sorted(students, key=lambda each: (each["x"], -each["y"])):
        point["on_frontier"] = point["y"] > best
        best = max(best, point["y"])


_NUMBERS = ("top1", "agreement", "size_bytes", "macs", "num_params")


def _measured(role: str) -> list[Any]:
    """A network's numbers by themselves: a whole report has matrices that nobody wants here."""
    own = [cast(Job.result[(role, name)].astext, Double) for name in _NUMBERS]
    return [*own, cast(Job.result[(role, "latency_ms", "p50")].astext, Double)]


def _points(session: Session, dataset_id: str, x: X, y: Y) -> list[dict[str, Any]]:
    told = (
        *(Job.id, Job.name, Job.kind, Job.methods, Job.created_at),
        *(Job.resolved["student"], Job.resolved["teachers"], Job.result["device"].astext),
    )
    query = (
        select(*told, *_measured("student"), *_measured("teacher"))
        .where(Job.dataset_id == dataset_id, Job.lane == scoping.LANE, Job.state == "succeeded")
        .order_by(Job.created_at.desc(), Job.id.desc())
        .limit(_MOST)
    )
    count = len(_NUMBERS) + 1
    points: list[dict[str, Any]] = []
    first: dict[str, dict[str, Any]] = {}
    found: Iterable[Sequence[Any]] = session.execute(query)
    for row in found:
        facts, numbers = row[: len(told)], row[len(told) :]
        if facts[2] == "distill":
            points += _point(facts, "student", numbers[:count], x, y)
        taught: list[Any] = facts[6] or []
        if len(taught) == 1:
            # The newest come first: what stays is the first job that it taught.
            for point in _point(facts, "teacher", numbers[count:], x, y):
                first[taught[0]["model"]] = point
    return [*points, *_teachers(session, first)]


def _teachers(session: Session, first: dict[str, dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Each single teacher once, as the first job that it taught measured it."""
    for model in session.scalars(select(Model).where(Model.id.in_(first))):
        named = {"name": model.name, "model": model.id, "architecture": model.architecture}
        yield first[model.id] | named | {"methods": []}


def _point(
    facts: Sequence[Any], role: str, values: Sequence[float | None], x: X, y: Y
) -> list[dict[str, Any]]:
    """The network as a point; none where it lacks one of the two numbers."""
    numbers = dict(zip((*_NUMBERS, "latency_ms"), values, strict=True))
    if numbers[x] is None or numbers[y] is None:
        return []
    job, name, _, methods, created_at, student, _, device = facts
    point = {
        "job": job,
        "name": name,
        "role": role,
        "model": None,
        "architecture": ResolvedStudent.model_validate(student).network,
        "methods": methods,
        "x": numbers[x],
        "y": numbers[y],
        "on_frontier": False,
        "device": device,
        "created_at": created_at,
    }
    whole = ("size_bytes", "macs", "num_params")
    return [point | numbers | {name: int(numbers[name] or 0) for name in whole}]
