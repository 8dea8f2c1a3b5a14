"""The files of a report: the Markdown, with its plots beside it."""

from __future__ import annotations

from pathlib import Path

from ablations.plots import draw_plots
from ablations.report_data import ReportData
from ablations.report_markdown import markdown
from altformer.files import write_text


def write_report(data: ReportData, folder: Path) -> Path:
    """Write ``plots/*.png`` and ``report.md`` into the folder; returns the report's path."""
    plots = draw_plots(data, folder / "plots")
    path = folder / "report.md"
    write_text(path, markdown(data, {title: plot.relative_to(folder).as_posix() for title, plot in plots.items()}))
    return path


def write_tables(data: ReportData, folder: Path) -> Path:
    """Write ``report.md`` alone, as for more arms than a plot can show; returns its path."""
    path = folder / "report.md"
    write_text(path, markdown(data, {}))
    return path
