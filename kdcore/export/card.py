"""The model card: where a student comes from and what it is worth, for people and for programs."""

from typing import Any

from kdcore.spec.assets import DatasetInfo
from kdcore.spec.catalogue import architectures
from kdcore.spec.protocol import RunRequest
from kdcore.spec.report import Evaluation, Report


def card(request: RunRequest, info: DatasetInfo, report: Report, sha256: str) -> dict[str, Any]:
    """The card as JSON values. ``sha256`` is of the student's safetensors file."""
    job = request.job
    entry = architectures().get(job.student.architecture)
    return {
        "name": job.name,
        "architecture": job.student.architecture,
        "licence": entry.licence if entry else None,
        "student_sha256": sha256,
        "teachers": [
            {"architecture": t.architecture, "sha256": t.sha256, "weight": t.weight}
            for t in request.teachers
        ],
        "init_sha256": request.init.sha256 if request.init else None,
        "data": {
            "digest": info.digest,
            "classes": list(info.classes),
            "split_seed": info.split_seed,
            "counts": {name: split.count for name, split in info.splits.items()},
        },
        "recipe": {
            "method": [method.model_dump(mode="json") for method in job.method],
            "label_weight": job.label_weight,
            "scheme": job.scheme.model_dump(mode="json"),
            "training": job.training.model_dump(mode="json"),
        },
        "seed": job.seed,
        "device": report.device,
        "versions": report.versions,
        "metrics": report.model_dump(mode="json", exclude={"versions", "details", "device"}),
    }


def as_markdown(card: dict[str, Any], report: Report) -> str:
    """The same card for people."""
    methods = " + ".join(method["type"] for method in card["recipe"]["method"])
    teachers = [f"`{t['architecture']}` (sha256 `{t['sha256']}`)" for t in card["teachers"]]
    lines = [
        f"# {card['name']}",
        "",
        f"A `{card['architecture']}`, taught by {methods}.",
        "",
        f"- Weights: `student.safetensors`, sha256 `{card['student_sha256']}`",
        f"- Teacher: {', '.join(teachers) or 'none'}",
        f"- Data: digest `{card['data']['digest']}`, {card['data']['counts']['train']} training, "
        f"{card['data']['counts']['val']} validation, {card['data']['counts']['test']} test images",
        f"- Seed: {card['seed']}",
        f"- Licence of the architecture: {card['licence'] or 'unknown'}; the weights also derive "
        "from the data and the teacher, whose licences apply",
        f"- Made on {card['device']} with "
        + ", ".join(f"{name} {number}" for name, number in card["versions"].items()),
        "",
        "## On the test split",
        "",
        *_table(report),
        "",
        "Classes, recipe and every number are in `model_card.json`.",
        "",
    ]
    return "\n".join(lines)


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
