"""A perceptron over each sensor's own series. b: batch, t: input steps, h: output steps, n: sensors."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from altformer.baselines.config import MlpConfig
from altformer.model.dropout import Dropout
from altformer.model.shape import ForecastShape


class Mlp(nn.Module):
    """ReLU layers from the t readings of a sensor to its forecast; all sensors share the weights.

    It knows neither the clock nor which sensor it looks at, so its distance to STID is what place and time are worth.
    Chosen here, since the "per-sensor MLP" of published tables names no sizes: two hidden layers of 256.
    """

    def __init__(self, config: MlpConfig, shape: ForecastShape) -> None:
        super().__init__()
        widths = [shape.input_len] + config.num_layers * [config.hidden_dim]
        hidden = [
            nn.Sequential(nn.Linear(fan_in, fan_out), nn.ReLU(), Dropout(config.dropout))
            for fan_in, fan_out in pairwise(widths)
        ]
        self.layers = nn.Sequential(*hidden, nn.Linear(widths[-1], shape.output_len))

    def forward(self, reading: Tensor, observed: Tensor, time_of_day: Tensor, day_of_week: Tensor) -> Tensor:
        """(b,t,n) scaled -> (b,h,n); the other inputs are not looked at."""
        forecast: Tensor = self.layers(reading.transpose(1, 2)).transpose(1, 2)
        return forecast
