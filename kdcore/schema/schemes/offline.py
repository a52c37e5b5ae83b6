"""Parameters of the scheme ``offline``."""

from typing import Literal

from kdcore.schema.schemes.base import SchemeParams


class Offline(SchemeParams):
    """Frozen teachers teach one student: the classical arrangement."""

    teacher = "required"
    paper = "https://arxiv.org/abs/1503.02531"

    type: Literal["offline"] = "offline"

    @property
    def name_suffix(self) -> str:
        """Nothing: a job is offline unless its name says otherwise."""
        return ""
