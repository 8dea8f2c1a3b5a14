"""The plots of a report, from the same data as its tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ablations.report_data import ArmResult, ReportData, column_of, metric_name
from experiments.figure import COLOURS, LINES, MARKERS, QUIET, REFERENCE, drawing, short

WIDTH = 7.0  # inches, a text width


@dataclass(frozen=True)
class Look:
    """How one arm is drawn, in every plot alike."""

    colour: str
    line: Any
    marker: str


def draw_plots(data: ReportData, folder: Path) -> dict[str, Path]:
    """Draw every plot that the data has numbers for; returns their paths by title."""
    drawn: dict[str, Path] = {}
    for name, (title, has_numbers, draw) in PLOTS.items():
        if has_numbers(data):
            drawn[title] = folder / f"{name}.png"
            draw(data, drawn[title])
        else:
            (folder / f"{name}.png").unlink(missing_ok=True)  # of an earlier report
    return drawn


def draw_differences(data: ReportData, path: Path) -> None:
    """Each arm's difference to the baseline with its paired 95 % interval, and the verdict beside it."""
    arms = [arm for arm in data.arms if arm.comparison and arm.comparison.difference is not None]
    with drawing(path, (WIDTH, 1.2 + 0.34 * len(arms)), note=data.marker) as (axes,):
        axes.axvline(0.0, color=REFERENCE, linewidth=1.0)
        for row, arm in enumerate(arms):
            found = arm.comparison
            assert found is not None
            difference = found.difference or 0.0
            colour = {"better": COLOURS[0], "worse": COLOURS[1]}.get(arm.verdict, QUIET)
            low, high = (found.low, found.high) if found.low is not None else (difference, difference)
            axes.plot([low, high], [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
            axes.plot([difference], [row], "o", color=colour, markersize=6)
            axes.annotate(
                f"{arm.verdict}  {_p_text(found.p_holm)}".rstrip(),
                (1.0, row),
                xycoords=("axes fraction", "data"),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                color=colour,
            )
        axes.set_yticks(range(len(arms)), [short(arm.name) for arm in arms])
        axes.set_ylim(len(arms) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(
            f"difference in {metric_name(data.reported)}{_in_unit(data)}, arm minus baseline (below 0: better)"
        )
        axes.set_title(f"Against the baseline {short(data.baseline or '')}: mean and paired 95 % interval over seeds")


def draw_validation(data: ReportData, path: Path) -> None:
    """Validation MAE by epoch: mean over the seeds with the band of their range; cells that ended early one by one."""
    with drawing(path, (WIDTH, 3.6), note=data.marker) as (axes,):
        handles, names = [], []
        for arm, look in _looks(data.arms):
            whole = [curve.val_mae for curve in arm.curves if curve.status == "done" and curve.val_mae]
            if whole:
                length = min(map(len, whole))  # beyond it the mean would be over other seeds
                values = np.array([curve[:length] for curve in whole])
                epochs = np.arange(1, length + 1)
                axes.fill_between(epochs, values.min(0), values.max(0), color=look.colour, alpha=0.15, linewidth=0)
                handles += axes.plot(epochs, values.mean(0), color=look.colour, linestyle=look.line)
                names.append(short(arm.name))
            for curve in arm.curves:
                if curve.status != "done" and curve.val_mae:
                    epochs = np.arange(1, len(curve.val_mae) + 1)
                    line = axes.plot(epochs, curve.val_mae, color=look.colour, linestyle=look.line, linewidth=0.7)
                    axes.plot(epochs[-1:], curve.val_mae[-1:], "x", color=look.colour)
                    if short(arm.name) not in names:
                        handles += line
                        names.append(short(arm.name))
        axes.set_ylim(*_settled_range(data.arms))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set(xlabel="epoch", ylabel=f"validation MAE{_in_unit(data)}")
        axes.set_title("Validation by epoch: mean and range over seeds; × ended early")
        axes.legend(handles, names, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def draw_horizons(data: ReportData, path: Path) -> None:
    """Test MAE by step ahead, and each arm's difference to the baseline there, with 95 % intervals."""
    steps = [(step, label) for step, label in data.horizons if step != "all"]
    arms = [(arm, look) for arm, look in _looks(data.arms) if arm.metrics["test_mae"].n]
    panels = 2 if any(arm.by_step for arm, _ in arms) else 1
    with drawing(path, (WIDTH, 3.2), panels=panels, note=data.marker) as axes:
        handles = []
        for index, (arm, look) in enumerate(arms):
            shift = 0.1 * (index - (len(arms) - 1) / 2) * min(1.0, 6 / len(arms))
            places = np.arange(len(steps)) + shift
            summaries = [arm.metrics[column_of("mae", step)] for step, _ in steps]
            points = [(summary.mean, summary.low, summary.high) for summary in summaries]
            handles.append(_with_intervals(axes[0], places, points, look))
            if panels == 2 and arm.by_step:
                found = [arm.by_step.get(step) for step, _ in steps]
                differences = [(one.difference, one.low, one.high) if one else (None, None, None) for one in found]
                _with_intervals(axes[1], places, differences, look)
        axes[0].set(ylabel=f"test MAE{_in_unit(data)}", title="Error by step ahead")
        if panels == 2:
            axes[1].axhline(0.0, color=REFERENCE, linewidth=1.0)
            axes[1].set(ylabel=f"difference{_in_unit(data)}", title="Difference to the baseline (below 0: better)")
        for panel in axes:
            panel.set_xticks(range(len(steps)), [label for _, label in steps])
            panel.grid(visible=False, axis="x")
        names = [short(arm.name) for arm, _ in arms]
        axes[-1].legend(handles, names, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def draw_parameters(data: ReportData, path: Path) -> None:
    """Test error against the number of parameters, with 95 % intervals."""
    arms = [(arm, look) for arm, look in _looks(data.arms) if arm.params and arm.metrics[data.reported].n]
    with drawing(path, (WIDTH, 3.2), note=data.marker) as (axes,):
        handles = []
        for arm, look in arms:
            summary = arm.metrics[data.reported]
            points = [(summary.mean, summary.low, summary.high)]
            handles.append(_with_intervals(axes, np.array([(arm.params or 0) / 1000]), points, look))
        axes.margins(x=0.08)
        axes.set(xlabel="parameters in thousands", ylabel=f"{metric_name(data.reported)}{_in_unit(data)}")
        axes.set_title("Error against size: mean and 95 % interval over seeds")
        names = [short(arm.name) for arm, _ in arms]
        axes.legend(handles, names, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _looks(arms: Sequence[ArmResult]) -> Iterator[tuple[ArmResult, Look]]:
    """The baseline black, the others by their place in the matrix."""
    place = 0
    for arm in arms:
        if arm.is_baseline:
            yield arm, Look(REFERENCE, LINES[0], MARKERS[0])
        else:
            line = LINES[place // len(COLOURS) % len(LINES)]
            yield arm, Look(COLOURS[place % len(COLOURS)], line, MARKERS[(place + 1) % len(MARKERS)])
            place += 1


Point = tuple[float | None, float | None, float | None]  # value, low, high


def _with_intervals(axes: Any, places: Any, points: Sequence[Point], look: Look) -> Any:
    """Points joined by a line, with their intervals where there are any; returns the line, for the legend."""
    for place, (_, low, high) in zip(places, points, strict=True):
        if low is not None and high is not None:
            axes.plot([place, place], [low, high], color=look.colour, linewidth=1.1)
    known = [(place, value) for place, (value, _, _) in zip(places, points, strict=True) if value is not None]
    xs, ys = ([place for place, _ in known], [value for _, value in known])
    (line,) = axes.plot(xs, ys, color=look.colour, linestyle=look.line, marker=look.marker)
    return line


def _settled_range(arms: Sequence[ArmResult]) -> tuple[float | None, float | None]:
    """Limits that show the later epochs, where arms differ, rather than the steep fall of the first ones."""
    curves = [np.array(curve.val_mae) for arm in arms for curve in arm.curves if len(curve.val_mae) > 4]
    if not curves:
        return None, None
    low = min(float(curve.min()) for curve in curves)
    high = max(float(curve[len(curve) // 5 :].max()) for curve in curves)
    margin = 0.05 * (high - low)
    return low - margin, high + margin


def _p_text(p: float | None) -> str:
    if p is None:
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _in_unit(data: ReportData) -> str:
    return f" in {data.unit}" if data.unit else ""


def _has_differences(data: ReportData) -> bool:
    return any(arm.comparison and arm.comparison.difference is not None for arm in data.arms)


def _has_curves(data: ReportData) -> bool:
    return any(curve.val_mae for arm in data.arms for curve in arm.curves)


def _has_horizons(data: ReportData) -> bool:
    return len(data.horizons) > 1 and any(arm.metrics["test_mae"].n for arm in data.arms)


def _has_sizes(data: ReportData) -> bool:
    return len({arm.params for arm in data.arms if arm.params and arm.metrics[data.reported].n}) > 1


PLOTS: dict[str, tuple[str, Callable[[ReportData], bool], Callable[[ReportData, Path], None]]] = {
    "differences": ("Differences to the baseline", _has_differences, draw_differences),
    "validation": ("Validation by epoch", _has_curves, draw_validation),
    "horizons": ("Error by step ahead", _has_horizons, draw_horizons),
    "parameters": ("Error against the number of parameters", _has_sizes, draw_parameters),
}
