"""Export a network to every requested format; each file is loaded and compared first."""

import copy
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch.export import ExportedProgram

from kdcore.evaluation import metrics
from kdcore.evaluation.report_builder import Evaluator
from kdcore.export import exported_program
from kdcore.export.artifacts import write_checked_student
from kdcore.export.exportable import ExportableNetwork
from kdcore.export.parity import OpenFile, ParityImages, evaluate_export, select_images
from kdcore.runtime.atomic_files import atomic_write
from kdcore.schema.exports import EXPORTS, ExportFormat
from kdcore.schema.report import ExportEvaluation, Report
from kdcore.weights.safetensors_io import ParityError


class ExportResults(NamedTuple):
    """Evaluations of the exported files, and reasons for refused formats."""

    evaluations: dict[ExportFormat, ExportEvaluation]
    refused: dict[ExportFormat, str]

    def log_messages(self) -> list[str]:
        """Return a message for every refusal and every warning."""
        warnings = {
            kind: export_evaluation.warning
            for kind, export_evaluation in self.evaluations.items()
            if export_evaluation.warning
        }
        return [f"{kind}: {message}" for kind, message in (self.refused | warnings).items()]

    def add_to_report(self, report: Report) -> Report:
        """Return ``report`` with the exports, and the student's speed in onnxruntime from ONNX."""
        fields: dict[str, object] = {"exports": self.evaluations, "refused_exports": self.refused}
        if (onnx := self.evaluations.get("onnx")) is not None:
            speed = {"cpu_latency_ms": onnx.latency_ms, "cpu_images_per_s": onnx.images_per_s}
            fields["student"] = report.student.model_copy(update=speed)
        return report.model_copy(update=fields)


def export_all(
    folder: Path,
    formats: Sequence[ExportFormat],
    exportable: ExportableNetwork,
    evaluator: Evaluator,
) -> ExportResults:
    """Write ``{stem}{suffix}`` to ``folder`` for every format, compared on the test images.

    A format that cannot be exported, or whose logits differ, is refused with its reason and leaves
    no file. Only safetensors raises :class:`ParityError`, because every job needs it. Exceptions of
    ``evaluator.check_cancelled`` are not caught.
    """
    exporter, parity_images = _Exporter(exportable, evaluator), select_images(exportable, evaluator)
    exports = ExportResults({}, {})
    for kind in EXPORTS:
        path = folder / EXPORTS[kind].file_name(exportable.stem)
        if kind not in formats:
            continue
        evaluator.check_cancelled()
        if kind == "safetensors":
            exports.evaluations[kind] = _export_weights(path, exportable, evaluator)
            continue
        try:
            data = exporter.encode(kind)
        except Exception as error:  # noqa: BLE001 - exporters raise many types
            exports.refused[kind] = f"this network cannot be exported: {first_line(error)}"
            continue
        try:
            exports.evaluations[kind] = _write_checked(kind, path, data, exporter, parity_images)
        except ParityError as error:
            exports.refused[kind] = str(error)
    return exports


def _export_weights(
    path: Path, exportable: ExportableNetwork, evaluator: Evaluator
) -> ExportEvaluation:
    weights = exportable.network.network.state_dict()
    file_logits, max_difference = write_checked_student(
        path, weights, copy.deepcopy(exportable.network), evaluator, exportable.logits
    )
    return ExportEvaluation(
        file=path.name,
        top1=metrics.top_k_accuracy(file_logits, evaluator.target, 1),
        agreement=metrics.agreement(file_logits, exportable.logits),
        max_rel_difference=max_difference,
        num_images=len(evaluator.target),
        size_bytes=path.stat().st_size,
        latency_ms=exportable.speed.latency_ms,
        images_per_s=exportable.speed.images_per_s,
    )


def _write_checked(
    kind: ExportFormat, path: Path, data: bytes, exporter: "_Exporter", parity_images: ParityImages
) -> ExportEvaluation:
    # The mark is a prefix, because torch loads a program by its suffix.
    trial = path.with_name(f".unchecked.{path.name}")
    try:
        with atomic_write(trial) as partial:
            partial.write_bytes(data)
        open_file = exporter.opener(kind, trial)
        export_evaluation = evaluate_export(
            kind, trial, open_file, exporter.exportable, exporter.evaluator, parity_images
        )
        trial.replace(path)
    finally:
        trial.unlink(missing_ok=True)
    return export_evaluation.model_copy(update={"file": path.name})


class _Exporter:
    """Traces the network once for all formats.

    onnx and onnxruntime take a second to import, so only their formats import them.
    """

    def __init__(self, exportable: ExportableNetwork, evaluator: Evaluator) -> None:
        self.exportable, self.evaluator = exportable, evaluator

    @functools.cached_property
    def program(self) -> ExportedProgram:
        return exported_program.export_program(
            self.exportable.network.network, self.evaluator.input_shape(self.exportable.network)
        )

    @functools.cached_property
    def onnx(self) -> bytes:
        from kdcore.export import onnx

        return onnx.export_onnx(self.program, self.exportable.metadata)

    @functools.cached_property
    def int8(self) -> bytes:
        if self.exportable.calibration is None:
            raise ValueError("there are no training images for the calibration")
        from kdcore.export import onnx_int8

        return onnx_int8.quantize(
            self.onnx, self.exportable.network.prepare(self.exportable.calibration)
        )

    def encode(self, kind: ExportFormat) -> bytes:
        """Return the bytes of the file."""
        if kind == "exported_program":
            return exported_program.serialize(self.program)
        return self.onnx if kind == "onnx" else self.int8

    def opener(self, kind: ExportFormat, path: Path) -> OpenFile:
        """Return the function that loads the file to run it."""
        if kind == "exported_program":
            run_batch = exported_program.open_file(path)
            return lambda threads: run_batch
        from kdcore.export import onnx

        return functools.partial(onnx.open_file, path)


def first_line(error: Exception) -> str:
    """Return the first line of a message, because messages of exporters fill pages."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].strip()[:300]}" if lines else type(error).__name__
