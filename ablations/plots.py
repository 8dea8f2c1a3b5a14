"""The plots of a report, from the same data as its tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ablations.report_data import ArmResult, ReportData, column_of, metric_name
from experiments.figure import COLOURS, LINES, MARKERS, QUIET, REFERENCE, drawing, short

WIDTH = 7.0  # inches, a text width
LEGEND = 22  # letters of a name in a legend


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
        axes.set_xlabel(f"difference in {metric_name(data.reported)}{_in_unit(data)}; below 0: better")
        title = f"Against the baseline {short(data.baseline or '')}: mean and paired 95 % interval over seeds"
        axes.figure.suptitle(title, x=0.01, ha="left", fontsize=9)


def draw_validation(data: ReportData, path: Path) -> None:
    """Validation MAE by epoch: mean over the seeds with the band of their range; cells that ended early one by one.

    The second panel shows the second half of the epochs, where arms differ.
    """
    with drawing(path, (WIDTH, 3.2), panels=2, note=data.marker) as (whole, late):
        handles: dict[str, Any] = {}
        for arm, look in _looks(data.arms):
            for line in (_draw_mean_curve(whole, arm, look), *_draw_ended_early(whole, arm, look)):
                if line is not None:
                    handles.setdefault(short(arm.name, LEGEND), line)
            _draw_mean_curve(late, arm, look)
        whole.set_ylim(*_range_from(data.arms, 0.0))
        late.set_ylim(*_range_from(data.arms, 0.5))
        last = max((len(curve) for arm in data.arms for curve in _done_curves(arm)), default=1)
        late.set_xlim(left=1 + last // 2)
        for axes in (whole, late):
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.set(xlabel="epoch")
        whole.set(ylabel=f"validation MAE{_in_unit(data)}", title="all epochs")
        late.set_title("second half")
        title = "Validation by epoch: mean and range over seeds; × ended early"
        whole.figure.suptitle(title, x=0.01, ha="left", fontsize=9)
        late.legend(handles.values(), handles.keys(), loc="upper left", bbox_to_anchor=(1.0, 1.0))


def draw_horizons(data: ReportData, path: Path) -> None:
    """Test MAE by step ahead, and each arm's difference to the baseline there with its 95 % interval."""
    steps = [(step, label) for step, label in data.horizons if step != "all"]
    arms = [(arm, look) for arm, look in _looks(data.arms) if arm.metrics["test_mae"].n]
    compared = [(arm, look) for arm, look in arms if arm.by_step]
    with drawing(path, (WIDTH, 3.2), panels=2 if compared else 1, note=data.marker) as axes:
        places = np.arange(len(steps), dtype=float)
        handles = []
        for arm, look in arms:
            means = [arm.metrics[column_of("mae", step)].mean for step, _ in steps]
            handles.append(_with_intervals(axes[0], places, [(mean, None, None) for mean in means], look))
        axes[0].set(ylabel=f"test MAE{_in_unit(data)}", title="Error by time ahead: mean over seeds")
        for index, (arm, look) in enumerate(compared):
            shift = min(0.12, 0.6 / len(compared)) * (index - (len(compared) - 1) / 2)  # side by side, to be seen
            found = [arm.by_step.get(step) for step, _ in steps]
            points = [(one.difference, one.low, one.high) if one else (None, None, None) for one in found]
            _with_intervals(axes[1], places + shift, points, replace(look, line="none"))
        if compared:
            axes[1].axhline(0.0, color=REFERENCE, linewidth=1.0)
            axes[1].set(ylabel=f"difference{_in_unit(data)}", title="Against the baseline (95 %)")
        for panel in axes:
            panel.set_xticks(places, [label for _, label in steps])
            panel.set_xlim(-0.4, len(steps) - 0.6)
            panel.grid(visible=False, axis="x")
        names = [short(arm.name, LEGEND) for arm, _ in arms]
        axes[-1].legend(handles, names, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def draw_parameters(data: ReportData, path: Path) -> None:
    """Test error against the number of parameters, with 95 % intervals."""
    arms = [(arm, look) for arm, look in _looks(data.arms) if arm.params and arm.metrics[data.reported].n]
    with drawing(path, (WIDTH, 3.2), note=data.marker) as (axes,):
        handles = []
        for arm, look in arms:
            summary = arm.metrics[data.reported]
            points = [(summary.mean, summary.low, summary.high)]
            places = np.array([(arm.params or 0) / 1000])
            handles.append(_with_intervals(axes, places, points, replace(look, line="none")))
        axes.margins(x=0.08)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set(xlabel="parameters in thousands", ylabel=f"{metric_name(data.reported)}{_in_unit(data)}")
        axes.set_title("Error against size: mean and 95 % interval over seeds")
        names = [short(arm.name, LEGEND) for arm, _ in arms]
        axes.legend(handles, names, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _looks(arms: Sequence[ArmResult]) -> Iterator[tuple[ArmResult, Look]]:
    """The baseline black, the others by their place in the matrix."""
    place = 0
    for arm in arms:
        if arm.is_baseline:
            yield arm, Look(REFERENCE, LINES[0], MARKERS[0])
        else:
            turn = place // len(COLOURS)  # the same colour again: another line and another marker
            marker = MARKERS[(place + 1 + turn) % len(MARKERS)]
            yield arm, Look(COLOURS[place % len(COLOURS)], LINES[turn % len(LINES)], marker)
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


def _done_curves(arm: ArmResult) -> list[tuple[float, ...]]:
    return [curve.val_mae for curve in arm.curves if curve.status == "done" and curve.val_mae]


def _draw_mean_curve(axes: Any, arm: ArmResult, look: Look) -> Any:
    """Mean and range of the cells that are done, as far as all of them go; beyond, the mean would be of other seeds."""
    curves = _done_curves(arm)
    if not curves:
        return None
    length = min(map(len, curves))
    values = np.array([curve[:length] for curve in curves])
    epochs = np.arange(1, length + 1)
    axes.fill_between(epochs, values.min(0), values.max(0), color=look.colour, alpha=0.15, linewidth=0)
    dot = look.marker if length == 1 else ""
    (line,) = axes.plot(epochs, values.mean(0), color=look.colour, linestyle=look.line, marker=dot)
    return line


def _draw_ended_early(axes: Any, arm: ArmResult, look: Look) -> Iterator[Any]:
    """Each cell that was stopped or diverged, thin, with a cross at its end."""
    for curve in arm.curves:
        if curve.status != "done" and curve.val_mae:
            epochs = np.arange(1, len(curve.val_mae) + 1)
            (line,) = axes.plot(epochs, curve.val_mae, color=look.colour, linestyle=look.line, linewidth=0.7)
            axes.plot(epochs[-1:], curve.val_mae[-1:], "x", color=look.colour)
            yield line


def _range_from(arms: Sequence[ArmResult], share: float) -> tuple[float | None, float | None]:
    """Limits that show the finished curves from that share of their epochs on; a diverging cell does not widen them."""
    late = [value for arm in arms for curve in _done_curves(arm) for value in curve[int(len(curve) * share) :]]
    if not late:
        return None, None
    margin = 0.08 * (max(late) - min(late)) or 0.1
    return min(late) - margin, max(late) + margin


def _p_text(p: float | None) -> str:
    if p is None:
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _in_unit(data: ReportData) -> str:
    return f" ({data.unit})" if data.unit else ""


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
