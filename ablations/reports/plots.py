"""The plots of a report, from the same data as its tables."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ablations.reports import plots_arms, plots_profiles
from ablations.reports.data import ReportData
from ablations.reports.plots_arms import Drawing
from experiments.figure import drawing

FORMATS = ("png", "pdf")  # for Markdown and for LaTeX


@dataclass(frozen=True)
class Plot:
    """One plot of every report whose data has numbers for it."""

    title: str
    has_numbers: Callable[[ReportData], bool]
    draw: Callable[[ReportData, Drawing], None]


def draw_plots(data: ReportData, folder: Path, formats: Sequence[str] = FORMATS) -> dict[str, Path]:
    """Draw every plot that the data has numbers for into ``<name>.png`` and ``<name>.pdf``.

    Returns the path in the first of the formats by title; files of an earlier report that there is nothing for any
    more are deleted.
    """
    drawn: dict[str, Path] = {}
    for name, plot in PLOTS.items():
        paths = [folder / f"{name}.{kind}" for kind in formats]
        if plot.has_numbers(data):
            plot.draw(data, partial(drawing, paths[0], note=data.marker, formats=formats))
            drawn[plot.title] = paths[0]
        else:
            for path in paths:
                path.unlink(missing_ok=True)
    return drawn


def inline_svgs(data: ReportData) -> dict[str, str]:
    """The same plots by title as ``<svg>`` elements for a page, which take the colour of the text around them.

    Each is one element that needs nothing else, with ids of its own, on a transparent ground, as wide as its place.
    """
    with tempfile.TemporaryDirectory() as folder:
        texts = {title: path.read_text() for title, path in draw_plots(data, Path(folder), ("svg",)).items()}
    return {
        title: text.replace("<svg ", f'<svg aria-label="{html.escape(title)}" ', 1) for title, text in texts.items()
    }


PLOTS: dict[str, Plot] = {
    "differences": Plot("Differences to the baseline", plots_arms.has_differences, plots_arms.draw_differences),
    "validation": Plot("Validation by epoch", plots_arms.has_curves, plots_arms.draw_validation),
    "horizons": Plot("Error by time ahead", plots_arms.has_horizons, plots_arms.draw_horizons),
    "time_of_day": Plot("Error by time of day", plots_profiles.has_profiles, plots_profiles.draw_time_of_day),
    "sensors": Plot("Error by sensor", plots_profiles.has_profiles, plots_profiles.draw_sensors),
    "parameters": Plot("Error against the number of parameters", plots_arms.has_sizes, plots_arms.draw_parameters),
    "seconds": Plot("Error against training time", plots_arms.has_seconds, plots_arms.draw_seconds),
}
