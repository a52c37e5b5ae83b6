"""Whether teachers are asked once for each view, and before which batch."""

from collections.abc import Iterable

from kdcore.data.loader import Loader
from kdcore.models.teachers import Teachers
from kdcore.runtime.errors import UserFault
from kdcore.training.context import Task
from kdcore.training.run_state import Session
from kdcore.training.teacher_cache.codec import Form
from kdcore.training.teacher_cache.provider import Answers, Kept, Live, Place

MOST_CLASSES = 1000
"""Of more, a whole row of logits for each image and view would be too much to keep."""


def keeping(
    session: Session, task: Task, teachers: Teachers, live: Answers, loader: Loader
) -> Kept | None:
    """What keeps the answers of ``live``; None where they are asked at every step.

    They are kept where views come again, no feature maps are wanted, and every teacher is known by
    the digest of its file.
    """
    recipe = task.job.training
    if task.keep is None or recipe.views == "fresh" or not isinstance(live, Live):
        return None
    num_classes = len(task.store.info.classes)
    asked = recipe.kept_logits
    top_k = asked if asked != "all" and asked < num_classes else None
    if not live.teachers or (num_classes > MOST_CLASSES and top_k is None):
        return None
    known = [member.identity for member in teachers.members if member.identity is not None]
    if len(known) < len(live.teachers) or any(each.wanted.maps for each in live.teachers):
        return None
    decides = {
        "seed": loader.view_seed,
        "augmentation": recipe.model_dump(mode="json")["augmentation"],
        "samples": loader.num_samples,
        # On an accelerator other kernels, and so other last digits.
        "determinism": recipe.determinism,
        # Without the precision: that is the student's.
        "machine": {
            name: value for name, value in session.machine.chosen().items() if name != "precision"
        },
    }
    form = Form(num_classes, top_k, pooled=any(each.wanted.pooled for each in live.teachers))
    place = Place(task.keep.folder, task.keep.decides | decides, form)
    return Kept(live, known, loader, place, session.tally)


def ask_all(kept: Kept | None, views: Iterable[int], session: Session) -> None:
    """Have the teachers' answers about all ``views`` kept; nothing learns.

    Raises ``Stopped``, and ``UserFault`` where the job's answers are not of the kind that is kept.
    """
    if kept is None:
        raise UserFault(
            "recipe_invalid",
            "no answers of this job can be kept: that takes a number of views, methods that look "
            "at no feature maps, teachers with files, and at most "
            f"{MOST_CLASSES} classes, unless training.kept_logits is a number",
            hint="Set training.views, and choose a method like kd.",
        )
    for view in sorted(set(views)):
        session.boundary()
        kept.ready(view, session.boundary, session.events)
    kept.close()
