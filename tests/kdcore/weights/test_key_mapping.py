"""Names of checkpoints: prefixes, tensors beside the network, averaged weights, ``key_map``."""

import json

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm

from kdcore.models import build
from kdcore.runtime.errors import UserError
from kdcore.schema.asset_info import KeyMap
from kdcore.weights.key_renaming import rename
from tests.kdcore.weights.checkpoint_files import (
    NAME,
    add_prefix,
    assert_equal_weights,
    network_state,
    refuse_file,
    verify_file,
)

EMPTY_LOOP = "(?:(?:(?:|a){9999}){9999}){9999}"
"""A pattern that takes years for the empty text."""
STATE = network_state()
OTHER = network_state(seed=1)


def suggested_rules(error):
    """The rules of ``key_map`` in a hint."""
    return json.loads("{" + error.hint[error.hint.index('"key_map"') :] + "}")["key_map"]


@pytest.mark.parametrize(
    "contents",
    [
        {**add_prefix("module.", STATE), "n_averaged": torch.tensor(5)},
        {"state_dict": {**add_prefix("model.", STATE), "criterion.weight": torch.ones(10)}},
        {**STATE, "criterion.weight": torch.ones(10), "total_ops": torch.zeros(1)},
        add_prefix("net.", STATE),
        add_prefix("learner.backbone.encoder.", STATE),
        {"state_dict": add_prefix("backbone.", STATE), "best_acc": 71.2},
        {"params": STATE},
        {"weights": {"best": add_prefix("module.module.", STATE)}},
        {
            "model": {
                f"model._orig_mod.{n.replace('.0.', '.0._orig_mod.')}": t for n, t in STATE.items()
            }
        },
        {f"{'head' if n.startswith('fc') else 'encoder'}.{n}": t for n, t in STATE.items()},
        {
            "state_dict": {
                **add_prefix("student.", STATE),
                **add_prefix("teacher.", OTHER),
                "regressor.weight": torch.ones(3, 3),
            }
        },
    ],
)
def test_network_is_read_under_any_prefix(tmp_path, contents):
    assert_equal_weights(verify_file(tmp_path, contents).tensors, STATE)


def test_foreign_tensor_is_named_alone_with_what_leaves_it_out(tmp_path):
    contents = {**add_prefix("net.", STATE), "projector.weight": torch.ones(3, 4)}
    error = refuse_file(tmp_path, contents)
    assert [item.name for item in error.items] == ["projector.weight"]
    assert error.fix_fields == ("architecture", "key_map")
    assert suggested_rules(error) == [["^projector\\..*", ""]]
    result = verify_file(tmp_path, contents, key_map=suggested_rules(error))
    assert_equal_weights(result.tensors, STATE)
    assert "`net.`" in result.warnings


@pytest.mark.parametrize(
    ("contents", "rules"),
    [
        (
            {**STATE, "fc.lora_A": torch.ones(2, 64), "fc.lora_B": torch.ones(5, 2)},
            [["^fc\\.lora_A$", ""], ["^fc\\.lora_B$", ""]],
        ),
        ({**STATE, "conv1.weight_scale": torch.ones(16)}, [["^conv1\\.weight_scale$", ""]]),
        (
            STATE | {f"{name}_copy": tensor for name, tensor in STATE.items() if tensor.ndim},
            [["^.*_copy$", ""]],
        ),
        ({**add_prefix("net.", STATE), **add_prefix("net2.", OTHER)}, [["^net2\\..*", ""]]),
        ({**STATE, **add_prefix("net.", OTHER)}, [["^net\\..*", ""]]),
        ({"a": STATE, "b": {"c": OTHER}}, [["^b\\..*", ""]]),
    ],
)
def test_suggested_rules_leave_out_nothing_of_the_network(tmp_path, contents, rules):
    assert suggested_rules(refuse_file(tmp_path, contents)) == rules
    assert_equal_weights(verify_file(tmp_path, contents, key_map=rules).tensors, STATE)


def test_factors_of_pruned_and_normalized_layers_are_named(tmp_path):
    network = build(NAME, num_classes=5)
    prune.l1_unstructured(network.conv1, "weight", 3)
    error = refuse_file(tmp_path, network.state_dict())
    assert [(item.name, item.detail) for item in error.items] == [
        ("conv1.weight", "is stored as conv1.weight_orig and conv1.weight_mask (pruned)")
    ]
    assert "prune.remove(" in error.hint
    prune.remove(network.conv1, "weight")
    verify_file(tmp_path, network.state_dict())
    weight_norm(network.fc)
    error = refuse_file(tmp_path, {"model": network.state_dict()}, architecture=None)
    assert [item.name for item in error.items] == ["fc.weight"]
    assert "remove_parametrizations(" in error.hint
    factors = {"fc.weight_g": torch.ones(5, 1), "fc.weight_v": STATE["fc.weight"]}
    old = {name: tensor for name, tensor in STATE.items() if name != "fc.weight"} | factors
    error = refuse_file(tmp_path, old)
    assert "fc.weight, is stored as fc.weight_g and fc.weight_v" in error.message
    old["fc.weight"] = STATE["fc.weight"]
    assert [i.name for i in refuse_file(tmp_path, old).items] == ["fc.weight_g", "fc.weight_v"]


