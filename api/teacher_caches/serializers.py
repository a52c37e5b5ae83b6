"""JSON of a teacher cache."""

from typing import Any

from store.tables import TeacherCache

_FIELDS = (
    *("id", "key", "dataset_id", "seed", "augmentation", "view", "num_samples", "size_bytes"),
    *("sha256", "job_id", "fill_s", "hits", "created_at", "used_at"),
)


def serialize_teacher_cache(row: TeacherCache) -> dict[str, Any]:
    """The body of a ``TeacherCacheOut``."""
    return {
        "object": "teacher_cache",
        **{name: getattr(row, name) for name in _FIELDS},
        "teacher": row.model_id,
        "saved_s": row.fill_s * row.hits,
        "links": {"self": f"/v1/teacher-caches/{row.id}"},
    }
