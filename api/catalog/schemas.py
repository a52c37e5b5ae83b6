"""Response bodies of the catalog."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from api.http.pagination import Page
from kdcore.schema.catalog import Architecture


class MethodOut(BaseModel):
    """A distillation method: what the student learns from the teacher."""

    name: str
    object: Literal["method"]
    doc: str = Field(description="When to choose the method, and its formula")
    group: str
    needs: list[str] = Field(description="Requirements on the networks and the data")
    default_label_weight: float
    paper: str | None
    when_to_use: str = Field(description="When to choose the method")
    formula: str = Field(description="The loss before its weight; s is the student, t the teacher")
    min_batch: int = Field(description="Smallest batch size in images")
    one_teacher: bool = Field(description="Whether the method allows only one teacher")
    min_maps: int = Field(description="Smallest number of pairs of feature maps")
    params: dict[str, Any] = Field(description="JSON Schema of the parameters")
    compatible: bool | None = Field(
        description="Whether the method supports the pair of the query; null without a pair"
    )
    reason: str | None = Field(description="Why the method does not support the pair")
    help: str | None = Field(description="What would make the pair compatible")


class SchemeOut(BaseModel):
    """A training scheme: how teachers and students are arranged."""

    name: str
    object: Literal["scheme"]
    doc: str
    paper: str | None
    teacher: Literal["required", "optional"] = Field(
        description="Whether methods that need a teacher require one in the job"
    )
    params: dict[str, Any] = Field(description="JSON Schema of the parameters")


class ArchitectureOut(Architecture):
    """A network that can be trained or uploaded, measured at its reference input size."""

    object: Literal["architecture"]


class MethodPage(Page[MethodOut]):
    """Methods, sorted by name."""


class SchemePage(Page[SchemeOut]):
    """Schemes, sorted by name."""


class ArchitecturePage(Page[ArchitectureOut]):
    """Architectures, CIFAR networks first, each family sorted by name."""
