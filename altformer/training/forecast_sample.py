"""A day of forecasts beside what happened, for plots.

s: forecast origins, k: steps ahead, m: sensors shown
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch

from altformer.data.traffic import TrafficData
from altformer.data.windows import Windows
from altformer.evaluate import SCORING_BATCH, Forecaster
from altformer.files import write_bytes
from altformer.metrics import HORIZONS

SENSORS = 4
POINTS_PER_DAY = 96  # more cannot be told apart in a plot, and each is a forecast of all sensors


def write_forecast_sample(path: Path, forecaster: Forecaster, windows: Windows, data: TrafficData) -> None:
    """Forecasts over the first day of the test part for a few sensors, spread over the columns.

    Arrays: ``time`` (s,) of the first step ahead, ``step_minutes``, ``steps`` (k,) ahead, ``sensor_ids`` (m,),
    ``truth`` and ``forecast`` (s,k,m) in the data's unit, missing truth as NaN.
    """
    origins = windows.origins["test"][: data.steps_per_day : max(1, data.steps_per_day // POINTS_PER_DAY)]
    columns = np.unique(np.linspace(0, data.values.shape[1] - 1, SENSORS).astype(int))
    steps = [step for step in HORIZONS if step <= windows.output_len] or [windows.output_len]
    ahead = np.array(steps) - 1
    with torch.inference_mode():
        parts = [forecaster(chunk)[:, ahead][:, :, columns].cpu() for chunk in torch.split(origins, SCORING_BATCH)]
    rows = origins.cpu().numpy()[:, None] + ahead
    truth = data.values[rows][:, :, columns]
    content = io.BytesIO()
    np.savez_compressed(
        content,
        time=data.times[origins.cpu().numpy()],
        steps=np.array(steps),
        step_minutes=np.array(data.step_minutes),
        sensor_ids=np.array([data.sensor_ids[column] for column in columns]),
        truth=np.where(truth == data.null_value, np.nan, truth),
        forecast=torch.cat(parts).float().numpy(),
    )
    write_bytes(path, content.getvalue())
