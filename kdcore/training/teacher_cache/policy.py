"""Whether teachers are asked once for each view, and before which batch."""

from collections.abc import Iterable

from kdcore.data.loader import Loader
from kdcore.models.teachers import TeacherEnsemble
from kdcore.runtime.errors import UserError
from kdcore.training.context import JobContext
from kdcore.training.run_state import RunState
from kdcore.training.teacher_cache.codec import OutputCodec
from kdcore.training.teacher_cache.provider import (
    CachedTeacherOutputs,
    LiveTeacherOutputs,
    TeacherCacheConfig,
    TeacherOutputs,
)

MAX_CLASSES = 1000
"""Of more, a whole row of logits for each image and view would be too much to keep."""


def build_teacher_cache(
    run_state: RunState,
    context: JobContext,
    teachers: TeacherEnsemble,
    live: TeacherOutputs,
    loader: Loader,
) -> CachedTeacherOutputs | None:
    """What keeps the answers of ``live``; None where they are asked at every step.

    They are kept where views come again, no feature maps are wanted, and every teacher is known by
    the digest of its file.
    """
    training = context.job.training
    if (
        context.cache_config is None
        or training.views == "fresh"
        or not isinstance(live, LiveTeacherOutputs)
    ):
        return None
    num_classes = len(context.dataset.info.classes)
    cache_logits = training.teacher_cache_logits
    top_k = cache_logits if cache_logits != "all" and cache_logits < num_classes else None
    if not live.teachers or (num_classes > MAX_CLASSES and top_k is None):
        return None
    identities = [member.identity for member in teachers.members if member.identity is not None]
    if len(identities) < len(live.teachers) or any(teacher.needs.maps for teacher in live.teachers):
        return None
    key_parts = {
        "seed": loader.view_seed,
        "augmentation": training.model_dump(mode="json")["augmentation"],
        "samples": loader.num_samples,
        # On an accelerator other kernels, and so other last digits.
        "determinism": training.determinism,
        # Without the precision: that is the student's.
        "machine": {
            name: value
            for name, value in run_state.compute_env.as_dict().items()
            if name != "precision"
        },
    }
    codec = OutputCodec(
        num_classes, top_k, pooled=any(teacher.needs.pooled for teacher in live.teachers)
    )
    config = TeacherCacheConfig(
        context.cache_config.folder, context.cache_config.key_parts | key_parts, codec
    )
    return CachedTeacherOutputs(live, identities, loader, config, run_state.teacher_cache_stats)


def fill_teacher_cache(
    cache: CachedTeacherOutputs | None, views: Iterable[int], run_state: RunState
) -> None:
    """Have the teachers' answers about all ``views`` kept; nothing learns.

    Raises ``Stopped``, and ``UserFault`` where the job's answers are not of the kind that is kept.
    """
    if cache is None:
        raise UserError(
            "job_invalid",
            "no answers of this job can be kept: that takes a number of views, methods that look "
            "at no feature maps, teachers with files, and at most "
            f"{MAX_CLASSES} classes, unless training.teacher_cache_logits is a number",
            hint="Set training.views, and choose a method like kd.",
        )
    for view in sorted(set(views)):
        run_state.check_cancelled()
        cache.prepare_view(view, run_state.check_cancelled, run_state.events)
    cache.close()