def test_extras_without_a_few_rules_are_refused_without_rules(tmp_path):
    extras = {f"fc.x{index}": torch.ones(2) for index in range(30)}
    error = refuse_file(tmp_path, {**STATE, **extras})
    assert "[" not in (error.hint or "")
    assert "key_map" in (error.hint or "")


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("(a+)+#", "a" * 40 + "!"), (r"^(\w+\.?)+#$", "a" * 40), (EMPTY_LOOP, "b")],
)
def test_slow_pattern_is_refused_by_its_pointer(pattern, name):
    with pytest.raises(UserError) as error:
        rename([(name, name)], (("^z", ""), (pattern, "")), cpu_s=1)
    assert [item.name for item in error.value.items] == ["/key_map/1"]
    assert "takes more than 1 seconds" in error.value.message
    assert error.value.fix_fields == ("key_map",)


def test_pattern_that_lengthens_names_without_end_is_refused():
    with pytest.raises(UserError, match=r"/key_map/0 cannot be used: .* 1000 characters"):
        rename([("abcdef", "x.abcdef")], (("(.)", r"\1" * 200),) * 100)


def test_pattern_is_searched_in_the_name_and_then_in_the_path():
    names = [("conv.weight", "a.conv.weight"), ("a.bias", "b.a.bias"), ("é", "é")]
    assert rename(names, (("^a\\.", "c."), ("^é$", ""))) == [
        ("c.conv.weight", "c.conv.weight"),
        ("c.bias", "b.c.bias"),
        ("", ""),
    ]


def test_slow_pattern_does_not_delay_the_check_of_a_request():
    assert TypeAdapter(KeyMap).validate_python([(EMPTY_LOOP, "")]) == ((EMPTY_LOOP, ""),)
    for replacement in ("\\2", "\\g<no>"):
        with pytest.raises(ValidationError):
            TypeAdapter(KeyMap).validate_python([("(?P<yes>a)", replacement)])
    TypeAdapter(KeyMap).validate_python([("(?P<yes>a)(b)", "\\g<yes>\\2")])


def test_known_extras_are_a_warning(tmp_path):
    result = verify_file(tmp_path, {**STATE, "criterion.weight": torch.ones(10)})
    assert "not read: criterion.weight" in result.warnings


def test_tensor_inside_the_network_is_never_dropped(tmp_path):
    for name in ("layer1.0.se.weight", "layer1.0.alpha", "layer4.0.conv1.weight"):
        assert [i.name for i in refuse_file(tmp_path, {**STATE, name: torch.ones(2, 2)}).items] == [
            name
        ]


def test_averaged_weights_are_preferred_with_a_warning(tmp_path):
    contents = {"state_dict": STATE, "state_dict_ema": OTHER}
    result = verify_file(tmp_path, contents)
    assert_equal_weights(result.tensors, OTHER)
    assert "`state_dict_ema.` are used" in result.warnings
    assert_equal_weights(verify_file(tmp_path, contents, weights="ema").tensors, OTHER)
    assert_equal_weights(verify_file(tmp_path, contents, weights="raw").tensors, STATE)


@pytest.mark.parametrize(
    "contents",
    [
        {
            "model": STATE,
            "model_ema": {**add_prefix("module.", OTHER), "n_averaged": torch.tensor(3)},
        },
        {"state_dict": {**add_prefix("model.", STATE), **add_prefix("ema_model.module.", OTHER)}},
        {"model": STATE, "ema": {"module": OTHER, "decay": 0.999}},
        {"state_dict_ema": OTHER},
        {"ema": OTHER},
    ],
)
def test_averaged_weights_of_other_libraries(tmp_path, contents):
    assert_equal_weights(verify_file(tmp_path, contents).tensors, OTHER)


def test_choice_that_the_file_does_not_have_is_refused(tmp_path):
    error = refuse_file(tmp_path, {"state_dict": STATE}, weights="ema")
    assert (error.fix_fields, "no complete ema weights" in error.message) == (("weights",), True)
    error = refuse_file(tmp_path, {"model_ema": STATE}, weights="raw")
    assert error.fix_fields == ("weights",)


