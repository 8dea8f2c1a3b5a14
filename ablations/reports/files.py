"""The files of a report: Markdown, HTML and LaTeX from the same data, with the plots beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ablations.reports.data import ReportData
from ablations.reports.html import html
from ablations.reports.latex import latex
from ablations.reports.markdown import markdown
from ablations.reports.plots import draw_plots, inline_svgs
from ablations.reports.statistics_table import write_statistics
from altformer.files import write_text


def write_report(data: ReportData, folder: Path) -> Path:
    """Write ``report.md``, ``.html`` and ``.tex``, ``statistics.csv`` and ``plots/*``; returns the first."""
    plots = {title: path.relative_to(folder) for title, path in draw_plots(data, folder / "plots").items()}
    pictures = {title: path.as_posix() for title, path in plots.items()}
    pages = {title: path.with_suffix(".pdf").as_posix() for title, path in plots.items()}
    return _write(data, folder, pictures, inline_svgs(data), pages)


def write_tables(data: ReportData, folder: Path) -> Path:
    """Write the reports without plots, as for more arms than a plot can show; returns the Markdown's path."""
    return _write(data, folder, {}, {}, {})


def _write(
    data: ReportData, folder: Path, pictures: Mapping[str, str], svgs: Mapping[str, str], pages: Mapping[str, str]
) -> Path:
    """Each format with its own kind of plots; the Markdown comes last: it says that the report is complete."""
    write_text(folder / "report.html", html(data, svgs))
    write_text(folder / "report.tex", latex(data, pages))
    write_statistics(data, folder)
    path = folder / "report.md"
    write_text(path, markdown(data, pictures))
    return path
