"""The model card and the configuration describe the student, its origin and its accuracy."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from kdcore.data import dataset
from kdcore.data.dataset import SplitArrays
from kdcore.data.ingest import statistics
from kdcore.evaluation.report_builder import NetworkCost, summarize_seeds, verdict
from kdcore.export.artifacts import publish_artifacts
from kdcore.export.exportable import onnx_metadata
from kdcore.export.exporter import export_all
from kdcore.export.model_card import render_model_card
from kdcore.models.normalized_model import NormalizedModel
from kdcore.recipes.config import RecipeModel
from kdcore.recipes.model_files import ModelResolver
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.old_spelling import old_spelling
from kdcore.schema.report import EpochSummary, Report
from stillhouse import student as student_package
from tests.kdcore.export.conftest import CLASSES, NORMALIZATION, SPEED, Digits, make_exportable
from tests.kdcore.training.helpers import World, events_of, sha256

NAME = "``` <script>alert(1)</script> | [x](javascript:1) *a* &lt; --- # `b`"
"""A name that would be markup in Markdown, HTML and YAML."""


@pytest.fixture(scope="module")
def workdir(
    tmp_path_factory: pytest.TempPathFactory, digits: Digits, student: NormalizedModel
) -> Path:
    root = tmp_path_factory.mktemp("published")
    folder, evaluator = root / "artifacts", digits.evaluator
    train = SplitArrays(digits.train.numpy(), digits.train_target.numpy())
    test = SplitArrays(evaluator.images.numpy(), evaluator.target.numpy())
    splits = {"train": train, "val": test, "test": test}
    info = statistics.describe(CLASSES, splits, 0)
    dataset.write_dataset(root / "dataset.safetensors", splits, info)
    world = World(root / "dataset.safetensors", info)
    request = world.request("supervised", 0, exports=["safetensors", "onnx", "onnx_int8"])
    request = request.model_copy(update={"job": request.job.model_copy(update={"name": NAME})})
    exportable = make_exportable(digits, student)
    evaluation = evaluator.evaluate(exportable.logits, None, NetworkCost(1, 2, 3, SPEED))
    report = Report(
        student=evaluation,
        teacher=None,
        baseline=None,
        verdict=verdict(None, evaluation, None),
        seeds=summarize_seeds([92.0, 93.0], [90.0, 91.5]),
        epochs=EpochSummary(best_epoch=1, best_val_top1=60.0, last_val_top1=60.0),
        normalization=NORMALIZATION,
        device="a machine",
        versions={"torch": torch.__version__},
    )
    exports = export_all(folder, request.job.exports, exportable, evaluator)
    report = exports.add_to_report(report)
    assert report.student.cpu_latency_ms == exports.evaluations["onnx"].latency_ms
    assert report.student.cpu_images_per_s == exports.evaluations["onnx"].images_per_s
    events = EventWriter(root / "events.jsonl", root)
    publish_artifacts(folder, events, request, info, report, NORMALIZATION)
    events.close()
    return root


def test_every_file_has_an_artifact_event(workdir: Path) -> None:
    artifacts = {event["name"]: event for event in events_of(workdir, "artifact")}
    assert {name: event["format"] for name, event in artifacts.items()} == {
        "student.safetensors": "safetensors",
        "student.onnx": "onnx",
        "student.int8.onnx": "onnx_int8",
        "config.json": "json",
        "model_card.json": "json",
        "model_card.md": "markdown",
    }
    for event in artifacts.values():
        assert event["sha256"] == sha256(workdir / event["path"])


def test_json_card_has_the_values_for_programs(workdir: Path) -> None:
    card = json.loads((workdir / "artifacts" / "model_card.json").read_text())
    assert card["student_sha256"] == sha256(workdir / "artifacts" / "student.safetensors")
    assert [entry["format"] for entry in card["exports"]] == ["safetensors", "onnx", "onnx_int8"]
    assert card["exports"][2]["top1"] > 60
    assert card["recipe"]["training"]["augmentation"]["type"] == "crop_flip"
    assert card["recipe"]["scheme"]["type"] == "offline"
    assert card["statement"] == "distillation helped by 1.8 ± 0.4 points (2 seeds)"
    assert card["license"] == "BSD-2-Clause"
    assert card["data"]["counts"]["train"] == 1200
    assert card["limits"]


def test_markdown_card_lists_every_file_and_its_accuracy(workdir: Path) -> None:
    text = (workdir / "artifacts" / "model_card.md").read_text()
    card = json.loads((workdir / "artifacts" / "model_card.json").read_text())
    for entry in card["exports"]:
        assert f"| `{entry['file']}` | {entry['top1']:.2f} | {entry['agreement']:.2f} |" in text
    assert "Test top-1: distillation helped by 1.8 ± 0.4 points (2 seeds)." in text
    assert "- Augmentation `crop_flip(padding=1, flip=True)`" in text
    assert f"digest `{card['data']['digest']}`, 1200 training, 300 validation, 300 test" in text
    assert "## Use and limits" in text
    assert "\n\n\n" not in text


def test_markdown_card_names_a_scheme_that_is_not_the_default(workdir: Path) -> None:
    card = json.loads((workdir / "artifacts" / "model_card.json").read_text())
    report = Report.model_validate(
        card["metrics"] | {"device": card["device"], "versions": card["versions"]}
    )
    assert "trained with supervised.\n" in render_model_card(card, report)
    card["recipe"]["scheme"] = {"type": "born_again", "generations": 2}
    assert "with supervised and the scheme born_again.\n" in render_model_card(card, report)


def test_markdown_card_has_the_metadata_of_the_hub(workdir: Path) -> None:
    card = ModelCard.load(workdir / "artifacts" / "model_card.md")
    values = json.loads((workdir / "artifacts" / "model_card.json").read_text())
    assert (card.data.license, card.data.metrics) == ("bsd-2-clause", ["accuracy"])
    (accuracy,) = card.data.eval_results
    assert accuracy.metric_value == pytest.approx(values["metrics"]["student"]["top1"] / 100)
    assert accuracy.dataset_type == values["data"]["digest"]
    assert card.data.model_name == values["name"] == NAME


def test_name_is_plain_text_in_the_markdown_card(workdir: Path) -> None:
    text = ModelCard.load(workdir / "artifacts" / "model_card.md").text
    tokens = MarkdownIt("commonmark").parse(text)
    heading = next(tokens[i + 1] for i, token in enumerate(tokens) if token.tag == "h1")
    assert [(part.type, part.content) for part in heading.children or []] == [("code_inline", NAME)]
    assert "html_block" not in {token.type for token in tokens}


def test_student_with_a_configuration_in_the_old_spelling_is_loaded(
    workdir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "student"
    shutil.copytree(workdir / "artifacts", folder)
    config = json.loads((folder / "config.json").read_text())
    config[old_spelling("normalization")] = config.pop("normalization")
    (folder / "config.json").write_text(json.dumps(config))
    _, loaded = student_package.load(folder)
    assert loaded["normalization"] == {"mean": [0.3], "std": [0.37]}
    assert student_package.top1(folder, workdir / "dataset.safetensors") > 60
    resolver = ModelResolver(tmp_path, None, tmp_path, CancellationToken())
    model = resolver.resolve(RecipeModel(weights=str(folder)), "teacher")
    assert model.normalization == NORMALIZATION


def test_configuration_describes_network_and_input(workdir: Path) -> None:
    config = json.loads((workdir / "artifacts" / "config.json").read_text())
    assert config == {
        "architecture": "cifar/resnet8",
        "num_classes": 10,
        "in_channels": 1,
        "channels": None,
        "input_size": 8,
        "normalization": {"mean": [0.3], "std": [0.37]},
        "sixteen_bit_range": None,
        "classes": list(CLASSES),
    }


def test_metadata_of_onnx_has_the_range_of_sixteen_bits() -> None:
    arguments = ("cifar/resnet8", CLASSES, NORMALIZATION, 8)
    assert "sixteen_bit_range" not in onnx_metadata(*arguments)
    assert onnx_metadata(*arguments, 4096)["sixteen_bit_range"] == "4096"
