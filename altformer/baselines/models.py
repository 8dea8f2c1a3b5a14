"""Every baseline by the name that `model.type` takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from altformer.baselines.dlinear import DLinear
from altformer.baselines.graph_wavenet import GraphWaveNet
from altformer.baselines.historical_average import HistoricalAverage
from altformer.baselines.mlp import Mlp
from altformer.baselines.naive import CopyLast, LastValue
from altformer.baselines.staeformer import Staeformer
from altformer.baselines.stid import Stid
from altformer.model.shape import ForecastShape

MODELS: dict[str, Callable[[Any, ForecastShape], nn.Module]] = {
    "copy_last": CopyLast,
    "last_value": LastValue,
    "historical_average": HistoricalAverage,
    "mlp": Mlp,
    "dlinear": DLinear,
    "stid": Stid,
    "graph_wavenet": GraphWaveNet,
    "staeformer": Staeformer,
}
