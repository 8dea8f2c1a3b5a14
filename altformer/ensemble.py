"""The average of several models' forecasts.

b: batch, h: output steps, n: sensors
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from altformer.errors import UserError
from altformer.evaluate import Forecaster

MEMBERS = (3, 5)  # at least, at most


def average(forecasters: Sequence[Forecaster]) -> Forecaster:
    """The mean of the members' forecasts, (b,h,n) in the data's unit; 3 to 5 members, else UserError."""
    least, most = MEMBERS
    if not least <= len(forecasters) <= most:
        raise UserError(f"an ensemble has {least} to {most} members, got {len(forecasters)}")

    def forecast(origins: Tensor) -> Tensor:
        return torch.stack([forecaster(origins) for forecaster in forecasters]).mean(dim=0)

    return forecast
