"""Plots with a line, a row or a point for each arm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter

from ablations.arm_results import ArmResult, column_of, metric_name, unit_of
from ablations.reports.data import ReportData
from experiments.figure import COLOURS, LINES, MARKERS, QUIET, REFERENCE, distinct, short

WIDTH = 7.0  # inches, a text width
LEGEND = 22  # letters of a name in a legend
WIDE = 10  # times the smallest value: more is drawn on a logarithmic axis

Drawing = Callable[..., AbstractContextManager[list[Any]]]  # of a size in inches and a number of panels
Point = tuple[float | None, float | None, float | None]  # value, low, high


@dataclass(frozen=True)
class Look:
    """How one arm is drawn, in every plot alike."""

    colour: str
    line: Any
    marker: str


def looks(arms: Sequence[ArmResult]) -> Iterator[tuple[ArmResult, Look]]:
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


def in_unit(data: ReportData, column: str) -> str:
    """The unit of a column in brackets, to stand after its name; empty where there is none."""
    unit = unit_of(column, data.unit)
    return f" ({unit})" if unit else ""


def has_differences(data: ReportData) -> bool:
    """Whether any arm can be compared with the baseline."""
    return any(arm.comparison and arm.comparison.difference is not None for arm in data.arms)


def draw_differences(data: ReportData, drawing: Drawing) -> None:
    """Each arm's difference to the baseline with its paired 95 % interval, its seeds, and the verdict beside it."""
    arms = [arm for arm in data.arms if arm.comparison and arm.comparison.difference is not None]
    base = next((arm.seeds for arm in data.arms if arm.is_baseline), {})
    with drawing((WIDTH, 1.3 + 0.34 * len(arms))) as (axes,):
        axes.axvline(0.0, color=REFERENCE, linewidth=1.0)
        for row, arm in enumerate(arms):
            _draw_difference(axes, row, arm, base)
        label = f"difference in {metric_name(data.reported)}{in_unit(data, data.reported)}; below 0: better"
        if data.margin:
            axes.axvspan(-data.margin, data.margin, color=QUIET, alpha=0.15, linewidth=0)
            label += f"; shaded: equivalence margin ±{data.margin:g}"
        axes.set_xlabel(label)
        axes.set_yticks(range(len(arms)), distinct([arm.name for arm in arms]))
        axes.set_ylim(len(arms) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        several = any(arm.comparison and arm.comparison.low is not None for arm in arms)
        what = "mean, paired 95 % interval, p (Holm); small: seeds" if several else "too few seeds for an interval"
        title = f"Against the baseline {short(data.baseline or '')}: {what}"
        axes.figure.suptitle(title, x=0.01, ha="left", fontsize=9)


def _draw_difference(axes: Any, row: int, arm: ArmResult, base: Mapping[int, float]) -> None:
    found = arm.comparison
    assert found is not None
    difference = found.difference or 0.0
    colour = {"better": COLOURS[0], "worse": COLOURS[1]}.get(arm.verdict, QUIET)
    low, high = (found.low, found.high) if found.low is not None else (difference, difference)
    axes.plot([low, high], [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
    axes.plot([difference], [row], "o", color=colour, markersize=6)
    seeds = [value - base[seed] for seed, value in arm.seeds.items() if seed in base]
    if len(seeds) == 1:  # it is the mean
        seeds = []
    axes.plot(seeds, [row + 0.27] * len(seeds), ".", color=colour, markersize=4)
    verdict = f"{arm.verdict}, equivalent" if found.equivalent else arm.verdict
    axes.annotate(
        f"{verdict}  {_p_text(found.p_holm)}".rstrip(),
        (1.0, row),
        xycoords=("axes fraction", "data"),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
    )


def has_curves(data: ReportData) -> bool:
    """Whether any cell has finished an epoch."""
    return any(curve.val_mae for arm in data.arms for curve in arm.curves)


def draw_validation(data: ReportData, drawing: Drawing) -> None:
    """Validation MAE by epoch: mean over the seeds with the band of their range; cells that ended early one by one.

    The second panel shows the second half of the epochs, where arms differ.
    """
    with drawing((WIDTH, _height(len(data.arms))), panels=2) as (whole, late):
        handles: dict[str, Any] = {}
        names = distinct([arm.name for arm in data.arms], LEGEND)
        for place, (arm, look) in enumerate(looks(data.arms)):
            share = place / len(data.arms)  # so that the marks of lines that lie together do not
            for line in (_draw_mean_curve(whole, arm, look, share), *_draw_ended_early(whole, arm, look)):
                if line is not None:
                    handles.setdefault(names[place], line)
            _draw_mean_curve(late, arm, look, share)
        whole.set_ylim(*_range_from(data.arms, 0.0))
        late.set_ylim(*_range_from(data.arms, 0.5))
        last = max((len(curve) for arm in data.arms for curve in _done_curves(arm)), default=1)
        late.set_xlim(left=0.85 + last // 2)
        for axes in (whole, late):
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.set(xlabel="epoch")
        whole.set(ylabel=f"validation MAE{in_unit(data, 'val_mae')}", title="all epochs")
        late.set_title("second half")
        several = any(len(_done_curves(arm)) > 1 for arm in data.arms)
        title = f"Validation by epoch{': mean and range over seeds' if several else ''}; × ended early"
        whole.figure.suptitle(title, x=0.01, ha="left", fontsize=9)
        late.legend(handles.values(), handles.keys(), loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _done_curves(arm: ArmResult) -> list[tuple[float, ...]]:
    return [curve.val_mae for curve in arm.curves if curve.status == "done" and curve.val_mae]


def _draw_mean_curve(axes: Any, arm: ArmResult, look: Look, share: float) -> Any:
    """Mean and range of the cells that are done, as far as all of them go; beyond, the mean would be of other seeds."""
    curves = _done_curves(arm)
    if not curves:
        return None
    length = min(map(len, curves))
    values = np.array([curve[:length] for curve in curves])
    epochs = np.arange(1, length + 1)
    axes.fill_between(epochs, values.min(0), values.max(0), color=look.colour, alpha=0.15, linewidth=0)
    pace = max(1, length // 5)
    every = (int(share * pace), pace)
    (line,) = axes.plot(
        epochs,
        values.mean(0),
        color=look.colour,
        linestyle=look.line,
        marker=look.marker,
        markersize=4,
        markevery=every,
    )
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


def has_horizons(data: ReportData) -> bool:
    """Whether any arm was scored at single steps ahead."""
    return len(data.horizons) > 1 and any(arm.metrics["test_mae"].n for arm in data.arms)


def draw_horizons(data: ReportData, drawing: Drawing) -> None:
    """Test MAE by step ahead, and each arm's difference to the baseline there with its 95 % interval."""
    steps = [(step, label) for step, label in data.horizons if step != "all"]
    arms = [(arm, look) for arm, look in looks(data.arms) if arm.metrics["test_mae"].n]
    compared = [(arm, look) for arm, look in arms if arm.by_step]
    unit = in_unit(data, "test_mae")
    with drawing((WIDTH, _height(len(arms))), panels=2 if compared else 1) as axes:
        places = np.arange(len(steps), dtype=float)
        handles = []
        for arm, look in arms:
            means = [arm.metrics[column_of("mae", step)].mean for step, _ in steps]
            handles.append(_with_intervals(axes[0], places, [(mean, None, None) for mean in means], look))
        axes[0].set(ylabel=f"test MAE{unit}", title="Error by time ahead: mean over seeds")
        for index, (arm, look) in enumerate(compared):
            shift = min(0.12, 0.6 / len(compared)) * (index - (len(compared) - 1) / 2)  # side by side, to be seen
            found = [arm.by_step.get(step) for step, _ in steps]
            points = [(one.difference, one.low, one.high) if one else (None, None, None) for one in found]
            _with_intervals(axes[1], places + shift, points, replace(look, line="none"))
        if compared:
            axes[1].axhline(0.0, color=REFERENCE, linewidth=1.0)
            several = any(one.low is not None for arm, _ in compared for one in arm.by_step.values())
            title = f"Against the baseline{' (95 %)' if several else ''}"
            axes[1].set(ylabel=f"difference{unit}", title=title)
        for panel in axes:
            panel.set_xticks(places, [label for _, label in steps])
            panel.set_xlim(-0.4, len(steps) - 0.6)
            panel.grid(visible=False, axis="x")
        names = distinct([arm.name for arm, _ in arms], LEGEND)
        axes[-1].legend(handles, names, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def has_sizes(data: ReportData) -> bool:
    """Whether arms differ in their number of parameters."""
    return len({arm.params for arm in data.arms if arm.params and arm.metrics[data.reported].n}) > 1


def draw_parameters(data: ReportData, drawing: Drawing) -> None:
    """Test error against the number of parameters, with 95 % intervals."""
    places = {arm.name: arm.params / 1000 for arm in data.arms if arm.params}
    _draw_against(data, drawing, places, "parameters in thousands", "Error against size")


def has_seconds(data: ReportData) -> bool:
    """Whether more than one arm has a time."""
    return sum(bool(_seconds(arm) and arm.metrics[data.reported].n) for arm in data.arms) > 1


def draw_seconds(data: ReportData, drawing: Drawing) -> None:
    """Test error against the time that training took, mean over seeds, with 95 % intervals of the error."""
    places = {arm.name: seconds for arm in data.arms if (seconds := _seconds(arm))}
    label = "seconds to train one cell, mean over seeds"
    _draw_against(data, drawing, places, label, "Error against training time")


def _seconds(arm: ArmResult) -> float | None:
    return arm.metrics["train_seconds"].mean


def _draw_against(data: ReportData, drawing: Drawing, places: Mapping[str, float], label: str, title: str) -> None:
    """The reported error of each arm that has a place on the horizontal axis."""
    arms = [(arm, look) for arm, look in looks(data.arms) if arm.name in places and arm.metrics[data.reported].n]
    with drawing((WIDTH, _height(len(arms)))) as (axes,):
        handles = []
        if any(arm.metrics[data.reported].low is not None for arm, _ in arms):
            title += ": mean and 95 % interval"
        for arm, look in arms:
            summary = arm.metrics[data.reported]
            points = [(summary.mean, summary.low, summary.high)]
            handles.append(_with_intervals(axes, [places[arm.name]], points, replace(look, line="none")))
        shown = [places[arm.name] for arm, _ in arms]
        if max(shown) > WIDE * min(shown):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.08)
        axes.xaxis.set_major_formatter("{x:,.6g}")
        axes.set(xlabel=label, ylabel=f"{metric_name(data.reported)}{in_unit(data, data.reported)}", title=title)
        names = distinct([arm.name for arm, _ in arms], LEGEND)
        axes.legend(handles, names, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _with_intervals(axes: Any, places: Any, points: Sequence[Point], look: Look) -> Any:
    """Points joined by a line, with their intervals where there are any; returns the line, for the legend."""
    for place, (_, low, high) in zip(places, points, strict=True):
        if low is not None and high is not None:
            axes.plot([place, place], [low, high], color=look.colour, linewidth=1.1)
    known = [(place, value) for place, (value, _, _) in zip(places, points, strict=True) if value is not None]
    xs, ys = ([place for place, _ in known], [value for _, value in known])
    (line,) = axes.plot(xs, ys, color=look.colour, linestyle=look.line, marker=look.marker)
    return line


def _height(arms: int) -> float:
    """Inches that a legend of so many arms needs, and no fewer than a plot does."""
    return max(3.2, 0.8 + 0.16 * arms)


def _p_text(p: float | None) -> str:
    if p is None:
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
