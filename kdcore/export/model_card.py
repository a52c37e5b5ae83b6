"""The model card: a student's origin and accuracy, as JSON for programs and Markdown for people.

The Markdown begins with the metadata of the Hugging Face Hub
(https://huggingface.co/docs/hub/model-cards#model-card-metadata).
"""

import re
from typing import Any

from kdcore.protocol.requests import RunRequest
from kdcore.schema.asset_info import DatasetInfo
from kdcore.schema.catalog import PROGRAM_FORMATS, architectures
from kdcore.schema.exports import EXPORTS, STUDENT_FILE
from kdcore.schema.report import Evaluation, Latency, Report
from kdcore.schema.schemes import SCHEMES

INTENDED_USE = (
    "For images like those of the training data, prepared as described in `config.json`. The "
    "network predicts one of its classes for every image, even if the image shows none of them."
)
LIMITATIONS = (
    "Accuracy was measured on one test split from the same source as the training data; it may "
    "differ for other sources. The calibration error shows how reliable the probabilities are.",
    "`model_card.json` has the accuracy of each class; check it before you rely on a single class.",
    "Latency was measured on the machine named above. An unsteady one was disturbed by other load "
    "on that machine.",
)
TEACHER_LIMITATION = (
    "A student learns its teacher's mistakes and biases, too; agreement includes these."
)
_NOT_METRICS = {"versions", "details", "device", "exports", "refused_exports", "ensemble_exports"}
_NOT_METRICS |= {"confusion", "disagreements"}


def model_card(
    request: RunRequest,
    info: DatasetInfo,
    report: Report,
    sha256: str,
    student_config: dict[str, Any],
) -> dict[str, Any]:
    """Return the card as JSON values, for a student of digest ``sha256`` and its config.json."""
    job = request.job
    entry = architectures().get(job.student.architecture)
    return {
        "name": job.name,
        "architecture": job.student.network,
        "license": entry.license if entry else None,
        "student_sha256": sha256,
        "teachers": [
            {"architecture": t.architecture, "sha256": t.sha256, "weight": t.weight}
            for t in request.teachers
        ],
        "init_sha256": request.init.sha256 if request.init else None,
        "data": _data(info),
        "recipe": {
            "method": [method.model_dump(mode="json") for method in job.method],
            "label_weight": job.label_weight,
            **{key: value for key, value in report.details.items() if key == "weights"},
            "scheme": job.scheme.model_dump(mode="json"),
            "training": job.training.model_dump(mode="json"),
        },
        "seed": job.seed,
        "device": report.device,
        "versions": report.versions,
        "intended_use": INTENDED_USE,
        "limits": [*LIMITATIONS, *([TEACHER_LIMITATION] if job.teachers else [])],
        "input": _input_spec(student_config),
        "exports": _exports(report),
        "statement": report.seeds.statement,
        "metrics": report.model_dump(mode="json", exclude=_NOT_METRICS),
    }


def _input_spec(student_config: dict[str, Any]) -> dict[str, Any]:
    return {
        "layout": "(batch, channels, height, width), float32",
        "channels": student_config["in_channels"],
        "size": student_config["input_size"],
        "scaled_to": [0, 1],
        **student_config["normalization"],
    }


def _data(info: DatasetInfo) -> dict[str, Any]:
    return {
        "digest": info.digest,
        "classes": list(info.classes),
        "split_seed": info.split_seed,
        "counts": {name: split.count for name, split in info.splits.items()},
    }


def _exports(report: Report) -> list[dict[str, Any]]:
    exports = [*report.exports.items(), *report.ensemble_exports.items()]
    return [{"format": kind, **entry.model_dump(mode="json")} for kind, entry in exports]


def render_model_card(card: dict[str, Any], report: Report) -> str:
    """Return the values of :func:`model_card` as Markdown, with metadata for the Hub."""
    parts = [
        f"---\n{_hub_metadata(card, report)}\n---\n",
        f"# {_code(card['name'])}\n",
        f"A {_code(card['architecture'])}, trained with {_training_summary(card['recipe'])}.\n",
        *_origin(card),
        "\n## On the test split\n",
        *_table(report),
        *([f"\nTest top-1: {card['statement']}."] if card["statement"] else []),
        *(f"\n**Warning**: {finding.sentence}." for finding in report.verdict.findings),
        *_files(card),
        "\n## Recipe\n",
        *_recipe(card["recipe"]),
        "\n## Use and limits\n",
        card["intended_use"],
        "",
        *(f"- {sentence}" for sentence in card["limits"]),
        "\nClasses, recipe and all numbers are in `model_card.json`.\n",
    ]
    return "\n".join(parts)


def _code(text: str) -> str:
    """Format one line of any text as code: Markdown and HTML in it have no effect.

    The span has one backtick more than any run of backticks in the text
    (https://spec.commonmark.org/0.31.2/#code-spans).
    """
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if text[:1] in ("`", " ") or text[-1:] in ("`", " ") else ""
    return f"{fence}{space}{text}{space}{fence}"


def _hub_metadata(card: dict[str, Any], report: Report) -> str:
    from huggingface_hub import EvalResult, ModelCardData  # slow to import

    accuracy = EvalResult(
        task_type="image-classification",
        dataset_type=card["data"]["digest"],
        dataset_name="test split",
        metric_type="accuracy",
        metric_value=report.student.top1 / 100,
    )
    metadata = ModelCardData(
        model_name=card["name"],
        license=(card["license"] or "unknown").lower(),
        library_name="pytorch",
        pipeline_tag="image-classification",
        tags=["knowledge-distillation"],
        metrics=["accuracy"],
        eval_results=[accuracy],
    )
    return metadata.to_yaml()


