"""SchemeParams: the base of every scheme's parameters, and the properties that training reads."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, NamedTuple, Self, get_args

from kdcore.schema.base import FrozenModel
from kdcore.schema.methods.base import MethodParams
from kdcore.schema.validation.errors import ValidationIssue


class SchemeNetworks(NamedTuple):
    """Student and first teacher of a job: what the defaults of a scheme follow from."""

    student: str | None
    """Architecture of the student; of a derived one None, or its base once it is resolved."""
    teacher: str | None
    """Architecture of the first teacher; None without one."""
    methods: tuple[str, ...] = ()
    student_is_derived: bool = False
    student_has_taps: bool = False


class SchemeParams(FrozenModel):
    """Parameters of one scheme, as fields, and what the catalog says about it, as class variables.

    The docstring of a subclass is the catalog's description of the scheme. The field ``type`` is
    a literal with the name of the scheme, which is also the name of its files.
    """

    teacher: ClassVar[Literal["required", "optional"]]
    """Whether a job must name a teacher for methods that use one."""
    paper: ClassVar[str | None] = None
    """URL of the source."""
    is_default: ClassVar[bool] = False
    """Whether a job that names no scheme has this one; names and summaries leave it out."""
    networks_field: ClassVar[str | None] = None
    """Name of the field that lists the architectures of other networks, if there is one."""
    trains_teachers: ClassVar[bool] = False
    """Whether it trains teachers for its student where the job names none."""
    teachers_meet_student: ClassVar[bool] = True
    """Whether the job's teachers teach the student itself, and not only networks between them."""
    teacher_reason: ClassVar[str | None] = None
    """Why even a job without a teacher's method must name a teacher; None where it need not."""

    type: str

    @classmethod
    def scheme_name(cls) -> str:
        """The name of the scheme, which is the only value of ``type``."""
        name: str = get_args(cls.model_fields["type"].annotation)[0]
        return name

    @property
    def networks(self) -> tuple[str, ...]:
        """Architectures of the networks beside the student and the teachers that the job names."""
        return (getattr(self, self.networks_field) or ()) if self.networks_field else ()

    @property
    def name_suffix(self) -> str:
        """What the default name of a job ends with."""
        return "" if self.is_default else f", {self.type}"

    def max_phases(self, *, has_teacher: bool) -> int:
        """The largest number of trainings for one seed, without the baseline."""
        return 1

    def has_soft_targets(self, methods: Sequence[MethodParams], *, has_teacher: bool) -> bool:
        """Whether some network that knows the classes trains the student's classifier."""
        return any(method.teaches_classifier for method in methods)

    def with_defaults(self, networks: SchemeNetworks) -> Self:
        """The same parameters with every default explicit."""
        return self

    def issues(self, networks: SchemeNetworks) -> Iterator[ValidationIssue]:
        """Reasons why the scheme cannot train these networks, with pointers below `/scheme`."""
        return iter(())
