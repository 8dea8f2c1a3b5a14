"""Windows of readings: how forecasts are split in time, scaled and gathered by index.

b: batch, t: input steps, h: output steps, n: sensors, T: rows of the data set
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from altformer.data.traffic import TrafficData
from altformer.errors import UserError

Split = Literal["train", "val", "test"]
FEWEST_TRAINING_WINDOWS = 32  # that a long input must leave: fewer would not fill one batch of the default size
SPLIT_INPUT_LEN = 12  # the published splits count windows of 12 input steps; longer inputs reach back and move no split


class Batch(NamedTuple):
    """What one step of training or scoring needs; readings in scaled units, targets in the data's own unit."""

    reading: Tensor  # (b,t,n) float32, scaled
    observed: Tensor  # (b,t,n) bool: False where the reading is missing
    time_of_day: Tensor  # (b,t) int64, slot of the day
    day_of_week: Tensor  # (b,t) int64, Monday 0
    target: Tensor  # (b,h,n) float32, unscaled
    target_observed: Tensor  # (b,h,n) bool

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What every model is called with: reading, observed, time of day, day of week."""
        return self.reading, self.observed, self.time_of_day, self.day_of_week


class Scaler(NamedTuple):
    """One scalar mean and standard deviation for all readings (Li et al., 2018)."""

    mean: float
    std: float

    def scale(self, reading: Tensor) -> Tensor:
        """Any shape, from the data's unit to zero mean and unit variance."""
        return (reading - self.mean) / self.std

    def unscale(self, scaled: Tensor) -> Tensor:
        """Any shape, back to the data's unit, in float32 also under autocast."""
        return scaled.float() * self.std + self.mean


def split_origins(
    rows: int, ratios: tuple[float, float, float], input_len: int, output_len: int
) -> dict[Split, np.ndarray]:
    """Forecast origins (row of the first target) of the three parts, in time order and without shuffling.

    Training and validation counts are rounded, the test part is the rest: METR-LA 23974 / 3425 / 6850. The last
    training targets reach up to h-1 rows into the rows that follow, as in every published result on these data sets.
    Inputs longer than 12 steps reach back: the first training origins, which lack that history, drop out. Raises
    UserError where the rows are too few, or where those that drop out leave fewer than 32 training windows or fewer
    than one forecast is long.
    """
    count = rows - SPLIT_INPUT_LEN - output_len + 1
    total = sum(ratios)
    train, val = (round(count * ratio / total) for ratio in ratios[:2])
    if count < 3 or train < 1 or val < 1 or count - train - val < 1:
        raise UserError(
            f"{rows} rows are too few for windows of {input_len} input and {output_len} output steps in three parts"
        )
    origins = np.arange(SPLIT_INPUT_LEN, SPLIT_INPUT_LEN + count)
    parts: dict[Split, np.ndarray] = {
        "train": origins[:train],
        "val": origins[train : train + val],
        "test": origins[train + val :],
    }
    parts["train"] = parts["train"][parts["train"] >= input_len]
    if len(parts["train"]) == 0 or parts["val"][0] < input_len:
        raise UserError(f"input_len {input_len} is longer than the training part of {train} windows")
    left, least = len(parts["train"]), max(FEWEST_TRAINING_WINDOWS, output_len)
    if left < min(least, train):
        raise UserError(
            f"input_len {input_len} must leave at least {least} training windows, got {left} of {train}: "
            "the others lack that much history"
        )
    return parts


def fit_scaler(values: np.ndarray, train_origins: np.ndarray, input_len: int) -> Scaler:
    """Mean and std over all training input windows, missing readings (zeros) included; values (T,n).

    A row counts once for every window it lies in, as if the windows were materialized: METR-LA 54.40593 / 19.49374.
    """
    first, last = int(train_origins[0]), int(train_origins[-1])
    rows = np.arange(first - input_len, last)
    windows_over_row = np.minimum(rows, last - input_len) - np.maximum(rows - input_len + 1, first - input_len) + 1
    weight = windows_over_row / (windows_over_row.sum() * values.shape[1])
    part = values[rows].astype(np.float64)
    mean = float((weight[:, None] * part).sum())
    std = float(np.sqrt((weight[:, None] * (part - mean) ** 2).sum()))
    if not std > 0:
        raise UserError("the training part of the data is constant: nothing to forecast")
    return Scaler(mean, std)


@dataclass(frozen=True)
class Windows:
    """A data set held once on a device; batches are gathered by index and never materialized as windows."""

    values: Tensor  # (T,n) float32, the data's unit
    time_of_day: Tensor  # (T,) int64
    day_of_week: Tensor  # (T,) int64
    origins: dict[Split, Tensor]
    scaler: Scaler
    null_value: float
    input_len: int
    output_len: int

    @classmethod
    def of(cls, data: TrafficData, input_len: int, output_len: int, device: torch.device | str = "cpu") -> Windows:
        """The windows of a data set on a device; raises UserError when it is too short for them."""
        origins = split_origins(len(data.values), data.split, input_len, output_len)
        return cls(
            values=torch.tensor(data.values, device=device),
            time_of_day=torch.tensor(data.time_of_day, device=device),
            day_of_week=torch.tensor(data.day_of_week, device=device),
            origins={part: torch.tensor(rows, device=device) for part, rows in origins.items()},
            scaler=fit_scaler(data.values, origins["train"], input_len),
            null_value=data.null_value,
            input_len=input_len,
            output_len=output_len,
        )

    def batch(self, origins: Tensor) -> Batch:
        """Gather the windows whose first target lies in the given rows (b,)."""
        device = self.values.device
        past = origins[:, None] + torch.arange(-self.input_len, 0, device=device)
        future = origins[:, None] + torch.arange(self.output_len, device=device)
        reading, target = self.values[past], self.values[future]
        return Batch(
            reading=self.scaler.scale(reading),
            observed=reading != self.null_value,
            time_of_day=self.time_of_day[past],
            day_of_week=self.day_of_week[past],
            target=target,
            target_observed=target != self.null_value,
        )