def _training_summary(recipe: dict[str, Any]) -> str:
    methods = " + ".join(method["type"] for method in recipe["method"])
    scheme = recipe["scheme"]["type"]
    return methods if SCHEMES[scheme].is_default else f"{methods} and the scheme {scheme}"


def _origin(card: dict[str, Any]) -> list[str]:
    teachers = [f"{_code(t['architecture'])} (sha256 `{t['sha256']}`)" for t in card["teachers"]]
    counts = {"train": "training", "val": "validation", "test": "test"}
    split_counts = [f"{n} {counts.get(name, name)}" for name, n in card["data"]["counts"].items()]
    start = [f"- Started from weights with sha256 `{card['init_sha256']}`"]
    from_file = card["architecture"] in PROGRAM_FORMATS
    weights = "the evaluated file" if from_file else f"`{STUDENT_FILE}`"
    return [
        f"- Weights: {weights}, sha256 `{card['student_sha256']}`",
        f"- Teacher: {', '.join(teachers) or 'none'}",
        *(start if card["init_sha256"] else []),
        f"- Data: digest `{card['data']['digest']}`, {', '.join(split_counts)} images",
        f"- Seed: {card['seed']}",
        f"- License of the architecture: {card['license'] or 'unknown'}. The weights also derive "
        f"from the data{' and the teacher' if teachers else ''}, whose licenses apply as well",
        f"- Trained on {card['device']} with "
        + ", ".join(f"{name} {version}" for name, version in card["versions"].items()),
    ]


def _table(report: Report) -> list[str]:
    networks = {"student": report.student, "teacher": report.teacher, "baseline": report.baseline}
    return [
        "| network | top-1 % | agreement % | calibration error % | parameters | latency p50 ms |",
        "|---|---|---|---|---|---|",
        *(_row(name, network) for name, network in networks.items() if network),
    ]


def _row(name: str, network: Evaluation) -> str:
    agreement = "" if network.agreement is None else f"{network.agreement:.2f}"
    num_params = "" if network.num_params is None else f"{network.num_params:,}"
    return (
        f"| {name} | {network.top1:.2f} | {agreement} | {network.ece:.2f} | {num_params} "
        f"| {_latency(network.latency_ms)} |"
    )


def _image_counts(exports: list[dict[str, Any]]) -> str:
    counts = " or ".join(f"{count:,}" for count in sorted({e["num_images"] for e in exports}))
    return f"{counts} test images"


def _latency(latency: Latency) -> str:
    return f"{latency.p50:.2f}{' (unsteady)' if latency.unsteady else ''}"


def _files(card: dict[str, Any]) -> list[str]:
    if not card["exports"]:
        return []
    exports = card["exports"]
    warnings = [f"- `{entry['file']}`: {entry['warning']}" for entry in exports if entry["warning"]]
    return [
        "\n## Files\n",
        "Every row was measured by running that file, in onnxruntime or PyTorch with default "
        f"options, on {_image_counts(exports)}. Top-1 is the share of images whose largest logit "
        "(of equal ones the first) is that of the true class. Agreement is with the network in "
        "PyTorch.\n",
        "| file | top-1 % | agreement % | bytes | latency p50 ms |",
        "|---|---|---|---|---|",
        *(
            f"| `{entry['file']}` | {entry['top1']:.2f} | {entry['agreement']:.2f} "
            f"| {entry['size_bytes']:,} | {_latency(Latency(**entry['latency_ms']))} |"
            for entry in exports
        ),
        "",
        *_input_lines(card["input"]),
        *warnings,
        *([""] if warnings else []),
        *(f"- `{entry['file']}`: {EXPORTS[entry['format']].description}" for entry in exports),
    ]


def _input_lines(input_spec: dict[str, Any]) -> list[str]:
    """Describe the input, because a wrong scale gives wrong predictions without an error."""
    side, mean, std = input_spec["size"], input_spec["mean"], input_spec["std"]
    return [
        f"Every file takes float32 images (batch, {input_spec['channels']}, {side}, {side}). "
        f"Divide pixels by 255, subtract the mean {mean} and divide by the deviation {std} of each "
        "channel. The files do not do this themselves.",
        "",
    ]


def _recipe(recipe: dict[str, Any]) -> list[str]:
    training = recipe["training"]
    schedule = training["schedule"]["type"]
    return [
        *(f"- Method {_call(method)}" for method in recipe["method"]),
        f"- Weight of the labels: {_number(recipe['label_weight'])}",
        *_weights(recipe.get("weights", {})),
        f"- Scheme {_call(recipe['scheme'])}",
        f"- Augmentation {_calls(training['augmentation'])}",
        f"- {training['epochs']} epochs, batches of {training['batch_size']}, "
        f"optimizer {_call(training['optimizer'])}, schedule {schedule}",
    ]


def _weights(weights: dict[str, dict[str, float]]) -> list[str]:
    """The weights that were found before training, by network."""
    return [
        f"- Weights of the {name} at the start: "
        + ", ".join(f"{term} {weight:.4g}" for term, weight in terms.items())
        for name, terms in weights.items()
    ]


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _calls(params: dict[str, Any] | list[dict[str, Any]]) -> str:
    """Format one augmentation, or several in their order."""
    return " then ".join(map(_call, params if isinstance(params, list) else [params]))


def _call(params: dict[str, Any]) -> str:
    """Format like ``kd(temperature=4.0, weight=0.9)``, without parameters that are not set."""
    arguments = ", ".join(f"{k}={v}" for k, v in params.items() if k != "type" and v is not None)
    return _code(f"{params['type']}({arguments})")
