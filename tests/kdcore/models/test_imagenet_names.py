"""The committed names of ImageNet's classes are those of torchvision and timm."""

from kdcore.models.catalog_tables.imagenet_names import PATH, render
from kdcore.models.pretrained import class_names_of, resolve_pretrained
from kdcore.schema.validation.class_matching import match_classes


def test_names_are_those_of_the_libraries() -> None:
    assert PATH.read_text(encoding="utf-8") == render()


def test_published_weights_match_folders_of_imagenet() -> None:
    # In the order of ImageNet: both cranes are among them, which timm gives one name.
    folders = [f"n{number:08d}" for number in (1440764, 2012849, 3126707, 7753592)]
    for name in ("torchvision/resnet50", "timm/resnet50"):
        info = resolve_pretrained(name)
        match = match_classes(folders, class_names_of(info), info.num_classes)
        assert match is not None
        assert match.class_map == (0, 134, 517, 954)
