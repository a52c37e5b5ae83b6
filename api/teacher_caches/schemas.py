"""Response bodies of teacher caches."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from api.http.pagination import Page


class TeacherCacheOut(BaseModel):
    """The stored outputs of a teacher for one view of a data set's training images."""

    object: Literal["teacher_cache"]
    id: str
    key: str = Field(description="Digest of everything that the outputs depend on")
    teacher: str = Field(description="Id of the model, which may be deleted by now")
    dataset_id: str
    seed: int
    augmentation: Any
    view: int = Field(description="Number of the view, from 1")
    num_samples: int
    size_bytes: int
    sha256: str
    job_id: str = Field(description="The job whose run computed the outputs")
    fill_s: float = Field(description="Seconds that the teacher took to compute the outputs")
    hits: int = Field(description="Number of runs of other jobs that used the cache")
    saved_s: float = Field(description="Teacher seconds that those runs saved: fill_s times hits")
    created_at: datetime
    used_at: datetime
    links: dict[str, str]


class TeacherCachePage(Page[TeacherCacheOut]):
    """Teacher caches, the newest first."""
