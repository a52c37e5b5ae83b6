"""The model card for people."""

from typing import Any

from kdcore.schema.exports import EXPORTS
from kdcore.schema.report import Evaluation, Report


def render_model_card(card: dict[str, Any], report: Report) -> str:
    """The values of :func:`kdcore.export.model_card.card` as a page of Markdown."""
    parts = [
        f"# {card['name']}\n",
        f"A `{card['architecture']}`, taught by {_training_summary(card['recipe'])}.\n",
        *_origin(card),
        "\n## On the test split\n",
        *_table(report),
        *([f"\nTest top-1: {card['statement']}."] if card["statement"] else []),
        *_files(card),
        "\n## Recipe\n",
        *_recipe(card["recipe"]),
        "\n## Use and limits\n",
        card["intended_use"],
        "",
        *(f"- {sentence}" for sentence in card["limits"]),
        "\nClasses, recipe and every number are in `model_card.json`.\n",
    ]
    return "\n".join(parts)


def _training_summary(recipe: dict[str, Any]) -> str:
    methods = " + ".join(method["type"] for method in recipe["method"])
    scheme = recipe["scheme"]["type"]
    return methods if scheme == "offline" else f"{methods} in the scheme {scheme}"


def _origin(card: dict[str, Any]) -> list[str]:
    teachers = [f"`{t['architecture']}` (sha256 `{t['sha256']}`)" for t in card["teachers"]]
    counts = {"train": "training", "val": "validation", "test": "test"}
    split_counts = [f"{n} {counts.get(name, name)}" for name, n in card["data"]["counts"].items()]
    start = [f"- Started from weights with sha256 `{card['init_sha256']}`"]
    return [
        f"- Weights: `student.safetensors`, sha256 `{card['student_sha256']}`",
        f"- Teacher: {', '.join(teachers) or 'none'}",
        *(start if card["init_sha256"] else []),
        f"- Data: digest `{card['data']['digest']}`, {', '.join(split_counts)} images",
        f"- Seed: {card['seed']}",
        f"- License of the architecture: {card['license'] or 'unknown'}; the weights also derive "
        f"from the data{' and the teacher' if teachers else ''}, whose licenses apply",
        f"- Made on {card['device']} with "
        + ", ".join(f"{name} {number}" for name, number in card["versions"].items()),
    ]


def _table(report: Report) -> list[str]:
    networks = {"student": report.student, "teacher": report.teacher, "baseline": report.baseline}
    return [
        "| network | top-1 % | agreement % | calibration error % | parameters | latency p50 ms |",
        "|---|---|---|---|---|---|",
        *(_row(name, network) for name, network in networks.items() if network),
    ]


def _row(name: str, network: Evaluation) -> str:
    agreed = "" if network.agreement is None else f"{network.agreement:.2f}"
    return (
        f"| {name} | {network.top1:.2f} | {agreed} | {network.ece:.2f} | {network.num_params:,} "
        f"| {network.latency_ms.p50:.2f} |"
    )


def _files(card: dict[str, Any]) -> list[str]:
    if not card["exports"]:
        return []
    exports = card["exports"]
    warnings = [f"- `{entry['file']}`: {entry['warning']}" for entry in exports if entry["warning"]]
    return [
        "\n## Files\n",
        "Each was opened and run on test images before it was published; agreement is with the "
        "network in PyTorch.\n",
        "| file | top-1 % | agreement % | bytes | latency p50 ms |",
        "|---|---|---|---|---|",
        *(
            f"| `{entry['file']}` | {entry['top1']:.2f} | {entry['agreement']:.2f} "
            f"| {entry['size_bytes']:,} | {entry['latency_ms']['p50']:.2f} |"
            for entry in exports
        ),
        "",
        *_input(card["input"]),
        *warnings,
        *([""] if warnings else []),
        *(f"- `{entry['file']}`: {EXPORTS[entry['format']].description}" for entry in exports),
    ]


def _input(input_spec: dict[str, Any]) -> list[str]:
    """What every file expects: a wrong scale gives answers, and wrong ones."""
    side, numbers = input_spec["size"], {name: f"{input_spec[name]}" for name in ("mean", "std")}
    return [
        f"Every file takes float32 images (batch, {input_spec['channels']}, {side}, "
        f"{side}): pixels "
        f"divided by 255, minus the mean {numbers['mean']}, divided by the deviation "
        f"{numbers['std']}, each of its channel. None of them does this by itself.",
        "",
    ]


def _recipe(recipe: dict[str, Any]) -> list[str]:
    training = recipe["training"]
    schedule = training["schedule"]["type"]
    return [
        *(f"- Method {_call(method)}" for method in recipe["method"]),
        f"- Weight of the labels: {recipe['label_weight']:g}",
        f"- Scheme {_call(recipe['scheme'])}",
        f"- Augmentation {_calls(training['augmentation'])}",
        f"- {training['epochs']} epochs, batches of {training['batch_size']}, "
        f"optimizer {_call(training['optimizer'])}, schedule {schedule}",
    ]


def _calls(params: dict[str, Any] | list[dict[str, Any]]) -> str:
    """One, or several in their order."""
    return " then ".join(map(_call, params if isinstance(params, list) else [params]))


def _call(params: dict[str, Any]) -> str:
    """Such as ``kd(temperature=4.0, weight=0.9)``; what is not set is left out."""
    arguments = ", ".join(f"{k}={v}" for k, v in params.items() if k != "type" and v is not None)
    return f"`{params['type']}({arguments})`"
