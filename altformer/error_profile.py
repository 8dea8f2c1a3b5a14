"""Where and when a model errs: masked absolute errors by time of day and by sensor.

b: batch, h: output steps, n: sensors, s: steps of a day
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from altformer.data.traffic import TrafficData
from altformer.data.windows import Windows
from altformer.files import write_bytes

TEST_ERRORS = "test_errors.npz"  # a cell's file


class ErrorProfile:
    """Sums and counts of masked errors by time of day (of the reading that is forecast) and by sensor.

    Sums are float64, counts int64, both on the windows' device; over all bins, as over all sensors, their quotient is
    the masked MAE over all steps.
    """

    def __init__(self, windows: Windows, steps_per_day: int) -> None:
        self._time_of_day = windows.time_of_day
        device, sensors = windows.values.device, windows.values.shape[1]
        self.day_sums = torch.zeros(steps_per_day, dtype=torch.float64, device=device)
        self.day_counts = torch.zeros(steps_per_day, dtype=torch.int64, device=device)
        self.sensor_sums = torch.zeros(sensors, dtype=torch.float64, device=device)
        self.sensor_counts = torch.zeros(sensors, dtype=torch.int64, device=device)

    def add(self, origins: Tensor, forecast: Tensor, target: Tensor, observed: Tensor) -> None:
        """Add one batch: rows of the first targets (b,), then as for ``ErrorSums`` (b,h,n); no host sync."""
        error = torch.where(observed, (forecast.float() - target).abs(), 0.0)
        rows = origins[:, None] + torch.arange(error.shape[1], device=origins.device)
        slots = self._time_of_day[rows].flatten()
        self.day_sums.index_add_(0, slots, error.sum(dim=2, dtype=torch.float64).flatten())
        self.day_counts.index_add_(0, slots, observed.sum(dim=2).flatten())
        self.sensor_sums += error.sum(dim=1, dtype=torch.float64).sum(dim=0)
        self.sensor_counts += observed.sum(dim=(0, 1))

    def reduce(self) -> None:
        """Sum over all ranks of the process group; does nothing without one."""
        if dist.is_available() and dist.is_initialized():
            for part in (self.day_sums, self.day_counts, self.sensor_sums, self.sensor_counts):
                dist.all_reduce(part)

    def write(self, path: Path, data: TrafficData) -> None:
        """Write the sums to a file that numpy reads without pickles.

        Arrays: ``day_sums`` and ``day_counts`` (s,) from midnight on in steps of ``step_minutes``, ``sensor_sums`` and
        ``sensor_counts`` (n,) in the order of ``sensor_ids`` (n,); sums in the data's unit.
        """
        names = ("day_sums", "day_counts", "sensor_sums", "sensor_counts")
        sums = {name: getattr(self, name).cpu().numpy() for name in names}
        content = io.BytesIO()
        np.savez_compressed(
            content, **sums, sensor_ids=np.array(data.sensor_ids), step_minutes=np.array(data.step_minutes)
        )
        write_bytes(path, content.getvalue())
