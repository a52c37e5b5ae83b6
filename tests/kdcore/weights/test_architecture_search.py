"""The architecture of a checkpoint from its names and shapes."""

import pytest
import torch

from kdcore.models.catalog_tables.shape_index import (
    find_candidates,
    shape_index,
    sketch_architecture,
)
from kdcore.models.factory import build
from kdcore.schema.catalog import architectures
from tests.kdcore.weights.checkpoint_files import (
    add_prefix,
    assert_equal_weights,
    network_state,
    refuse_file,
    verify_file,
)

UNKNOWN = {"architecture": None, "num_classes": None}


def test_index_has_every_architecture_and_a_sample_is_current():
    index = shape_index()
    # Other tests register networks of their process.
    assert set(index) == {name for name in architectures() if not name.startswith("module/")}
    for name in ("cifar/wrn_16_2", "timm/vit_tiny_patch16_224", "torchvision/shufflenet_v2_x0_5"):
        assert sketch_architecture(name, architectures()[name].input_size) == index[name]
    assert {len(sketch.hashes) for sketch in index.values()} == {8}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("cifar/resnet8", {}),
        ("cifar/resnet20", {"num_classes": 64}),
        ("cifar/vgg8", {"in_channels": 1}),
        ("cifar/ShuffleV2", {"num_classes": 2}),
    ],
)
def test_architecture_and_classes_are_inferred_under_any_prefix(tmp_path, name, changes):
    state = network_state(name, **changes)
    contents = {"state_dict": {**add_prefix("net.", state), "criterion.weight": torch.ones(4)}}
    result = verify_file(tmp_path, contents, **UNKNOWN)
    assert_equal_weights(result.tensors, state)
    assert (result.info["architecture"], result.info["num_classes"]) == (
        name,
        changes.get("num_classes", 5),
    )
    assert result.info["in_channels"] == changes.get("in_channels", 3)
    assert f"the architecture is {name}" in result.warnings


def test_part_of_a_larger_network_is_no_candidate(tmp_path):
    # resnet8 has the names and shapes of a part of resnet14.
    state = network_state("cifar/resnet14")
    names = {candidate.architecture for candidate in find_candidates(state)}
    assert {"cifar/resnet8", "cifar/resnet14"} <= names
    assert verify_file(tmp_path, state, **UNKNOWN).info["architecture"] == "cifar/resnet14"


def test_equal_networks_of_two_libraries_count_as_one(tmp_path):
    state = network_state("timm/densenet121", num_classes=3, input_size=224)
    result = verify_file(tmp_path, state, **UNKNOWN)
    assert result.info["architecture"] == "torchvision/densenet121"
    assert "timm/densenet121: equal outputs" in result.warnings


def test_several_fitting_architectures_are_listed_and_metadata_decide(tmp_path):
    state = network_state("timm/mobilenetv3_small_075", num_classes=3, input_size=224)
    error = refuse_file(tmp_path, {"state_dict": state}, **UNKNOWN)
    names = ["timm/mobilenetv3_small_075", "timm/tf_mobilenetv3_small_075"]
    assert error.fix_fields == ("architecture",)
    assert [item.name for item in error.items] == names
    network = build(names[0], num_classes=3, in_channels=3, input_size=224)
    num_params = sum(parameter.numel() for parameter in network.parameters())
    assert error.items[0].detail == f"{num_params} parameters, 3 classes"
    named = {"state_dict": state, "arch": "tf_mobilenetv3_small_075"}
    assert verify_file(tmp_path, named, **UNKNOWN).info["architecture"] == names[1]


def test_unknown_network_is_refused(tmp_path):
    error = refuse_file(
        tmp_path, torch.nn.Sequential(torch.nn.Linear(3, 4)).state_dict(), **UNKNOWN
    )
    assert error.fix_fields == ("architecture", "key_map")
    assert "fit no known architecture" in error.message


def test_inferred_classes_are_compared_with_the_request(tmp_path):
    error = refuse_file(tmp_path, network_state(), architecture=None, num_classes=7)
    assert (error.fix_fields, error.hint) == (
        ("num_classes",),
        "set num_classes to 5, or leave it out",
    )


@pytest.mark.parametrize(
    ("value", "message", "fix_fields"),
    [
        (float("nan"), "1 tensors of the checkpoint cannot be used", ()),
        (0.0, "their outputs do not show which one it is", ("architecture",)),
    ],
)
def test_architectures_are_not_compared_by_useless_outputs(tmp_path, value, message, fix_fields):
    state = network_state("timm/mobilenetv3_small_075", num_classes=3, input_size=224)
    state["classifier.weight"] = torch.full_like(state["classifier.weight"], value)
    state["classifier.bias"] = torch.zeros_like(state["classifier.bias"])
    error = refuse_file(tmp_path, state, **UNKNOWN)
    assert message in error.message
    assert error.fix_fields == fix_fields
