"""Names of derived networks: an architecture of the catalog with cheaper convolutions.

``cifar/resnet32x4+grouped-8+width-0.5`` is resnet32x4 with grouped convolutions of 8 groups at half
the width; ``…+depthwise_separable+width-1`` has depthwise separable ones. Such a name stands for
the network wherever a file names an architecture, so that its weights can be loaded again.
"""

import re
from typing import Literal, NamedTuple

Convolution = Literal["grouped", "depthwise_separable"]
_NAME = re.compile(
    r"(?P<base>[^+]+)\+(?:grouped-(?P<groups>\d+)|depthwise_separable)\+width-(?P<width>[\d.e-]+)"
)


class DerivedNetwork(NamedTuple):
    """The parts of the name of a derived network."""

    architecture: str
    convolution: Convolution
    groups: int
    """1 for depthwise separable convolutions, whose groups are the channels of each layer."""
    width: float

    @property
    def name(self) -> str:
        """The network's name."""
        kind = f"grouped-{self.groups}" if self.convolution == "grouped" else self.convolution
        return f"{self.architecture}+{kind}+width-{self.width:g}"


def parse_derived_name(name: str) -> DerivedNetwork | None:
    """The parts of ``name``; None where it is not the name of a derived network."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    groups = match["groups"]
    return DerivedNetwork(
        match["base"],
        "depthwise_separable" if groups is None else "grouped",
        int(groups or 1),
        float(match["width"]),
    )
