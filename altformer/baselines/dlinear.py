"""DLinear: decomposition and two linear maps. b: batch, t: input steps, h: output steps, n: sensors, k: kernel size."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from altformer.baselines.config import DLinearConfig
from altformer.model.shape import ForecastShape


class DLinear(nn.Module):
    """One linear map of the trend plus one of what remains (Zeng et al., AAAI 2023); all sensors share the weights."""

    def __init__(self, config: DLinearConfig, shape: ForecastShape) -> None:
        super().__init__()
        self.kernel_size = config.kernel_size
        self.trend = nn.Linear(shape.input_len, shape.output_len)
        self.remainder = nn.Linear(shape.input_len, shape.output_len)

    def forward(self, reading: Tensor, observed: Tensor, time_of_day: Tensor, day_of_week: Tensor) -> Tensor:
        """(b,t,n) scaled -> (b,h,n); the other inputs are not looked at."""
        series = reading.transpose(1, 2)
        trend = moving_average(series, self.kernel_size)
        forecast: Tensor = self.trend(trend) + self.remainder(series - trend)
        return forecast.transpose(1, 2)


def moving_average(series: Tensor, kernel_size: int) -> Tensor:
    """Centred mean over k steps, (b,n,t) -> (b,n,t), k odd; the first and last values stand for what lies beyond."""
    reach = (kernel_size - 1) // 2
    padded = F.pad(series, (reach, reach), mode="replicate")
    return F.avg_pool1d(padded, kernel_size, stride=1)
