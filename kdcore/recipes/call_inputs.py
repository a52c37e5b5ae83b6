"""Turn the objects of a Python call into fields of a recipe, and into files that these name.

A data set may be a path, arrays, or a data set or loader of torch. A network may be a path, the
result of a run, a state dict or an ``nn.Module``. Files are named by their content, so that an
equal call finds the run of an earlier one.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from kdcore.recipes import recipe_data
from kdcore.recipes.config import RecipeDataset, dataset_config
from kdcore.runtime.atomic_files import atomic_write
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import UserError
from kdcore.schema.asset_info import DatasetFacts
from kdcore.schema.exports import STUDENT_FILE
from kdcore.schema.validation.class_matching import match_classes

if TYPE_CHECKING:
    from torch import nn

_DATASET_TYPES = (
    "a path, a source such as builtin:digits, arrays (images, labels), a dict of arrays, a torch "
    "Dataset or DataLoader, or a dict of those with the keys train, val and test, is expected"
)
_MODEL_TYPES = (
    "an nn.Module, a path, the result of a run, or a dict with `weights` (one of these, or a state "
    "dict) is expected"
)
_STUDENT_TYPES = "the name of an architecture, an nn.Module, or a dict of a recipe is expected"
_MODULE_SETTINGS = ("normalization", "input_size", "num_classes", "architecture")
"""Fields of a teacher that become the configuration of a module."""


class CallInputs:
    """Writes the objects of one call into files.

    Args:
        folder: the folder for files, which are named by their content.
        cancellation: checked while a data set is ingested.
    """

    def __init__(self, folder: Path, cancellation: CancellationToken) -> None:
        self.folder = folder
        self._cancellation = cancellation
        self._facts: DatasetFacts | None = None

    def to_recipe(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the recipe with paths in place of objects.

        Raises ``UserError`` that names the argument, its type, and the types that are right.
        """
        recipe = dict(body)
        if "dataset" in recipe:
            evaluates = recipe.get("kind") == "evaluate"
            recipe["dataset"] = self._dataset(recipe["dataset"], for_evaluation=evaluates)
        if recipe.get("teachers") is not None:
            recipe["teachers"] = [
                self._model(teacher, f"teachers[{index}]", recipe)
                for index, teacher in enumerate(_as_list(recipe["teachers"]))
            ]
        if recipe.get("model") is not None:
            model = self._reorder_classes(recipe["model"], recipe)
            recipe["model"] = self._model(model, "model", recipe)
        if recipe.get("student") is not None:
            recipe["student"] = self._student(recipe["student"], recipe)
        return recipe

    def _dataset(self, dataset: Any, *, for_evaluation: bool) -> Any:
        if isinstance(dataset, Path):
            return str(dataset.resolve())
        if isinstance(dataset, str) or _is_recipe_dataset(dataset):
            return _with_text_paths(dataset)
        from kdcore.recipes.torch_data import is_torch_data, read_splits

        if isinstance(dataset, Mapping):
            values = list(dataset.values())
            if values and all(is_torch_data(value) for value in values):
                dataset = read_splits(dataset, for_evaluation=for_evaluation)
            elif not values or not all(hasattr(value, "__array__") for value in values):
                raise _type_error("dataset", dataset, _DATASET_TYPES)
        elif is_torch_data(dataset):
            dataset = read_splits(dataset, for_evaluation=for_evaluation)
        elif not _is_pair_of_arrays(dataset):
            raise _type_error("dataset", dataset, _DATASET_TYPES)
        return str(recipe_data.write_arrays(_on_cpu(dataset), self.folder).resolve())

    def _model(self, model: Any, name: str, recipe: dict[str, Any]) -> Any:
        fields = dict(model) if isinstance(model, Mapping) else {"weights": model}
        weights = fields.get("weights")
        if weights is None:
            return fields
        if not _is_module(weights):
            weights = getattr(weights, "path", weights)  # the result of a run
        if isinstance(weights, Mapping):
            weights = self._write_state_dict(weights, name)
        elif _is_module(weights):
            settings = {key: fields.pop(key) for key in _MODULE_SETTINGS if key in fields}
            weights = self._write_module(weights, name, recipe, settings).folder
        elif not isinstance(weights, str | Path):
            raise _type_error(name, weights, _MODEL_TYPES)
        return {**fields, "weights": str(weights)}

    def _reorder_classes(self, model: Any, recipe: dict[str, Any]) -> Any:
        """Put the classes of a module that is evaluated into the data set's order, by its names.

        Other networks are rebuilt in this order, which an object of the caller cannot be.
        """
        fields = model if isinstance(model, Mapping) else {}
        module, names = fields.get("weights"), fields.get("class_names")
        if not _is_module(module) or not isinstance(names, list | tuple):
            return model
        from kdcore.models.normalized_model import NormalizedModel
        from kdcore.recipes.user_modules import ReorderedClasses, unwrap

        match = match_classes(self._dataset_facts(recipe).classes, names, len(names))
        if match is None or match.class_map is None:
            return model
        class_map, module = match.class_map, unwrap(module)
        if isinstance(module, NormalizedModel):
            fields, module = {**_settings_of(module), **fields}, module.network
        reordered = ReorderedClasses(module, class_map, len(names))
        return {**fields, "weights": reordered, "class_names": [names[n] for n in class_map]}

    def _student(self, student: Any, recipe: dict[str, Any]) -> Any:
        fields = dict(student) if isinstance(student, Mapping) else {"architecture": student}
        architecture = fields.get("architecture")
        if _is_module(architecture):
            written = self._write_module(architecture, "student", recipe, {})
            num_classes = self._dataset_facts(recipe).num_classes
            if written.num_classes != num_classes:
                raise UserError(
                    "student_incompatible",
                    f"student has {written.num_classes} outputs, the data set {num_classes} "
                    f"classes: give its last layer {num_classes} outputs",
                )
            fields["architecture"] = written.architecture
            fields.setdefault("init", str(written.folder))
        elif not isinstance(architecture, str | None):
            raise _type_error("student", architecture, _STUDENT_TYPES)
        return fields

    def _write_state_dict(self, state_dict: Mapping[str, Any], name: str) -> Path:
        """Write a state dict to a file named by its content."""
        from torch import Tensor

        from kdcore.weights.safetensors_io import encode_safetensors

        if not state_dict or not all(isinstance(value, Tensor) for value in state_dict.values()):
            raise _type_error(name, state_dict, "a state dict with tensors alone is expected")
        encoded = encode_safetensors(dict(state_dict))
        path = self.folder / f"weights-{hashlib.sha256(encoded).hexdigest()[:16]}.safetensors"
        with atomic_write(path) as partial:
            partial.write_bytes(encoded)
        return path.resolve()

    def _write_module(
        self, module: "nn.Module", name: str, recipe: dict[str, Any], settings: dict[str, Any]
    ) -> "_WrittenModule":
        """Register a network of this process; write its weights as the folder of a run has them."""
        from kdcore.models.normalized_model import NormalizedModel
        from kdcore.recipes.user_modules import ImageShape, register_module, unwrap
        from kdcore.weights.safetensors_io import encode_safetensors

        module = unwrap(module)
        if isinstance(module, NormalizedModel):
            settings = _settings_of(module) | settings
            module = unwrap(module.network)
        facts = self._dataset_facts(recipe)
        size = settings.get("input_size") or facts.image_size
        try:
            registered = register_module(module, ImageShape(facts.in_channels, size))
        except UserError as error:
            raise UserError(error.code, f"{name}: {error.message}") from error
        channels = registered.in_channels
        identity = {"mean": [0.0] * channels, "std": [1.0] * channels}
        config = {
            "architecture": registered.name,
            "num_classes": registered.num_classes,
            "in_channels": channels,
            "input_size": size,
            "normalization": settings.get("normalization") or identity,
        }
        text = json.dumps(config, sort_keys=True, default=dict)
        encoded = encode_safetensors(registered.network.state_dict())
        digest = hashlib.sha256(encoded + text.encode()).hexdigest()[:16]
        folder = self.folder / f"module-{digest}"
        for file_name, content in ((STUDENT_FILE, encoded), ("config.json", text.encode())):
            with atomic_write(folder / file_name) as partial:
                partial.write_bytes(content)
        return _WrittenModule(registered.name, registered.num_classes, folder.resolve())

    def _dataset_facts(self, recipe: dict[str, Any]) -> DatasetFacts:
        """Ingest the data set, because a module is tried on its images.

        The recipe then names the ingested data set, so that it is not ingested twice.
        """
        if self._facts is None:
            dataset = recipe.get("dataset")
            if dataset is None:
                raise UserError("job_invalid", "dataset is required")
            config = dataset_config(
                dataset if isinstance(dataset, str) else RecipeDataset.model_validate(dataset)
            )
            digest = hashlib.sha256(config.model_dump_json().encode()).hexdigest()[:16]
            prepared = recipe_data.prepare_dataset(
                config,
                Path.cwd(),
                self.folder / f"data-{digest}",
                self._cancellation,
                for_evaluation=recipe.get("kind") == "evaluate",
            )
            recipe["dataset"] = str(Path(prepared.file.path).resolve())
            self._facts = prepared.facts
        return self._facts


