"""A picture of readings over space and time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from altformer.data.specs import SIMULATED
from altformer.data.traffic import TrafficData
from altformer.errors import UserError

_ROAD = 16  # sensors in the close-up: one corridor of the simulated network


def plot_space_time(data: TrafficData, path: Path) -> None:
    """Write a PNG: a week of all sensors, and below it the second day of the first 16; missing readings are blank.

    Sensors are in file order, which is the driving order only for `simulated`: there congestion leans to the right
    towards lower numbers, since it travels upstream. Raises UserError when the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    day = data.steps_per_day
    seen = np.where(data.values == np.float32(data.null_value), np.nan, data.values)
    low, high = np.nanpercentile(seen, [0.5, 99.5])
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    week_axes, day_axes = figure.subplots(2, 1)
    for axes, part, hours, title in (
        (week_axes, seen[: 7 * day], 24.0, f"{data.name}: all {data.num_sensors} sensors from {data.start}"),
        (day_axes, seen[day : 2 * day, :_ROAD], 1.0, f"sensors {data.sensor_ids[0]} onwards, the second day"),
    ):
        span = len(part) * data.step_minutes / 60 / hours
        image = axes.imshow(
            part.T,
            aspect="auto",
            origin="lower",
            interpolation="nearest",
            cmap="RdYlGn",
            vmin=low,
            vmax=high,
            extent=(0, span, -0.5, part.shape[1] - 0.5),
        )
        axes.set(title=title, xlabel="day" if hours == 24 else "hour", ylabel="sensor (traffic moves upwards)")
    if data.name != SIMULATED:
        for axes in (week_axes, day_axes):
            axes.set_ylabel("sensor")
    figure.colorbar(image, ax=[week_axes, day_axes], label=data.unit or "reading")
    try:
        figure.savefig(path, dpi=90)
    except OSError as error:
        raise UserError(f"cannot write the plot {path}: {error.strerror}") from None
