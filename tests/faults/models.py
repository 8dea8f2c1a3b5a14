"""Small models of a user's own for the fault suite: quick to train, as slow as asked, and some that break.

Named in a matrix as `model: {class: tests.faults.models:Plain, pause: 0.1}` with the repository in PYTHONPATH. The file
is part of a cell's identity, so what a fault needs to know at run time (has it happened yet?) is not an option but a
file in the folder that $ALTFORMER_FAULTS names, which `harness.Matrix` gives every process of a run.

b: batch, s: input steps, h: output steps, n: sensors
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from altformer.model.shape import ForecastShape

FOLDER = "ALTFORMER_FAULTS"
HURRY = "hurry"  # the mark that ends all pauses


def fault_folder() -> Path:
    """The folder that is this run's own, for the marks of faults."""
    return Path(os.environ[FOLDER])


def happens_now(name: str, times: int = 1) -> bool:
    """Whether a fault is to happen that happens so often in a run, whatever process asks; each True is one of them."""
    for number in range(times):
        try:
            os.close(os.open(fault_folder() / f"{name}-{number}", os.O_CREAT | os.O_EXCL))
            return True
        except FileExistsError:
            continue
    return False


def hurried() -> bool:
    """Whether nothing is to be slow any more: what the test has waited for has happened."""
    return FOLDER in os.environ and (fault_folder() / HURRY).exists()


class Plain(nn.Module):
    """A linear forecast of each sensor from its own past, with dropout, so that lost random numbers would be seen.

    `pause`: seconds that each training step takes longer, which costs no processor, until there is the mark `HURRY`.
    """

    def __init__(self, shape: ForecastShape, pause: float = 0.0) -> None:
        super().__init__()
        self.pause = pause
        self.steps = 0  # of training, since it was built: an attempt at a cell builds it anew
        self.linear = nn.Linear(shape.input_len, shape.output_len)
        self.dropout = nn.Dropout(0.1)

    def forward(self, reading: Tensor, observed: Tensor, time_of_day: Tensor, day_of_week: Tensor) -> Tensor:
        """(b,s,n) -> (b,h,n)."""
        if self.training:
            self.steps += 1
            if self.pause and not hurried():
                time.sleep(self.pause)
        forecast: Tensor = self.linear(self.dropout(reading).transpose(1, 2)).transpose(1, 2)
        return forecast


class NanAtStep(Plain):
    """Forecasts NaN from a training step of each attempt on."""

    def __init__(self, shape: ForecastShape, step: int, pause: float = 0.0) -> None:
        super().__init__(shape, pause)
        self.step = step

    def forward(self, reading: Tensor, observed: Tensor, time_of_day: Tensor, day_of_week: Tensor) -> Tensor:
        """(b,s,n) -> (b,h,n)."""
        forecast = super().forward(reading, observed, time_of_day, day_of_week)
        return forecast * torch.nan if self.steps >= self.step else forecast


class RaisesAtStep(Plain):
    """Raises at a training step, `times` in a run of a matrix (None: always); `message` is what it says."""

    def __init__(
        self, shape: ForecastShape, step: int, message: str, times: int | None = None, pause: float = 0.0
    ) -> None:
        super().__init__(shape, pause)
        self.step, self.message, self.times = step, message, times

    def forward(self, reading: Tensor, observed: Tensor, time_of_day: Tensor, day_of_week: Tensor) -> Tensor:
        """(b,s,n) -> (b,h,n)."""
        forecast = super().forward(reading, observed, time_of_day, day_of_week)
        if self.training and self.steps == self.step and (self.times is None or happens_now("raised", self.times)):
            self._raise()
        return forecast

    def _raise(self) -> None:
        raise RuntimeError(self.message)


class OutOfMemoryAtStep(RaisesAtStep):
    """Raises torch's error for a GPU without memory left."""

    def _raise(self) -> None:
        raise torch.OutOfMemoryError(self.message)


class HangsAtStep(Plain):
    """Sleeps for ever at a training step, `times` in a run of a matrix."""

    def __init__(self, shape: ForecastShape, step: int, times: int = 1, pause: float = 0.0) -> None:
        super().__init__(shape, pause)
        self.step, self.times = step, times

    def forward(self, reading: Tensor, observed: Tensor, time_of_day: Tensor, day_of_week: Tensor) -> Tensor:
        """(b,s,n) -> (b,h,n)."""
        if self.training and self.steps == self.step and happens_now("hung", self.times):
            time.sleep(1e6)
        return super().forward(reading, observed, time_of_day, day_of_week)


class InfAtStep(NanAtStep):
    """Forecasts values beyond all bounds from a training step of each attempt on."""

    def forward(self, reading: Tensor, observed: Tensor, time_of_day: Tensor, day_of_week: Tensor) -> Tensor:
        """(b,s,n) -> (b,h,n)."""
        forecast = Plain.forward(self, reading, observed, time_of_day, day_of_week)
        return forecast + torch.inf if self.steps >= self.step else forecast


class NanForSeed(NanAtStep):
    """Forecasts NaN from a training step on where the run has this seed, and is `Plain` for every other."""

    def __init__(self, shape: ForecastShape, step: int, seed: int, pause: float = 0.0) -> None:
        super().__init__(shape, step if torch.initial_seed() == seed else 2**31, pause)


class OutOfHostMemoryAtStep(RaisesAtStep):
    """Raises Python's error for a machine without memory left."""

    def _raise(self) -> None:
        raise MemoryError(self.message)


class TakesMemoryAtStep(RaisesAtStep):
    """Takes 256 MB after the other at a training step until its process is ended; raises after `megabytes`."""

    def __init__(
        self,
        shape: ForecastShape,
        step: int,
        megabytes: int,
        message: str = "nobody has ended this process",
        times: int | None = None,
        pause: float = 0.0,
    ) -> None:
        super().__init__(shape, step, message, times, pause)
        self.megabytes = megabytes

    def _raise(self) -> None:
        taken = []
        for _ in range(0, self.megabytes, 256):
            taken.append(torch.ones(2**26))
            time.sleep(0.1)
        time.sleep(30)
        super()._raise()


class Heavy(Plain):
    """Takes so many megabytes of each checkpoint."""

    def __init__(self, shape: ForecastShape, megabytes: float, pause: float = 0.0) -> None:
        super().__init__(shape, pause)
        self.register_buffer("ballast", torch.zeros(int(megabytes * 2**20 / 4)))
