"""TeacherCacheStats: hits, misses and saved time of the teacher cache in one run."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class TeacherCacheStats:
    """Counts every cache file once per run, however many phases read it."""

    misses: int = 0
    hits: int = 0
    fill_s: float = 0.0
    """Seconds spent on computing outputs in this run."""
    saved_s: float = 0.0
    """Seconds that an earlier run spent on the outputs that this run read."""
    size_bytes: int = 0
    _counted_keys: set[str] = field(default_factory=set)

    def record(self, key: str, size_bytes: int, fill_s: float, *, hit: bool) -> bool:
        """Count the file with ``key``; return False if it was counted before."""
        if key in self._counted_keys:
            return False
        self._counted_keys.add(key)
        self.size_bytes += size_bytes
        if hit:
            self.hits += 1
            self.saved_s += fill_s
        else:
            self.misses += 1
            self.fill_s += fill_s
        return True

    def report_details(self) -> dict[str, Any]:
        """The ``teacher_cache`` entry of the report's details; empty if no file was used."""
        if not self._counted_keys:
            return {}
        return {
            "teacher_cache": {
                "misses": self.misses,
                "hits": self.hits,
                "size_bytes": self.size_bytes,
                "fill_s": round(self.fill_s, 3),
                "saved_s": round(self.saved_s, 3),
            }
        }
