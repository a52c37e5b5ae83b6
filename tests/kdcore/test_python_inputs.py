"""`distill` with objects: networks, data sets and loaders of torch; one clear error otherwise."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from kdcore import build, distill, evaluate
from kdcore.recipes.torch_data import read_splits
from kdcore.recipes.user_modules import ImageShape, register_module
from kdcore.runtime.errors import UserError
from tests.kdcore.recipe_runs import QUIET

SIDE, CLASSES, GRAY = 8, 3, ImageShape(1, 8)


class Net(nn.Module):
    """A network of a user: its shape is in no catalog."""

    def __init__(self, width: int = 4, classes: int = CLASSES, slope: float = 0.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, classes)
        self.slope = slope

    def forward(self, images: Tensor) -> Tensor:
        maps = nn.functional.leaky_relu(self.norm(self.conv(images)), self.slope)
        logits: Tensor = self.head(maps.mean((2, 3)))
        return logits


class Named(TensorDataset):
    classes = ("ant", "bee", "cat")


class Stream(IterableDataset[Any]):
    def __init__(self, samples: Any) -> None:
        self.samples = samples

    def __iter__(self) -> Any:
        return iter(self.samples)


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Pixels 0..1 whose brightness is the class; 90 samples in the order of ``labels``."""
    noise = torch.rand(90, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    return (noise * 0.3 + 0.3 * (torch.arange(90) % CLASSES).view(-1, 1, 1, 1)).clamp(0, 1)


@pytest.fixture(scope="module")
def labels() -> Tensor:
    return torch.arange(90) % CLASSES


def make_networks() -> tuple[Net, Net]:
    torch.manual_seed(0)
    return Net(16), Net()


@pytest.mark.usefixtures("current_folder")
def test_networks_and_data_of_torch_are_distilled(images: Tensor, labels: Tensor) -> None:
    teacher, student = make_networks()
    optimizer = torch.optim.Adam(teacher.parameters(), 0.05)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(teacher(images), labels).backward()
        optimizer.step()
    before = {
        name: copy.deepcopy(net.state_dict())
        for name, net in zip("ts", (teacher, student), strict=True)
    }
    samples = TensorDataset(images, labels)
    data = {
        "train": DataLoader(Subset(samples, range(60)), batch_size=16, shuffle=True),
        "val": Subset(samples, range(60, 75)),
        "test": Subset(samples, range(75, 90)),
    }
    settings: Any = {"training": {"epochs": 2, "batch_size": 20}, **QUIET}
    result = distill(student, data, teachers=[nn.DataParallel(teacher)], **settings)
    # The caller's objects are the same as before, and an equal call finds the finished run.
    for name, network in zip("ts", (teacher, student), strict=True):
        assert all(
            torch.equal(before[name][key], value) for key, value in network.state_dict().items()
        )
    assert distill(student, data, teachers=teacher, **settings).path == result.path
    with torch.no_grad():
        top1 = 100 * (teacher.eval()(images[75:]).argmax(1) == labels[75:]).float().mean()
    assert result.report.teacher is not None
    assert result.report.teacher.top1 == pytest.approx(float(top1))
    assert result.report.student.num_params == sum(p.numel() for p in student.parameters())
    trained = result.load()
    assert type(trained.network) is Net
    assert evaluate(trained, data, **QUIET).report.student.top1 == result.report.student.top1


@pytest.mark.usefixtures("current_folder")
def test_student_starts_from_the_weights_of_its_object(images: Tensor, labels: Tensor) -> None:
    _, student = make_networks()
    frozen = {
        "epochs": 1,
        "batch_size": 30,
        "optimizer": {"type": "sgd", "lr": 1e-9, "weight_decay": 0},
    }
    result = distill(student, (images[:, 0].mul(255).byte(), labels), training=frozen, **QUIET)
    trained = result.load().network.state_dict()
    assert torch.allclose(trained["conv.weight"], student.conv.weight, atol=1e-6)


class ReadsBrightness(Net):
    """Classifies the images of these tests without training, with its classes in any order."""

    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self.order = list(order)

    def forward(self, images: Tensor) -> Tensor:
        centers = torch.tensor([0.15, 0.45, 0.75])[self.order]
        return -10 * (images.mean((1, 2, 3)).unsqueeze(1) - centers).abs() + 0 * super().forward(
            images
        )


@pytest.mark.usefixtures("current_folder")
def test_class_names_of_a_module_map_its_classes(images: Tensor, labels: Tensor) -> None:
    samples = Named(images, labels)
    data = {
        "train": Subset(samples, range(60)),
        "val": Subset(samples, range(60, 75)),
        "test": Subset(samples, range(75, 90)),
    }
    order = (2, 0, 1)
    model: Any = {
        "weights": ReadsBrightness(order),
        "class_names": [Named.classes[n] for n in order],
    }
    report = evaluate(model, data, **QUIET).report
    assert (report.student.top1, report.warnings) == (100.0, ())
    training = {"epochs": 1, "batch_size": 30}
    distilled = distill(Net(), data, teachers=[model], training=training, **QUIET).report
    assert distilled.teacher is not None
    assert distilled.teacher.top1 == 100.0
    with pytest.raises(UserError, match="class_names has 2 names, and the network 3") as caught:
        evaluate(model | {"class_names": ["ant", "bee"]}, data, **QUIET)
    assert [item.name for item in caught.value.items] == ["/model/class_names"]
    with pytest.raises(UserError, match="class_names has 4 names, and the network 3 outputs"):
        evaluate(model | {"class_names": [*model["class_names"], "owl"]}, data, **QUIET)
    with pytest.raises(UserError, match="set the class_names of the model, in the order"):
        evaluate(model | {"class_map": [1, 2, 0]}, data, **QUIET)


def test_name_covers_weights_settings_and_code() -> None:
    network, _ = make_networks()
    other_code = copy.deepcopy(network)

    class Changed(Net):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) * 2

    Changed.__name__, other_code.__class__ = "Net", Changed
    other_weights, other_setting = copy.deepcopy(network), copy.deepcopy(network)
    other_setting.slope = 0.1
    with torch.no_grad():
        other_weights.head.bias.add_(1)
    networks = (network, other_code, other_weights, other_setting)
    names = {register_module(registered, GRAY).name for registered in networks}
    assert len(names) == len(networks)
    assert register_module(copy.deepcopy(network), GRAY).name in names


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"student": Net}, "student is the class Net, not an object of it: write Net(...)"),
        ({"student": 5}, "student is of type int; the name of an architecture, an nn.Module"),
        ({"student": nn.Linear(3, 3)}, "student: the network Linear does not run on images"),
        ({"student": nn.Identity()}, "returns a tensor of shape (2, 1, 8, 8); logits of shape (2,"),
        ({"student": Net(classes=5)}, "student has 5 outputs, the data set 3 classes"),
        ({"student": nn.LazyConv2d(4, 3)}, "has lazy layers without weights; run it on one batch"),
        ({"teachers": 3}, "teachers is of type int; a list is expected"),
        ({"teachers": [{"weights": {"a": 1}}]}, "teachers[0] is of type dict with the keys ['a']"),
        ({"dataset": 7}, "dataset is of type int; a path, a source such as builtin:digits"),
        ({"dataset": {"train": 5}}, "dataset is of type dict with the keys ['train']; a path"),
        ({"dataset": None}, "dataset is required"),
    ],
)
@pytest.mark.usefixtures("current_folder")
def test_other_objects_are_named_with_what_is_right(
    argument: dict[str, Any], message: str, images: Tensor, labels: Tensor
) -> None:
    valid: dict[str, Any] = {"student": Net(), "dataset": TensorDataset(images, labels)}
    with pytest.raises(UserError) as caught:
        distill(**{**valid, **argument}, **QUIET)
    assert message in str(caught.value)