def test_broken_averages_can_be_left_for_the_raw_weights(tmp_path):
    broken = {**OTHER, "fc.bias": torch.full((5,), float("nan"))}
    error = refuse_file(tmp_path, {"state_dict": STATE, "state_dict_ema": broken})
    assert ([i.name for i in error.items], error.fix_fields) == (["fc.bias"], ("weights",))
    error = refuse_file(tmp_path, broken)
    assert error.fix_fields == ()


def test_two_different_sets_of_weights_are_never_guessed(tmp_path):
    contents = {"best": STATE, "last": OTHER}
    error = refuse_file(tmp_path, contents)
    assert "`best.`, `last.`" in error.message
    assert error.fix_fields == ("key_map",)
    result = verify_file(tmp_path, contents, key_map=[(r"^last\..*", "")])
    assert_equal_weights(result.tensors, STATE)
    assert_equal_weights(verify_file(tmp_path, {"best": STATE, "last": dict(STATE)}).tensors, STATE)


def test_renamed_layers_are_paired_and_the_suggested_key_map_mends_them(tmp_path):
    renamed = {
        name.replace("layer1.", "stage_a.").replace("fc.", "head."): t for name, t in STATE.items()
    }
    error = refuse_file(tmp_path, renamed)
    details = {item.name: item.detail for item in error.items}
    assert details["fc.weight"] == (
        "is missing; expected (5, 64); the checkpoint has head.weight of the same shape"
    )
    assert not any(name.startswith(("stage_a", "head")) for name in details)
    assert error.fix_fields == ("architecture", "num_classes", "key_map")
    suggestion = json.loads("{" + (error.hint or "").partition("add ")[2] + "}")
    assert_equal_weights(verify_file(tmp_path, renamed, **suggestion).tensors, STATE)


def test_key_map_that_joins_names_is_refused(tmp_path):
    error = refuse_file(tmp_path, STATE, key_map=[(r"layer1\.0\.conv[12]", "layer1.0.conv")])
    assert error.fix_fields == ("key_map",)
    assert "two tensors" in error.message


@pytest.mark.parametrize(
    "change",
    [
        lambda counter: counter.float() + 0.5,
        lambda counter: counter.reshape(1),
        lambda counter: torch.full((1,), float("nan")),
    ],
)
def test_counters_of_batch_norms_may_have_any_form(tmp_path, change):
    contents = {n: change(t) if n.endswith("num_batches_tracked") else t for n, t in STATE.items()}
    tensors = verify_file(tmp_path, contents).tensors
    assert_equal_weights(tensors, STATE)
    assert tensors["bn1.num_batches_tracked"].dtype == torch.int64
    assert tensors["bn1.num_batches_tracked"].shape == ()


def test_other_number_of_classes_is_a_refusal_that_the_field_mends(tmp_path):
    error = refuse_file(tmp_path, {"state_dict": add_prefix("net.", STATE)}, num_classes=7)
    assert error.fix_fields == ("num_classes",)
    assert {item.name for item in error.items} == {"fc.weight", "fc.bias"}
    assert verify_file(tmp_path, STATE, num_classes=None).info["num_classes"] == 5


def test_hostile_names_and_sizes_do_not_take_long(tmp_path):
    error = refuse_file(tmp_path, {**STATE, "a." * 501: torch.ones(1)})
    assert "1000 characters" in error.message
    huge = {name: torch.zeros(1).expand(2**20, 2**20) for name in STATE}
    error = refuse_file(tmp_path, {"a": huge, "b": dict(huge)}, num_classes=None)
    assert error.fix_fields == ("key_map",)


def test_normalization_inside_the_upload_is_a_warning_with_its_values(tmp_path):
    contents = {
        **add_prefix("model.", STATE),
        "mean": torch.tensor([0.5, 0.25, 0.125]).view(1, 3, 1, 1),
        "std": torch.full((3,), 0.2),
    }
    warnings = verify_file(tmp_path, contents).warnings
    assert "mean = (0.5, 0.25, 0.125) and std = (0.2, 0.2, 0.2), which are not applied" in warnings
    assert "`normalization` of the model should be these values" in warnings
    assert "not applied" not in verify_file(tmp_path, add_prefix("model.", STATE)).warnings


@pytest.mark.parametrize(
    ("name", "shape"),
    [("feature_transform.weight", (8, 8)), ("normalization.weight", (3,)), ("mean", (64,))],
)
def test_learned_layer_with_the_name_of_a_buffer_is_refused(tmp_path, name, shape):
    error = refuse_file(tmp_path, {**add_prefix("net.", STATE), name: torch.ones(shape)})
    assert [item.name for item in error.items] == [name]


def test_rule_that_empties_a_name_is_the_last_one(tmp_path):
    contents = {**STATE, "projector.weight": torch.ones(3, 4)}
    rules = [("^projector.*", ""), ("^$", "again")]
    assert_equal_weights(verify_file(tmp_path, contents, key_map=rules).tensors, STATE)
