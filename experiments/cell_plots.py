"""Plots of one cell, from its record and its forecast sample; they go with its run in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.dates import ConciseDateFormatter

from experiments.figure import COLOURS, QUIET, REFERENCE, drawing, short
from experiments.scores_table import QUICK_NOTE


def draw_cell_plots(
    folder: Path, record: Mapping[str, Any], step_minutes: int | None = None, unit: str = ""
) -> list[Path]:
    """Draw into ``folder/plots`` what the record and the cell's forecast sample have numbers for; returns the paths."""
    plots, sample = folder / "plots", folder / "forecast_sample.npz"
    drawn = []
    if record.get("curve"):
        drawn.append(draw_loss_curve(record, plots / "loss.png", unit))
    if record.get("test") or record.get("val"):
        drawn.append(draw_horizons(record, plots / "horizons.png", step_minutes, unit))
    if record.get("status") == "done" and sample.is_file():
        drawn.append(draw_forecast(sample, plots / "forecast.png", unit, _note(record)))
    return drawn


def draw_loss_curve(record: Mapping[str, Any], path: Path, unit: str) -> Path:
    """Training loss and validation MAE by epoch, the best epoch marked; the learning rate beside them."""
    curve = record["curve"]
    epochs = [epoch["epoch"] for epoch in curve]
    with drawing(path, (7.0, 2.8), panels=2, note=_note(record), fixed=True) as (left, right):
        left.plot(epochs, [epoch["train_loss"] for epoch in curve], color=COLOURS[0], label="training loss")
        left.plot(epochs, [epoch["val_mae"] for epoch in curve], color=COLOURS[1], label="validation MAE")
        best = record.get("best_epoch")
        if best in epochs:
            lowest = curve[epochs.index(best)]["val_mae"]
            left.plot([best], [lowest], "o", color=COLOURS[1], label=f"best: {lowest:.3f} at epoch {best}")
        left.set(xlabel="epoch", ylabel=_in(unit, "error"))
        left.legend()
        right.plot(epochs, [epoch["lr"] for epoch in curve], color=QUIET)
        right.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
        for axes in (left, right):
            axes.xaxis.get_major_locator().set_params(integer=True)
    return path


def draw_horizons(record: Mapping[str, Any], path: Path, step_minutes: int | None, unit: str) -> Path:
    """MAE, RMSE and MAPE by time ahead, of the test set where it was scored, and of validation."""
    pace = step_minutes or 1
    with drawing(path, (7.0, 2.6), panels=3, note=_note(record), fixed=True) as panels:
        for axes, (metric, label) in zip(
            panels, (("mae", _in(unit, "MAE")), ("rmse", _in(unit, "RMSE")), ("mape", "MAPE (%)")), strict=True
        ):
            for part, colour in (("test", COLOURS[1]), ("val", COLOURS[0])):
                scores = record.get(part) or {}
                steps = sorted(int(step) for step in scores if step.isdigit())
                if steps:
                    values = [scores[str(step)][metric] for step in steps]
                    axes.plot(
                        [step * pace for step in steps],
                        values,
                        "o-",
                        color=colour,
                        label={"val": "validation"}.get(part, part),
                    )
                    axes.set_xticks([step * pace for step in steps])
            axes.set(xlabel="minutes ahead" if step_minutes else "step ahead", ylabel=label)
        panels[0].legend()
    return path


def draw_forecast(sample: Path, path: Path, unit: str, note: str) -> Path:
    """Forecasts of the farthest step beside what happened, for each sensor of the sample, by the time forecast."""
    with np.load(sample, allow_pickle=False) as arrays:
        times, steps, sensors = arrays["time"], arrays["steps"], arrays["sensor_ids"]
        truth, forecast = arrays["truth"][:, -1], arrays["forecast"][:, -1]
        ahead, minutes = int(steps[-1]), int(arrays["step_minutes"])
    times = times + np.timedelta64((ahead - 1) * minutes, "m")  # the sample has the time of the first step ahead
    label = f"forecast {ahead * minutes} min ahead"
    size, rows = (7.0, 1.0 + 1.3 * len(sensors)), len(sensors)
    with drawing(path, size, panels=rows, note=note, stacked=True, fixed=True) as panels:
        for index, (axes, sensor) in enumerate(zip(panels, sensors, strict=True)):
            axes.plot(times, truth[:, index], color=REFERENCE, linewidth=1.0, label="truth")
            axes.plot(times, forecast[:, index], color=COLOURS[1], linewidth=1.2, label=label)
            axes.set_title(f"sensor {short(str(sensor))}")
            axes.set_ylabel(unit or "reading")
        panels[0].legend(ncols=2, loc="lower right", bbox_to_anchor=(1.0, 1.0))
        panels[-1].xaxis.set_major_formatter(ConciseDateFormatter(panels[-1].xaxis.get_major_locator()))
    return path


def _in(unit: str, name: str) -> str:
    return f"{name} ({unit})" if unit else name


def _note(record: Mapping[str, Any]) -> str:
    return QUICK_NOTE if record.get("profile") == "quick" else ""
