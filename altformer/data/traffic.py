"""The readings of a sensor network, as every other part receives them.

n: sensors, T: rows (time steps)
"""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import dataclass
from typing import Any

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
    def identity(self) -> str:
        """What of the data decides numbers: the content hash, and for a user's own file also its time axis (hex)."""
        if not self.user_file:
            return self.content_hash
        axis = f"{self.content_hash} {self.step_minutes}\n".encode() + self.times.astype("<i8").tobytes()
        return hashlib.sha256(axis).hexdigest()

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
        return slots_of_day(self.times, self.step_minutes)

    @property
    def day_of_week(self) -> npt.NDArray[np.int64]:
        """Day of the week of each row (T,), Monday 0."""
        return days_of_week(self.times)

    @property
    def missing_share(self) -> float:
        """Share of all readings that are missing, 0..1."""
        return float(np.mean(self.values == np.float32(self.null_value)))


def slots_of_day(times: Times, step_minutes: int) -> npt.NDArray[np.int64]:
    """Slot of the day of each time (T,) in minutes, from 0 at midnight."""
    minute = (times - times.astype("datetime64[D]")).astype(np.int64)
    slots: npt.NDArray[np.int64] = minute // step_minutes
    return slots


def days_of_week(times: Times) -> npt.NDArray[np.int64]:
    """Day of the week of each time (T,), Monday 0."""
    days: npt.NDArray[np.int64] = (times.astype("datetime64[D]").astype(np.int64) + 3) % 7  # 1970-01-01: Thursday
    return days


def settle_missing(values: npt.NDArray[Any], null_value: float) -> tuple[Readings, float]:
    """Readings (T, n) as read-only float32 without NaN, and the value that marks the missing ones.

    A finite null_value stays as it is. Where NaN means missing, the mark becomes 0, as in the public data sets, or,
    where 0 is itself a reading (no car passed), the first of -1, -2, ... that is none: no true zero is lost.
    """
    readings = np.array(values, dtype=np.float32, order="C")
    if math.isnan(null_value):
        mark = next(mark for mark in itertools.count(0, -1) if not (readings == mark).any())
        readings[np.isnan(readings)] = mark
        null_value = float(mark)
    return read_only(readings), float(np.float32(null_value))


def read_only(array: Readings) -> Readings:
    """The array as C-contiguous float32 that refuses to be written to."""
    frozen = np.ascontiguousarray(array, dtype=np.float32)
    frozen.flags.writeable = False
    return frozen