class _WrittenModule(NamedTuple):
    architecture: str
    num_classes: int
    folder: Path


def _settings_of(model: Any) -> dict[str, Any]:
    """The preprocessing of a network that `DistillationResult.load` returned."""
    normalization = {name: getattr(model, name).flatten().tolist() for name in ("mean", "std")}
    return {"normalization": normalization, "input_size": model.input_size}


def _is_module(value: object) -> "TypeGuard[nn.Module]":
    # Without torch in this process no object can be one of its modules.
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _as_list(teachers: Any) -> list[Any]:
    if isinstance(teachers, list | tuple):
        return list(teachers)
    single = isinstance(teachers, str | Path | Mapping) or hasattr(teachers, "path")
    if single or _is_module(teachers):
        return [teachers]
    raise _type_error("teachers", teachers, f"a list is expected, and of each item: {_MODEL_TYPES}")


def _is_recipe_dataset(dataset: Any) -> bool:
    return isinstance(dataset, Mapping) and bool({"path", "source"} & dataset.keys())


def _with_text_paths(dataset: Any) -> Any:
    if isinstance(dataset, str):
        return dataset
    return {key: str(value) if isinstance(value, Path) else value for key, value in dataset.items()}


def _is_pair_of_arrays(dataset: Any) -> bool:
    pair = isinstance(dataset, tuple | list) and len(dataset) == 2
    return pair and all(hasattr(item, "__array__") or isinstance(item, list) for item in dataset)


def _on_cpu(arrays: Any) -> Any:
    if isinstance(arrays, Mapping):
        return {name: _on_cpu(values) for name, values in arrays.items()}
    if isinstance(arrays, tuple | list) and any(hasattr(item, "detach") for item in arrays):
        return tuple(_on_cpu(item) for item in arrays)
    return arrays.detach().cpu().numpy() if hasattr(arrays, "detach") else arrays


def _type_error(name: str, value: object, expected: str) -> UserError:
    if isinstance(value, type):
        fault = f"is the class {value.__name__}, not an object of it: write {value.__name__}(...)"
    else:
        keys = f" with the keys {sorted(map(str, value))[:8]}" if isinstance(value, Mapping) else ""
        fault = f"is of type {type(value).__name__}{keys}"
    return UserError("job_invalid", f"{name} {fault}; {expected}")
