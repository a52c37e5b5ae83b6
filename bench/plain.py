"""PlainLoop: distillation as research libraries write it, which the engine is compared with.

float32, one image at a time through PIL and torchvision's transforms, teacher and student at every
step, every loss copied to the host at once. Written for this comparison after three libraries of
the field. The networks are the engine's, so that only the loop differs.
"""

from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from kdcore.models import build

CLASSES, SIDE, BATCH = 100, 32, 64
TEMPERATURE, LABEL_WEIGHT, KD_WEIGHT = 4.0, 0.1, 0.9
MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


class AugmentedImages(Dataset[tuple[Tensor, int]]):
    """Images and targets with a transform for each image."""

    def __init__(self, images: Tensor, targets: Tensor) -> None:
        self._images = images.permute(0, 2, 3, 1).numpy()
        self._targets = targets.tolist()
        self._transform: Any = transforms.Compose(
            [
                transforms.RandomCrop(SIDE, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return a view of an image (C, H, W) and its target."""
        return self._transform(Image.fromarray(self._images[index])), self._targets[index]


class PlainLoop:
    """The plain loop, run for some steps at a time."""

    def __init__(
        self, teacher: str, student: str, images: Tensor, targets: Tensor, device: torch.device
    ) -> None:
        torch.manual_seed(0)
        self._device = device
        self._teacher, self._student = (_network(name).to(device) for name in (teacher, student))
        self._teacher.eval()
        self._student.train()
        self._optimizer = torch.optim.SGD(
            self._student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4
        )
        loader = DataLoader(AugmentedImages(images, targets), BATCH, shuffle=True, drop_last=True)
        self._batches = _repeat(loader)
        self._num_images, self._loss, self._num_correct = 0, 0.0, 0

    def steps(self, count: int) -> int:
        """Train for ``count`` steps and return the number of images."""
        before = self._num_images
        for _ in range(count):
            images, target = (tensor.to(self._device) for tensor in next(self._batches))
            with torch.no_grad():
                teacher_logits = self._teacher(images)
            logits = self._student(images)
            loss = LABEL_WEIGHT * functional.cross_entropy(logits, target)
            loss = loss + KD_WEIGHT * _kd(logits, teacher_logits)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            self._loss += loss.item() * len(images)
            self._num_correct += int((logits.argmax(dim=1) == target).sum().item())
            self._num_images += len(images)
        return self._num_images - before


def _network(name: str) -> nn.Module:
    return build(name, num_classes=CLASSES, in_channels=3, input_size=SIDE)


def _kd(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    soft = functional.log_softmax(logits / TEMPERATURE, dim=1)
    target = functional.softmax(teacher_logits / TEMPERATURE, dim=1)
    return functional.kl_div(soft, target, reduction="batchmean") * TEMPERATURE**2


def _repeat(loader: "DataLoader[tuple[Tensor, int]]") -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader
