"""Names and sidecars of teacher cache files, which engine and worker exchange in one folder."""

from kdcore.schema.base import FrozenModel, Sha256


class TeacherCacheSidecar(FrozenModel):
    """Content of the JSON file beside a teacher cache file."""

    sha256: Sha256
    """Digest of the teacher cache file."""
    fill_s: float
    """Seconds that computing the outputs took."""


def teacher_cache_file_name(key: str) -> str:
    """Name of the file that holds the teacher outputs with this key.

    The sidecar has the same name with the suffix ``.json``.
    """
    return f"teacher-cache-{key}.safetensors"
