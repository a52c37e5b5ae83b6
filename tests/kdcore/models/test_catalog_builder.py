"""The committed catalog is what the engine would write today."""

import pytest

from kdcore.models.catalog_tables import catalog_builder
from kdcore.models.catalog_tables.catalog_builder import profile_architecture
from kdcore.models.registry import ENTRIES
from kdcore.schema.catalog import ArchitectureCatalog, architectures, similar_architectures


def test_catalog_is_complete_and_a_sample_is_current(capsys):
    # The whole file takes a quarter of an hour.
    status = catalog_builder.main(["--check", "--sample", "5"])
    assert (status, capsys.readouterr().err) == (0, "")


def test_stale_catalog_is_reported(tmp_path, capsys):
    catalog = tmp_path / "catalog.json"

    def run(*arguments):
        return catalog_builder.main([*arguments], catalog, ["cifar/resnet14", "cifar/resnet8"])

    assert run("--check") == 1
    assert "cifar/resnet8 is missing" in capsys.readouterr().err
    assert run() == 0
    assert run("--check") == 0
    current = catalog.read_text()
    for old, new, words in (
        ('"num_params":83892', '"num_params":83893', "cifar/resnet8 has changed"),
        ("cifar/resnet14", "cifar/resnet44", "cifar/resnet44 does not exist any more"),
    ):
        catalog.write_text(current.replace(old, new))
        assert run("--check", "--sample", "2") == 1
        assert words in capsys.readouterr().err


def test_large_networks_of_timm_are_left_out():
    assert profile_architecture("cifar/resnet8", max_params=83_891) is None
    assert profile_architecture("cifar/resnet8", max_params=83_892).num_params == 83_892
    sizes = [entry.num_params for name, entry in architectures().items() if "timm/" in name]
    assert max(sizes) <= 100e6
    assert len(sizes) > 1000


def test_catalog_is_sorted_with_cifar_first():
    names = list(architectures())
    assert names == sorted(names)
    assert names[: len(ENTRIES)] == sorted(ENTRIES)
    libraries = list(dict.fromkeys(name.partition("/")[0] for name in names))
    assert libraries == ["cifar", "timm", "torchvision"]


def test_catalog_is_small():
    # It opens in some 20 ms of processor time.
    text = catalog_builder.PATH.read_bytes()
    assert ArchitectureCatalog.model_validate_json(text).architectures
    assert len(text) < 1e6


def test_entry_has_cost_feature_layers_and_license():
    resnet20 = architectures()["cifar/resnet20"]
    assert (resnet20.num_params, resnet20.macs) == (278_324, 40_818_944)
    assert (resnet20.pooled_features, resnet20.num_classes) == (64, 100)
    assert [tap.path for tap in resnet20.taps] == ["layer1", "layer2", "layer3"]
    assert resnet20.pretrained == ()
    # The numbers of torchvision's documentation.
    resnet50 = architectures()["torchvision/resnet50"]
    assert (resnet50.num_params, resnet50.macs // 10**6) == (25_557_032, 4089)
    assert resnet50.pretrained[0] == "ResNet50_Weights.IMAGENET1K_V2"
    assert resnet50.license == "BSD-3-Clause"
    assert resnet50.taps[-1].shape == (2048, 7, 7)
    assert resnet50.normalization.mean == (0.485, 0.456, 0.406)
    swin = architectures()["timm/swin_tiny_patch4_window7_224"]
    assert (swin.license, swin.pooled_features) == ("MIT", 768)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("cifar/resnet21", "cifar/resnet20"),
        ("cifar/ResNet32x4", "cifar/resnet32x4"),
        ("resnet50", "torchvision/resnet50"),
        ("torchvision/resnet51", "torchvision/resnet50"),
        ("timm/resnet50.a1_in1k", "timm/resnet50"),
        ("timm/mobilnetv3_small_100", "timm/mobilenetv3_small_100"),
    ],
)
def test_similar_names_come_from_every_library(name, suggestion):
    assert suggestion in similar_architectures(name)
    assert similar_architectures("xyzzy") == []
