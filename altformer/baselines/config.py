"""What can be chosen about the baselines; the defaults are the published sizes. Free of torch.

Each docstring also gives the recipe to train with, `published` where authors' code or paper say it, else `ours`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from altformer.schema import Strict


class CopyLastConfig(Strict):
    """The last h readings as the next h; nothing to choose, nothing to train."""

    type: Literal["copy_last"] = "copy_last"


class LastValueConfig(Strict):
    """The last reading for all h steps; nothing to choose, nothing to train."""

    type: Literal["last_value"] = "last_value"


class HistoricalAverageConfig(Strict):
    """The mean at the same time of the week; nothing to choose, nothing to train beyond one pass over the data."""

    type: Literal["historical_average"] = "historical_average"


class MlpConfig(Strict):
    """A perceptron over the input steps of one sensor.

    Recipe (ours, as STID's): Adam 2e-3, weight decay 1e-4, MultiStep x0.5 at epochs 1, 50, 80, batch 64, 100 epochs.
    """

    type: Literal["mlp"] = "mlp"
    hidden_dim: int = Field(256, ge=1)
    num_layers: int = Field(2, ge=1)  # hidden layers
    dropout: float = Field(0.0, ge=0, lt=1)


class DLinearConfig(Strict):
    """A linear map of the trend and one of the remainder.

    Recipe (for METR-LA that of BasicTS, Shao et al., 2024; the paper has no traffic speeds): Adam 2e-3, weight decay
    1e-4, MultiStep x0.5 at epochs 1 and 25, batch 64, 50 epochs, no gradient clipping.
    """

    type: Literal["dlinear"] = "dlinear"
    kernel_size: int = Field(25, ge=1)  # steps of the moving average, odd

    @model_validator(mode="after")
    def _average_has_a_middle(self) -> DLinearConfig:
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, the average is centred: kernel_size {self.kernel_size}")
        return self


class StidConfig(Strict):
    """Embeddings of place and time beside the series.

    Recipe (published, METR-LA): Adam 2e-3, weight decay 1e-4, MultiStep x0.5 at epochs 1, 50, 80, batch 64, 100
    epochs, gradient norm clipped at 5, masked MAE.
    """

    type: Literal["stid"] = "stid"
    series_dim: int = Field(32, ge=1)
    sensor_dim: int = Field(32, ge=1)
    time_of_day_dim: int = Field(32, ge=1)
    day_of_week_dim: int = Field(32, ge=1)
    num_layers: int = Field(3, ge=1)
    dropout: float = Field(0.15, ge=0, lt=1)


class GraphWaveNetConfig(Strict):
    """Dilated convolutions in time, diffusion over the road graph and over a learned one.

    Recipe (published): Adam 1e-3 constant, weight decay 1e-4, batch 64, 100 epochs, gradient norm clipped at 5, masked
    MAE. BasicTS, whose reproduction protocol.md quotes: Adam 2e-3, MultiStep x0.5 at epochs 1 and 50, the rest alike.
    """

    type: Literal["graph_wavenet"] = "graph_wavenet"
    num_blocks: int = Field(4, ge=1)
    layers_per_block: int = Field(2, ge=1, le=8)  # dilations 1, 2, 4, ... in every block
    kernel_size: int = Field(2, ge=2)  # steps
    residual_dim: int = Field(32, ge=1)
    skip_dim: int = Field(256, ge=1)
    end_dim: int = Field(512, ge=1)
    diffusion_steps: int = Field(2, ge=1)
    sensor_dim: int = Field(10, ge=1)  # of the two embeddings whose product is the learned graph
    dropout: float = Field(0.3, ge=0, lt=1)

    @model_validator(mode="after")
    def _a_graph_reaches_the_output(self) -> GraphWaveNetConfig:
        if self.num_blocks * self.layers_per_block < 2:
            raise ValueError(
                "num_blocks x layers_per_block must be at least 2: the diffusion of the last layer never reaches the "
                f"output, and a single layer is the last; num_blocks {self.num_blocks}, "
                f"layers_per_block {self.layers_per_block}"
            )
        return self


class StaeformerConfig(Strict):
    """A Transformer over time, then over sensors, on inputs with a spatio-temporal adaptive embedding.

    Recipe (published, METR-LA): Adam 1e-3, weight decay 3e-4, MultiStep x0.1 at epochs 20 and 30, batch 16, up to 200
    epochs with early stop after 30 without a better validation, no gradient clipping, masked MAE.
    """

    type: Literal["staeformer"] = "staeformer"
    reading_dim: int = Field(24, ge=1)
    time_of_day_dim: int = Field(24, ge=1)
    day_of_week_dim: int = Field(24, ge=1)
    adaptive_dim: int = Field(80, ge=1)
    feed_forward_dim: int = Field(256, ge=1)
    num_heads: int = Field(4, ge=1)
    num_layers: int = Field(3, ge=1)  # temporal, and as many spatial
    dropout: float = Field(0.1, ge=0, lt=1)

    @property
    def width(self) -> int:
        """Width of a token: 152 as published."""
        return self.reading_dim + self.time_of_day_dim + self.day_of_week_dim + self.adaptive_dim

    @model_validator(mode="after")
    def _width_fits_the_heads(self) -> StaeformerConfig:
        if self.width % self.num_heads:
            raise ValueError(
                "reading_dim + time_of_day_dim + day_of_week_dim + adaptive_dim must be divisible by num_heads: "
                f"sum {self.width}, num_heads {self.num_heads}"
            )
        return self


BaselineConfig = (
    CopyLastConfig
    | LastValueConfig
    | HistoricalAverageConfig
    | MlpConfig
    | DLinearConfig
    | StidConfig
    | GraphWaveNetConfig
    | StaeformerConfig
)
