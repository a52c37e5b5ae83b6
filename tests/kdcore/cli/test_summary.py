"""Numbers in the summary of a run."""

from rich.console import Console

from kdcore.cli.summary import format_count, format_size, show_report


def test_sizes_and_counts_are_short():
    sizes = [format_size(num_bytes) for num_bytes in (5, 318_000, 4_860_000, 2e9)]
    assert sizes == ["5 B", "318 kB", "4.86 MB", "2 GB"]
    counts = [format_count(count) for count in (83_892, 1_210_000, 4.1e9)]
    assert counts == ["83.9 k", "1.21 M", "4.1 G"]


def test_warnings_of_the_report_are_printed(teacher_run, capsys):
    report = teacher_run.report.model_copy(update={"warnings": ("no class is named owl",)})
    show_report(report, teacher_run.path, Console())
    assert "warning: no class is named owl\n" in capsys.readouterr().out
