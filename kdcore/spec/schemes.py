"""How training is arranged: the parameters of every scheme."""

from typing import Literal

from kdcore.spec.base import Spec


class Offline(Spec):
    """Frozen teachers teach one student: the classical arrangement."""

    type: Literal["offline"] = "offline"


class SchemeEntry(Spec):
    """One line of the catalogue of schemes."""

    params: type[Spec]
    paper: str | None


SCHEMES: dict[str, SchemeEntry] = {
    "offline": SchemeEntry(params=Offline, paper="https://arxiv.org/abs/1503.02531"),
}