def test_torch_script_is_refused_with_what_is_right() -> None:
    with pytest.warns(FutureWarning):
        scripted = torch.jit.trace(Net().eval(), torch.zeros(1, 1, SIDE, SIDE))
    with pytest.raises(UserError, match=r"is TorchScript; pass the nn\.Module from which"):
        register_module(scripted, GRAY)


def test_forms_of_one_data_set_give_equal_arrays(images: Tensor, labels: Tensor) -> None:
    from torchvision.transforms.functional import to_pil_image

    named = Named(images, labels)
    pictures = [to_pil_image(image) for image in images]
    forms: list[Any] = [
        named,
        DataLoader(named, batch_size=7, shuffle=True),
        DataLoader(named, batch_size=7, sampler=range(90)),
        Subset(named, range(90)),
        Stream(list(zip(pictures, labels.tolist(), strict=True))),
        Stream(
            [{"image": image, "label": label} for image, label in zip(images, labels, strict=True)]
        ),
        Stream(
            [
                (np.moveaxis(image.numpy(), 0, 2), label)
                for image, label in zip(images, labels, strict=True)
            ]
        ),
    ]
    expected = read_splits(forms[0])
    assert expected["class_names"].tolist() == list(Named.classes)
    assert (expected["train_images"].shape, expected["train_images"].dtype) == (
        (90, 8, 8),
        np.uint8,
    )
    for form in forms[1:]:
        arrays = read_splits(form)
        for name in ("train_images", "train_labels"):
            # ToPILImage truncates where this project rounds.
            assert np.abs(arrays[name].astype(int) - expected[name]).max() <= 1, form


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "dataset has no samples"),
        ([torch.zeros(1, 8, 8)], "has samples of type Tensor; (image, label) pairs"),
        ([{"picture": 0}], "has samples with the fields ['picture']"),
        ([(torch.zeros(8), 0)], "has an image of shape (8,) and type float32 at 0"),
        ([(torch.zeros(1, 8, 8), 0.5)], "has the label 0.5 at 0; an index of a class"),
        ([(torch.zeros(1, 8, 8), 0), (torch.zeros(1, 9, 9), 0)], "images of different shapes"),
        ([(torch.full((1, 8, 8), -1.0), 0)], "remove the normalization from its transform"),
        ([(torch.full((1, 8, 8), 1.5), 0)], "floats must be from 0 to 1, or whole"),
    ],
)
def test_invalid_samples_are_named(samples: list[Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        read_splits(Stream(samples))
    assert message in str(caught.value)


def test_splits_have_names_of_splits(images: Tensor, labels: Tensor) -> None:
    samples = TensorDataset(images, labels)
    with pytest.raises(UserError, match="`train` is required"):
        read_splits({"training": samples})
    assert set(read_splits({"train": samples, "val": samples})) == {
        *("train_images", "train_labels", "val_images", "val_labels"),
    }


def test_network_of_another_process_is_named() -> None:
    with pytest.raises(UserError, match=r"passed to distill\(\) as an object, in another process"):
        build("module/Net-0123456789abcdef", num_classes=CLASSES)


def read_pil_image(image: Image.Image) -> Any:
    return read_splits(Stream([(image, 0)]))["train_images"][0]


@pytest.mark.parametrize("mode", ["I", "I;16", "F"])
def test_pil_images_with_more_than_eight_bits_are_refused(mode: str) -> None:
    with pytest.raises(UserError, match=f"mode {mode} at 0; 8 bits are expected: scale"):
        read_pil_image(Image.new(mode, (8, 8), 4095))


def test_transparent_pil_images_become_white() -> None:
    for image in (Image.new("RGBA", (8, 8), (9, 9, 9, 0)), Image.new("LA", (8, 8), (9, 0))):
        pixels = read_pil_image(image)
        assert pixels.shape == (8, 8, 3)
        assert (pixels == 255).all()
    marked = Image.new("L", (8, 8), 7)
    marked.info["transparency"] = 7
    assert (read_pil_image(marked) == np.full((8, 8), 255)).all()
