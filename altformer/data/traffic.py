"""The readings of a sensor network, as every other part receives them.

n: sensors, T: rows (time steps)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MINUTES_PER_DAY = 1440

Readings = npt.NDArray[np.float32]
Times = npt.NDArray[np.datetime64]


@dataclass(frozen=True, eq=False)
class TrafficData:
    """Raw readings with their time axis, sensors and road graph.

    values (T, n) is float32, C-contiguous, read-only (it is shared between processes) and in the data's own unit; a
    missing reading equals `null_value` exactly, and no NaN is left. adjacency (n, n) is read-only float32, closeness
    0..1 of sensor i to sensor j in row i, or None where no graph is known.
    """

    name: str
    values: Readings
    times: Times  # (T,) datetime64[m]; evenly spaced, except for PEMS-BAY's hour lost to daylight saving
    step_minutes: int
    sensor_ids: tuple[str, ...]
    null_value: float
    split: tuple[float, float, float]  # train, val, test; sums to 1
    unit: str
    adjacency: Readings | None
    user_file: bool
    content_hash: str

    @property
    def start(self) -> np.datetime64:
        """Time of the first row."""
        first: np.datetime64 = self.times[0]
        return first

    @property
    def num_sensors(self) -> int:
        """Number of sensors n."""
        return len(self.sensor_ids)

    @property
    def steps_per_day(self) -> int:
        """Time slots of a day: 288 for 5 minutes."""
        return MINUTES_PER_DAY // self.step_minutes

    @property
    def time_of_day(self) -> npt.NDArray[np.int64]:
        """Slot of the day of each row (T,), 0..steps_per_day-1."""
        minute = (self.times - self.times.astype("datetime64[D]")).astype(np.int64)
        slots: npt.NDArray[np.int64] = minute // self.step_minutes
        return slots

    @property
    def day_of_week(self) -> npt.NDArray[np.int64]:
        """Day of the week of each row (T,), Monday 0."""
        days: npt.NDArray[np.int64] = (
            self.times.astype("datetime64[D]").astype(np.int64) + 3
        ) % 7  # 1970-01-01: Thursday
        return days

    @property
    def missing_share(self) -> float:
        """Share of all readings that are missing, 0..1."""
        return float(np.mean(self.values == np.float32(self.null_value)))


def content_hash(values: Readings) -> str:
    """Identity of a data set: sha256 (hex) of the line `T n` and the float32 values, little-endian, in time order.

    Independent of file form, names and compression, so the same readings from h5, CSV or parquet agree. The time
    axis is checked apart (`rules.py`).
    """
    rows, sensors = values.shape
    digest = hashlib.sha256(f"{rows} {sensors}\n".encode())
    digest.update(np.ascontiguousarray(values, dtype="<f4").tobytes())
    return digest.hexdigest()


def read_only(array: Readings) -> Readings:
    """The array as C-contiguous float32 that refuses to be written to."""
    frozen = np.ascontiguousarray(array, dtype=np.float32)
    frozen.flags.writeable = False
    return frozen
