"""What a scheme hands to the training loop."""

from dataclasses import dataclass
from typing import Literal

from kdcore.spec.methods import AnyMethod

Role = Literal["student", "baseline"]


@dataclass(frozen=True)
class Phase:
    """One training of one network from its first to its last epoch."""

    role: Role
    number: int
    """Which of the job's seeds, from 0."""
    seed: int
    methods: tuple[AnyMethod, ...]
    label_weight: float

    @property
    def prefix(self) -> str:
        """What its metrics' names start with: nothing for the student that is delivered."""
        seed = f"seed{self.number}/" if self.number else ""
        return seed + ("baseline/" if self.role == "baseline" else "")

    @property
    def title(self) -> str:
        """Its name in a sentence."""
        return f"{self.role} with seed {self.seed}"
