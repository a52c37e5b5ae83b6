"""Parameters of the scheme ``offline``."""

from typing import Literal

from kdcore.schema.schemes.base import SchemeParams


class Offline(SchemeParams):
    """Frozen teachers teach one student: the classical arrangement."""

    teacher = "required"
    paper = "https://arxiv.org/abs/1503.02531"
    is_default = True

    type: Literal["offline"] = "offline"
