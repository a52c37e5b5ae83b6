"""Response bodies of the comparison and the frontier."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from api.http.pagination import Page

Better = Literal["high", "low"]
XMetric = Literal["latency_ms", "size_bytes", "macs"]
YMetric = Literal["top1", "agreement"]


class ComparedJob(BaseModel):
    """One of the compared jobs."""

    id: str
    name: str
    state: str
    kind: str
    student: str
    teacher: list[str] = Field(description="Architectures of the teachers")
    methods: list[str]
    created_at: str
    device: str | None = Field(
        description="Device on which latency was measured; null without a report"
    )


class SettingDifference(BaseModel):
    """A setting in which the jobs differ."""

    path: str
    values: list[Any] = Field(description="In the order of the jobs; null where a job has none")


class ComparedMetric(BaseModel):
    """One metric of every job."""

    key: str
    unit: str
    better: Better | None
    values: list[float | None]
    deltas: list[float | None] = Field(description="Differences to the first job")
    best: list[int] = Field(description="Indices of the jobs with the best value")


class Comparison(BaseModel):
    """Jobs side by side, in the order of the request."""

    object: Literal["comparison"]
    jobs: list[ComparedJob]
    differences: list[SettingDifference]
    metrics: list[ComparedMetric]
    curves: dict[str, list[dict[str, list[float | None]] | None]] = Field(
        description="By key, one curve for each job; null where a job has none"
    )


class FrontierPoint(BaseModel):
    """A network that was measured on the data set's test images."""

    job: str = Field(
        description="The job that trained the student; for a teacher, the first job that used it"
    )
    name: str
    role: Literal["student", "teacher"]
    model: str | None = Field(description="Id of a teacher; null for a student")
    architecture: str
    methods: list[str]
    x: float
    y: float
    on_frontier: bool = Field(
        description="Whether no other student is at least as good in both metrics"
    )
    device: str | None = Field(
        description="Device on which latency was measured; compare latencies of one device only"
    )
    created_at: str
    top1: float | None
    agreement: float | None
    latency_ms: float | None
    unsteady: bool = Field(description="Whether other load disturbed the measurement of latency")
    size_bytes: int | None = Field(description="Null if it is not known")
    macs: int | None = Field(description="Null if it is not known")
    num_params: int | None = Field(description="Null if it is not known")


class AxisTrust(BaseModel):
    """Whether the order of networks along an axis can be trusted."""

    trusted: bool
    note: str | None = Field(description="Why not, and what to do; null if it can be trusted")


class FrontierAxes(BaseModel):
    """Both axes of a frontier."""

    x: AxisTrust
    y: AxisTrust


class Frontier(Page[FrontierPoint]):
    """Students and their teachers, sorted by x."""

    object: Literal["frontier"]
    dataset: str
    x: XMetric
    y: YMetric
    axes: FrontierAxes
    total: int = Field(
        description="Number of networks before `limit`, which drops dominated students first"
    )
