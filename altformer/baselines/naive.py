"""Forecasts by repetition, which every model must beat.

Both copy what stands in the data, so a missing reading is copied as such (in the public data sets as 0): the published
numbers are made that way.

b: batch, t: input steps, h: output steps, n: sensors
"""

from __future__ import annotations

from torch import Tensor, nn

from altformer.baselines.config import CopyLastConfig, LastValueConfig
from altformer.errors import UserError
from altformer.model.shape import ForecastShape


class CopyLast(nn.Module):
    """Repeats the last h readings as the forecast of the next h; `UserError` when the input is shorter than that."""

    def __init__(self, config: CopyLastConfig, shape: ForecastShape) -> None:
        super().__init__()
        if shape.input_len < shape.output_len:
            raise UserError(
                "copy_last repeats as many readings as it forecasts, so input_len must be at least output_len: "
                f"input_len {shape.input_len}, output_len {shape.output_len}"
            )
        self.output_len = shape.output_len

    def forward(self, reading: Tensor, observed: Tensor, time_of_day: Tensor, day_of_week: Tensor) -> Tensor:
        """(b,t,n) scaled -> (b,h,n); the other inputs are not looked at."""
        return reading[:, -self.output_len :]


class LastValue(nn.Module):
    """Repeats the last reading h times."""

    def __init__(self, config: LastValueConfig, shape: ForecastShape) -> None:
        super().__init__()
        self.output_len = shape.output_len

    def forward(self, reading: Tensor, observed: Tensor, time_of_day: Tensor, day_of_week: Tensor) -> Tensor:
        """(b,t,n) scaled -> (b,h,n); the other inputs are not looked at."""
        return reading[:, -1:].expand(-1, self.output_len, -1)
