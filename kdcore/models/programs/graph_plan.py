"""GraphPlan: the calls of a torch.export graph, read from its JSON.

The JSON is that of ``torch/_export/serde/schema.py``, major version 8. ``torch.export.load`` is not
used: it evaluates texts of the file as Python (symbolic sizes, guards) and unpickles its examples.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kdcore.models.programs.operator_arguments import DTYPES, EXPORT_HINT, Ref
from kdcore.models.programs.operator_calls import Call, find_operator, is_assertion, read_call
from kdcore.models.programs.program_network import ProgramInput, check_input_shape, program_error

_SCHEMA_MAJOR = 8
_MAX_NODES = 200_000
_MAX_LISTED = 20
_SYMBOL = re.compile(r"(?:Symbol\('(\w+)'[^()]*\)|(\w+))")
_TRAINING_FLAGS = ("training", "train", "dropout_p")


class GraphPlan(NamedTuple):
    """What a program computes."""

    takes: ProgramInput
    input_name: str
    tensors: dict[str, str]
    """Names of weights and constants in the archive, by their name in the graph."""
    calls: tuple[Call, ...]
    outputs: dict[str, str]
    """Names in the graph of the outputs, by their names for users."""


def read_plan(program: Any, name: str) -> GraphPlan:
    """Read the JSON of a program. Nothing is run.

    Raises :class:`UserError` for operators that are not run, for a network in training mode, and
    for other inputs than one batch of images.
    """
    if program["schema_version"]["major"] != _SCHEMA_MAJOR:
        raise program_error(
            f"{name} was written by another version of torch.export; the formats of torch 2.7 and "
            "later are read",
            hint=EXPORT_HINT,
        )
    module = program["graph_module"]
    graph, signature = module["graph"], module["signature"]
    if len(graph["nodes"]) > _MAX_NODES:
        raise program_error(f"{name} has more than {_MAX_NODES} operators")
    _check_operators(graph["nodes"], name)
    _check_outputs(signature["output_specs"], name)
    tensors, inputs = _read_inputs(signature["input_specs"], name)
    input_name = inputs[0]
    values = [spec["user_output"]["arg"] for spec in signature["output_specs"]]
    outputs = _name_outputs(values, module)
    calls = [read_call(node) for node in graph["nodes"] if not is_assertion(node["target"])]
    if any(map(_trains, calls)):
        raise _training_error(name)
    return GraphPlan(
        takes=_read_shape(graph["tensor_values"][input_name], program["range_constraints"]),
        input_name=input_name,
        tensors=tensors,
        calls=tuple(_with_unused(calls, set(outputs.values()))),
        outputs=outputs,
    )


def _check_operators(nodes: Sequence[Any], name: str) -> None:
    targets = {node["target"] for node in nodes}
    refused = sorted(
        target
        for target in map(str, targets)
        if not is_assertion(target) and find_operator(target) is None
    )
    if refused:
        raise program_error(
            f"{name} uses the operator {refused[0][:200]}, which is never run: of a program, only "
            "functions of PyTorch (torch.ops.aten) without random numbers and side effects are run",
            hint="replace it in the network's code, and " + EXPORT_HINT,
            items=[target[:200] for target in refused[:_MAX_LISTED]],
        )


def _trains(call: Call) -> bool:
    arguments = call.kwargs
    if any(_is_on(arguments.get(flag, False)) for flag in _TRAINING_FLAGS):
        return True
    # Without statistics, instance normalization uses those of its input in both modes.
    has_stats = any(arguments.get(stats) is not None for stats in ("running_mean", "running_var"))
    return has_stats and _is_on(arguments.get("use_input_stats", False))


def _is_on(flag: Any) -> bool:
    """Return whether a flag or a probability is anything but a plain false or 0."""
    return not isinstance(flag, int | float) or bool(flag)


def _check_outputs(specs: Sequence[Any], name: str) -> None:
    kinds = {kind for spec in specs for kind in spec}
    if kinds & {"buffer_mutation", "parameter_mutation"}:
        raise _training_error(name)
    if kinds - {"user_output"}:
        raise program_error(
            f"{name} has outputs beside the network's own ({', '.join(sorted(kinds))})",
            hint=EXPORT_HINT,
        )


def _training_error(name: str) -> Exception:
    return program_error(
        f"{name} was exported in training mode: its outputs depend on the other images of a batch "
        "or on chance, and it changes itself",
        hint=f"call model.eval(), and {EXPORT_HINT}",
    )


def _read_inputs(specs: Sequence[Any], name: str) -> tuple[dict[str, str], list[str]]:
    """Return the names of tensors by their names in the graph, and the inputs of the user."""
    fields = {
        "parameter": "parameter_name",
        "buffer": "buffer_name",
        "tensor_constant": "tensor_constant_name",
    }
    tensors, inputs = {}, []
    for spec in specs:
        ((kind, value),) = spec.items()
        if kind in fields:
            tensors[value["arg"]["name"]] = str(value[fields[kind]])
        elif kind == "user_input" and "as_tensor" in value["arg"]:
            inputs.append(value["arg"]["as_tensor"]["name"])
        elif kind == "custom_obj":
            raise program_error(
                f"{name} needs an object of the class {value['arg']['class_fqn'][:200]}; objects "
                "are code and never loaded",
                hint="replace it in the network's code by tensors, and " + EXPORT_HINT,
            )
        elif kind != "constant_input":
            raise program_error(f"{name} has an input of the kind {kind}, not only images")
    if len(inputs) != 1:
        listed = ", ".join(inputs) or "none"
        raise program_error(
            f"{name} has {len(inputs)} inputs ({listed}); one, the images, is run", EXPORT_HINT
        )
    return tensors, inputs


def _read_shape(meta: Any, ranges: Mapping[str, Any]) -> ProgramInput:
    if meta["dtype"] != 7:
        raise program_error(
            f"the network takes images of {DTYPES.get(meta['dtype'], 'another type')}; float32 "
            "images, normalized, are run",
            hint=EXPORT_HINT,
        )
    sizes = [size.get("as_int") for size in meta["sizes"]]
    channels, side = check_input_shape(sizes, EXPORT_HINT)
    if sizes[0] is not None:
        return ProgramInput(channels, side, sizes[0], sizes[0])
    symbol = _SYMBOL.fullmatch(meta["sizes"][0]["as_expr"]["expr_str"])
    if symbol is None:
        raise program_error("the batch of the network is neither fixed nor of any size")
    limits = ranges.get(symbol[1] or symbol[2]) or {}
    return ProgramInput(channels, side, limits.get("min_val") or 1, limits.get("max_val"))


def _with_unused(calls: Sequence[Call], outputs: set[str]) -> list[Call]:
    """Return the calls with the values that are not read after each of them."""
    seen, result = set(outputs), []
    for call in reversed(calls):
        names = {*_refs([call.args, list(call.kwargs.values())]), *_names(call.results)}
        result.append(call._replace(unused=tuple(names - seen)))
        seen |= names
    return result[::-1]


def _refs(value: Any) -> set[str]:
    if isinstance(value, Ref):
        return {value.name}
    return set().union(*map(_refs, value)) if isinstance(value, list) else set()


def _names(results: Sequence[Any]) -> set[str]:
    lists = [result if isinstance(result, list) else [result] for result in results]
    return {name for names in lists for name in names if name is not None}


def _name_outputs(values: Sequence[Any], module: Any) -> dict[str, str]:
    """Return the graph's names of the outputs that are tensors, by their names for users."""
    root = next((e for e in module["module_call_graph"] if not e["fqn"]), None) or {}
    text = (root.get("signature") or {}).get("out_spec") or "[1, {}]"
    fields = module.get("treespec_namedtuple_fields") or {}
    paths = _leaf_paths(json.loads(text)[1], fields, ())
    outputs: dict[str, str] = {}
    for index, value in enumerate(values):
        if "as_tensor" not in value:
            continue
        name = str(value["as_tensor"]["name"])
        path = paths[index] if len(paths) == len(values) else ()
        key = ".".join(path) or name
        outputs[key if key not in outputs else f"{key}_{index}"] = name
    return outputs


def _leaf_paths(
    spec: Any, fields: Mapping[str, Any], path: tuple[str, ...]
) -> list[tuple[str, ...]]:
    """Return the keys of dicts and named tuples that lead to each leaf of a structure."""
    if not spec or spec.get("type") is None:
        return [path]
    children = spec.get("children_spec") or []
    keys = _keys(spec, fields)
    if len(keys) != len(children):
        # A tuple has no names. Its entries are named by the graph.
        return [() for child in children for _ in _leaf_paths(child, fields, ())]
    return [
        leaf
        for key, child in zip(keys, children, strict=True)
        for leaf in _leaf_paths(child, fields, (*path, key))
    ]


def _keys(spec: Any, fields: Mapping[str, Any]) -> list[str]:
    known = fields.get(spec["type"])
    if known is not None:
        return [str(name) for name in known["field_names"]]
    try:
        context = json.loads(spec.get("context") or "null")
    except ValueError:
        return []
    return [str(key) for key in context] if isinstance(context, list) else []
