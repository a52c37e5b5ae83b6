"""Decide whether the teacher outputs of a phase can be cached, and fill the cache."""

from collections.abc import Iterable

from kdcore.data.loader import Loader
from kdcore.models.teachers import TeacherEnsemble
from kdcore.runtime.errors import UserError
from kdcore.schemes.base import Phase
from kdcore.training.context import JobContext
from kdcore.training.run_state import RunState
from kdcore.training.teacher_cache.cache_key import TeacherCacheSpec, key_parts
from kdcore.training.teacher_cache.codec import OutputCodec
from kdcore.training.teacher_cache.provider import CachedTeacherOutputs, LiveTeacherOutputs

MAX_CLASSES = 1000
"""Largest number of logits per image and view; above it the cache files would be too large."""


def why_not(context: JobContext, phase: Phase, teachers: TeacherEnsemble) -> str | None:
    """The reason why the outputs of a phase's teachers cannot be cached; None if they can."""
    if context.cache_folder is None:
        return "the run has no folder for the teacher cache"
    if context.job.training.views == "fresh":
        return "training.views is fresh, so no view occurs twice; set it to a number"
    if not teachers.members:
        return "no method of this phase uses a teacher"
    if "maps" in phase.needs:
        return "a method needs feature maps, but only logits and pooled features can be stored"
    if any(member.identity is None for member in teachers.members):
        return "a teacher was trained in this run, so no later run could use its outputs"
    num_classes = len(context.dataset.info.classes)
    if num_classes > MAX_CLASSES and _top_k(context) is None:
        return (
            f"{num_classes} logits per image are too many to store (at most {MAX_CLASSES}); "
            "set training.teacher_cache_logits to a number"
        )
    return None


def build_teacher_cache(
    run_state: RunState,
    context: JobContext,
    phase: Phase,
    teachers: TeacherEnsemble,
    live: LiveTeacherOutputs,
    loader: Loader,
) -> CachedTeacherOutputs | None:
    """The cache in front of ``live``, or None if the outputs cannot be cached.

    The reason is logged if the job sets a number of views, since it then expects a cache.
    """
    reason = why_not(context, phase, teachers)
    if reason is not None or context.cache_folder is None:
        if context.job.training.views != "fresh" and teachers.members:
            run_state.events.log(
                "info", f"teacher outputs for the {phase.title} are not cached: {reason}"
            )
        return None
    codec = OutputCodec(
        len(context.dataset.info.classes), _top_k(context), pooled="pooled" in phase.needs
    )
    identities = tuple(member.identity or "" for member in teachers.members)
    parts = key_parts(context, loader, run_state.compute_env)
    spec = TeacherCacheSpec(context.cache_folder, identities, codec, parts)
    return CachedTeacherOutputs(live, loader, spec, run_state.teacher_cache_stats)


def _top_k(context: JobContext) -> int | None:
    """How many of the largest logits to store; None stores all."""
    cache_logits = context.job.training.teacher_cache_logits
    num_classes = len(context.dataset.info.classes)
    return cache_logits if cache_logits != "all" and cache_logits < num_classes else None


def fill_teacher_cache(
    cache: CachedTeacherOutputs | None,
    reason: str | None,
    views: Iterable[int],
    run_state: RunState,
) -> None:
    """Compute and store the teacher outputs for all ``views``; train nothing.

    Raises ``RunCancelledError``, and ``UserError`` with ``reason`` if there is no cache.
    """
    if cache is None:
        raise UserError(
            "job_invalid",
            f"the teacher outputs of this job cannot be cached: {reason}",
            hint="Set training.views to a number, and choose methods without feature maps like kd.",
        )
    for view in sorted(set(views)):
        run_state.check_cancelled()
        cache.prepare_view(view, run_state.check_cancelled, run_state.events)
    cache.close()
