"""Teachers' kept answers as answers carry them."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from api.http.pagination import Page


class TeacherCacheOut(BaseModel):
    """A teacher's answers about one view of a data set's training images."""

    object: Literal["teacher_cache"]
    id: str
    key: str = Field(description="Digest of all that decides the answers")
    teacher: str = Field(description="The model, which may be deleted since")
    dataset_id: str
    seed: int
    augmentation: Any
    view: int = Field(description="Which of the views that come again, from 1")
    num_samples: int
    size_bytes: int
    sha256: str
    job_id: str = Field(description="Whose run asked the teacher")
    fill_s: float = Field(description="Seconds that asking took")
    hits: int = Field(description="Runs of other jobs that asked nothing because of it")
    saved_s: float = Field(description="Seconds of asking that they were spared")
    created_at: datetime
    used_at: datetime
    links: dict[str, str]


class TeacherCachePage(Page):
    """Kept answers, the newest first."""

    data: list[TeacherCacheOut]
