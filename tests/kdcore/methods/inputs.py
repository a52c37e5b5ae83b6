"""Inputs of the golden values, by formula, and outputs of networks to build methods from."""

import torch
from torch import Tensor

from kdcore.methods import create_method
from kdcore.methods.base import Batch, DataFacts, Method, Outputs
from kdcore.schema.methods import METHODS, AnyMethod

TEACHER_METHODS = sorted(set(METHODS) - {"supervised"})
NUM_SAMPLES = 40
TARGETS = torch.tensor([0] * 25 + [1] * 10 + [2] + [3] * 4)  # one class with a single image


def sine_values(shape: tuple[int, ...], a: float, b: float, k: float) -> Tensor:
    """k · sin(a · i + b) over the flat index i, float64."""
    i = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return (k * torch.sin(a * i + b)).view(shape)


STUDENT_LOGITS, TEACHER_LOGITS = (
    sine_values((8, 10), 0.7, 0.1, 3),
    sine_values((8, 10), 0.5, 0.3, 5),
)
TARGET = 3 * torch.arange(8) % 10
STUDENT_MAP = sine_values((8, 16, 8, 8), 0.37, 0.2, 1).relu()
TEACHER_MAP = sine_values((8, 16, 8, 8), 0.41, 0.5, 1.5).relu()
STUDENT_DEEP = sine_values((8, 32, 4, 4), 0.29, 0.2, 1).relu()
TEACHER_DEEP = sine_values((8, 32, 4, 4), 0.31, 0.5, 1.5).relu()
STUDENT_POOLED, TEACHER_POOLED = (
    sine_values((8, 32), 0.43, 0.2, 1).relu(),
    sine_values((8, 32), 0.53, 0.4, 1).relu(),
)
SCORES = 1 + sine_values((8, 17, 1), 0.11, 0.2, 0.5)


def outputs(
    seed: int, pooled: int, *maps: tuple[int, int, int], size: int = 6, scale: float = 1.0
) -> Outputs:
    """Random outputs of a network with maps (C, H, W) and pooled features for ``size`` images.

    All of them require gradients.
    """
    generator = torch.Generator().manual_seed(seed)

    def leaf(*shape: int) -> Tensor:
        return (scale * torch.randn(shape, generator=generator)).relu().requires_grad_()

    logits = (scale * torch.randn(size, 4, generator=generator)).requires_grad_()
    return Outputs(logits, leaf(size, pooled), [leaf(size, *shape) for shape in maps])


def student(size: int = 6, scale: float = 1.0) -> Outputs:
    return outputs(1, 12, (4, 8, 8), (6, 4, 4), (12, 2, 2), size=size, scale=scale)


def teacher(size: int = 6, scale: float = 1.0) -> Outputs:
    """Other channels than the student, and sizes of half, double and no multiple of its sizes."""
    return outputs(2, 20, (5, 4, 16), (10, 8, 8), (20, 3, 3), size=size, scale=scale)


def batch(step: int = 1, size: int = 6) -> Batch:
    index = (torch.arange(size) * 7 + step) % NUM_SAMPLES
    return Batch(TARGETS[index], index, epoch=1, step=step)


FACTS = DataFacts(NUM_SAMPLES, 4, TARGETS)


def params(name: str, **fields: object) -> AnyMethod:
    return METHODS[name].model_validate({"type": name, **fields})


def build_method(
    name: str, s: Outputs | None = None, t: Outputs | None = None, **fields: object
) -> Method:
    torch.manual_seed(0)
    method = create_method(params(name, **fields))
    method.build(s or student(2), t or teacher(2), FACTS)
    return method
