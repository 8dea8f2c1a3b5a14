"""Plots of where the best arm differs from the baseline: by time of day, and sensor by sensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.colors import CenteredNorm, LinearSegmentedColormap

from ablations.error_profiles import Band, ErrorProfiles
from ablations.reports.data import ReportData
from ablations.reports.plots_arms import LEGEND, WIDTH, Drawing, Look, in_unit, looks
from altformer.data.traffic import MINUTES_PER_DAY
from experiments.figure import COLOURS, REFERENCE, short

BARS = 600  # more cannot be told apart in a text width: sensors beside each other are averaged
BETTER_TO_WORSE = LinearSegmentedColormap.from_list("better to worse", (COLOURS[0], "#a0a0a0", COLOURS[1]))


def has_profiles(data: ReportData) -> bool:
    """Whether the cells of the best arm and the baseline left their errors by time of day and sensor."""
    return data.profiles is not None


def draw_time_of_day(data: ReportData, drawing: Drawing) -> None:
    """Test MAE by time of day of baseline and best arm, and their difference; mean and range over seeds."""
    found = _profiles(data)
    base, best = _looks(data)
    hours = (np.arange(len(found.best_by_time.mean)) + 0.5) * found.minutes / 60
    with drawing((WIDTH, 3.2), panels=2) as (errors, difference):
        handles = [
            _draw_band(errors, hours, found.baseline_by_time, base),
            _draw_band(errors, hours, found.best_by_time, best),
        ]
        difference.axhline(0.0, color=REFERENCE, linewidth=1.0)
        _draw_band(difference, hours, found.difference_by_time, best)
        for axes in (errors, difference):
            axes.set_xlim(0, MINUTES_PER_DAY / 60)
            axes.set_xticks(range(0, 25, 6))
            axes.set_xlabel("hour of the day that is forecast")
        unit = in_unit(data, "test_mae")
        errors.set(ylabel=f"test MAE{unit}", title="Error by time of day")
        difference.set(ylabel=f"difference{unit}", title=f"{short(found.best)} minus baseline")
        names = [short(name, LEGEND) for name in (found.baseline, found.best)]
        difference.legend(handles, names, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        title = f"In parts of {found.minutes} minutes: mean and range over {_count(found.seeds, 'seed')}"
        errors.figure.suptitle(title, x=0.01, ha="left", fontsize=9)


def draw_sensors(data: ReportData, drawing: Drawing) -> None:
    """Test MAE of both arms at each sensor, in the order of the baseline's, and a bar for each one's difference."""
    found = _profiles(data)
    base, best = _looks(data)
    ranks, baseline = _averaged(found.baseline_by_sensor)
    _, others = _averaged(found.best_by_sensor)
    _, differences = _averaged(found.differences)
    with drawing((WIDTH, 4.2), panels=2, stacked=True) as (errors, strip):
        (first,) = errors.plot(ranks, baseline, color=base.colour, linewidth=1.2)
        (second,) = errors.plot(ranks, others, linestyle="none", color=best.colour, marker=best.marker, markersize=2.5)
        names = [short(name, LEGEND) for name in (found.baseline, found.best)]
        errors.legend([first, second], names, loc="upper left")
        usual = float(np.quantile(np.abs(differences), 0.9)) or 1.0  # beyond it a sensor has the full colour
        colours = BETTER_TO_WORSE(CenteredNorm(halfrange=usual)(differences))
        strip.vlines(ranks, 0.0, differences, colors=colours, linewidth=max(0.5, 380 / len(ranks)))
        strip.axhline(0.0, color=REFERENCE, linewidth=0.8)
        strip.set_xlim(0, len(found.sensor_ids))
        for axes in (errors, strip):
            axes.grid(visible=False, axis="x")
        unit = in_unit(data, "test_mae")
        errors.set_ylabel(f"test MAE{unit}")
        strip.set(xlabel="sensors in the order of the baseline's error", ylabel=f"difference{unit}")
        title = f"{short(found.best)}: below the baseline at {found.better} of {_count(found.sensor_ids, 'sensor')}"
        strip.set_title(f"{title} (mean over {_count(found.seeds, 'seed')})")
        errors.set_title("Error by sensor")


def _profiles(data: ReportData) -> ErrorProfiles:
    if data.profiles is None:
        raise ValueError("a report without error profiles has no plot of them")
    return data.profiles


def _looks(data: ReportData) -> tuple[Look, Look]:
    """Of the baseline and the best arm, as in every other plot."""
    found, own = _profiles(data), {arm.name: look for arm, look in looks(data.arms)}
    return own[found.baseline], own[found.best]


def _draw_band(axes: Any, places: npt.NDArray[np.float64], band: Band, look: Look) -> Any:
    """The mean as a line with a mark now and then, in the band of its range; returns the line, for the legend."""
    mean, low, high = (np.array(values, dtype=float) for values in (band.mean, band.low, band.high))  # None: NaN, a gap
    axes.fill_between(places, low, high, color=look.colour, alpha=0.2, linewidth=0)
    style = {"color": look.colour, "linestyle": look.line, "marker": look.marker}
    (line,) = axes.plot(places, mean, **style, markersize=4, markevery=max(1, len(places) // 12))
    return line


def _averaged(values: tuple[float, ...]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Places and values of at most ``BARS`` bars; where there are more values, the means of neighbours."""
    groups = np.array_split(np.arange(len(values)), min(len(values), BARS))
    array = np.array(values)
    return np.array([group.mean() + 0.5 for group in groups]), np.array([array[group].mean() for group in groups])


def _count(things: tuple[Any, ...], noun: str) -> str:
    return f"{len(things)} {noun}" + ("" if len(things) == 1 else "s")
