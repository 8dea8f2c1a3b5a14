"""The clock as input channels, the way published models read it. b: batch, t: input steps, n: sensors."""

from __future__ import annotations

import torch
from torch import Tensor


def day_fraction(time_of_day: Tensor, steps_per_day: int, like: Tensor) -> Tensor:
    """Slots (b,t) as the share of the day that has passed, 0..1, in the shape (b,t,n) and type of `like`."""
    return _spread(time_of_day.to(like.dtype) / steps_per_day, like)


def day_number(day_of_week: Tensor, like: Tensor) -> Tensor:
    """Days (b,t) as the numbers 0 (Monday) to 6, in the shape (b,t,n) and type of `like`."""
    return _spread(day_of_week.to(like.dtype), like)


def _spread(clock: Tensor, like: Tensor) -> Tensor:
    return torch.broadcast_to(clock[..., None], like.shape)
