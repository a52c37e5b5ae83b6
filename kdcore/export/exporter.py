"""A network in every form that was asked for: made, opened again, compared, and only then there."""

import copy
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch.export import ExportedProgram

from kdcore.evaluation import metrics
from kdcore.evaluation.report_builder import TestBench
from kdcore.export import exported_program as program
from kdcore.export.artifacts import checked_student
from kdcore.export.exportable import Source
from kdcore.export.parity import Sample, evaluation, sample
from kdcore.export.runners import Runner
from kdcore.runtime.files import replacing
from kdcore.schema.exports import EXPORTS, ExportFormat
from kdcore.schema.report import ExportEvaluation, Report
from kdcore.weights.safetensors_io import ParityError


class Exports(NamedTuple):
    """What became of the forms that were asked for."""

    made: dict[ExportFormat, ExportEvaluation]
    refused: dict[ExportFormat, str]

    def sentences(self) -> list[str]:
        """What people should know, for the log: every refusal and every warning."""
        warned = {kind: one.warning for kind, one in self.made.items() if one.warning}
        return [f"{kind}: {told}" for kind, told in (self.refused | warned).items()]

    def on(self, report: Report) -> Report:
        """The report with these in it; the student's speed in onnxruntime is the ONNX file's."""
        fields: dict[str, object] = {"exports": self.made, "refused_exports": self.refused}
        if (onnx := self.made.get("onnx")) is not None:
            speed = {"cpu_latency_ms": onnx.latency_ms, "cpu_images_per_s": onnx.images_per_s}
            fields["student"] = report.student.model_copy(update=speed)
        return report.model_copy(update=fields)


def export_all(
    folder: Path, formats: Sequence[ExportFormat], source: Source, bench: TestBench
) -> Exports:
    """Write ``{stem}{suffix}`` for every format into ``folder``, each checked on the test images.

    A form that cannot be made of this network, or does not answer like it, is refused with its
    reason and leaves no file; the others do not suffer. Only safetensors raises ``ParityError``:
    without it there is no result. What ``bench.boundary`` raises goes through.
    """
    forms, seen = _Forms(source, bench), sample(source, bench)
    exports = Exports({}, {})
    for kind in EXPORTS:
        path = folder / EXPORTS[kind].file_name(source.stem)
        if kind not in formats:
            continue
        bench.boundary()
        if kind == "safetensors":
            exports.made[kind] = _weights(path, source, bench)
            continue
        try:
            data = forms.data(kind)
        except Exception as error:  # noqa: BLE001  # exporters raise whatever a network provokes
            exports.refused[kind] = f"it cannot be made of this network: {brief(error)}"
            continue
        try:
            exports.made[kind] = _checked(kind, path, data, forms, seen)
        except ParityError as error:
            exports.refused[kind] = str(error)
    return exports


def _weights(path: Path, source: Source, bench: TestBench) -> ExportEvaluation:
    weights = source.network.network.state_dict()
    gap = checked_student(path, weights, copy.deepcopy(source.network), bench, source.logits)
    return ExportEvaluation(
        file=path.name,
        top1=metrics.top(source.logits, bench.target, 1),
        agreement=100.0,
        max_rel_difference=gap,
        num_images=len(bench.target),
        size_bytes=path.stat().st_size,
        latency_ms=source.speed.latency_ms,
        images_per_s=source.speed.images_per_s,
    )


def _checked(
    kind: ExportFormat, path: Path, data: bytes, forms: "_Forms", seen: Sample
) -> ExportEvaluation:
    # torch opens a program by the end of its name, so that the mark goes in front.
    trial = path.with_name(f".unchecked.{path.name}")
    try:
        with replacing(trial) as partial:
            partial.write_bytes(data)
        runner = forms.runner(kind, trial)
        found = evaluation(kind, trial, runner, forms.source, forms.bench, seen)
        trial.replace(path)
    finally:
        trial.unlink(missing_ok=True)
    return found.model_copy(update={"file": path.name})


class _Forms:
    """One trace of the network, shared by all forms that are made of it.

    onnx and onnxruntime take a second to load: they are imported where they are needed.
    """

    def __init__(self, source: Source, bench: TestBench) -> None:
        self.source, self.bench = source, bench

    @functools.cached_property
    def program(self) -> ExportedProgram:
        return program.trace(self.source.network.network, self.bench.shape(self.source.network))

    @functools.cached_property
    def onnx(self) -> bytes:
        from kdcore.export import onnx

        return onnx.encoded(self.program, self.source.facts)

    @functools.cached_property
    def int8(self) -> bytes:
        if self.source.calibration is None:
            raise ValueError("there are no training images to calibrate it on")
        from kdcore.export import onnx_int8 as int8

        return int8.encoded(self.onnx, self.source.network.prepare(self.source.calibration))

    def data(self, kind: ExportFormat) -> bytes:
        """The file's bytes."""
        if kind == "exported_program":
            return program.encoded(self.program)
        return self.onnx if kind == "onnx" else self.int8

    def runner(self, kind: ExportFormat, path: Path) -> Runner:
        """The file at work."""
        if kind == "exported_program":
            return program.runner(path)
        from kdcore.export import onnx

        return onnx.runner(path)


def brief(error: Exception) -> str:
    """The first line of a message; exporters tell pages."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].strip()[:300]}" if lines else type(error).__name__
