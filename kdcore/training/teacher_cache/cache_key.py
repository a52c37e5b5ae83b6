"""TeacherCacheSpec: which outputs a teacher cache holds, and the keys of its files."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from kdcore.data.augment.views import VIEW_FORMAT
from kdcore.data.loader import Loader
from kdcore.training.compute.device import ComputeEnv
from kdcore.training.context import JobContext
from kdcore.training.teacher_cache.codec import OutputCodec

_FORMAT_VERSION = 3
BATCH_SIZE = 256
"""Images of one forward pass that fills the cache. It decides the last digits of the outputs."""


class TeacherCacheSpec(NamedTuple):
    """Everything that decides the bytes of the cache files of a phase."""

    folder: Path
    identities: tuple[str, ...]
    """Digest of each teacher and its preprocessing."""
    codec: OutputCodec
    key_parts: dict[str, Any]
    """What decides the outputs beside teacher, view and codec; see :func:`key_parts`."""

    def key(self, teacher_index: int, view: int, *, fused: bool) -> str:
        """Key of the file with the outputs of one teacher for one view of all samples.

        ``fused`` says whether the teacher runs in bfloat16 with folded batch normalizations.
        """
        parts = self.key_parts | {
            "format": _FORMAT_VERSION,
            "view_format": VIEW_FORMAT,
            "batch": BATCH_SIZE,
            "teacher": self.identities[teacher_index],
            "view": view,
            "folded": fused,
            "form": self.codec._asdict(),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def key_parts(context: JobContext, loader: Loader, compute_env: ComputeEnv) -> dict[str, Any]:
    """The parts of a key that a phase's loader, data set and machine decide.

    Caches of earlier jobs are found by these names, so the names must not change.
    """
    environment = compute_env.as_dict()
    del environment["precision"]  # the student's; teachers run without autocast
    training = context.job.training
    return {
        "dataset": context.dataset_sha256,
        "seed": loader.view_seed,
        "augmentation": training.model_dump(mode="json")["augmentation"],
        "samples": loader.num_samples,
        # Other kernels on an accelerator give other last digits.
        "determinism": training.determinism,
        "machine": environment,
    }
