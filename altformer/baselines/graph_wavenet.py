"""Graph WaveNet: dilated convolution in time, diffusion in space.

b: batch, c: channels, t: input steps, s: steps left, h: output steps, n: sensors, m: graphs
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from altformer.baselines.clock import day_fraction
from altformer.baselines.config import GraphWaveNetConfig
from altformer.model.dropout import Dropout
from altformer.model.shape import ForecastShape

_CHANNELS = 2  # reading, time of day


class GraphWaveNet(nn.Module):
    """Gated dilated convolutions with diffusion over the road graph, both ways, and a learned graph (Wu et al., 2019).

    Graph WaveNet for Deep Spatial-Temporal Graph Modeling, IJCAI 2019. Input shorter than the receptive field (13
    steps) is padded with zeros on the left, of a longer one only the last 13 steps are read. Where a data set has no
    road graph the learned one is the only one. The transition matrices are part of the state, so that weights alone
    restore the model.

    With METR-LA's 207 sensors the authors' code counts 309,400 weights, the published 309 k. Of these 15,712 never
    reach the output (a 1x1 convolution beside each of the 8 diffusions, 1,056 each, and diffusion and normalization of
    the last layer, 7,264). They are left out here, because DDP refuses weights without a gradient: 293,688 remain.
    """

    def __init__(self, config: GraphWaveNetConfig, shape: ForecastShape) -> None:
        super().__init__()
        dilations = [2**layer for _ in range(config.num_blocks) for layer in range(config.layers_per_block)]
        self.steps_per_day = shape.steps_per_day
        self.receptive_field = 1 + (config.kernel_size - 1) * sum(dilations)
        self.transitions: Tensor
        self.register_buffer("transitions", transition_matrices(shape.adjacency, shape.num_sensors))
        self.source = nn.Parameter(torch.randn(shape.num_sensors, config.sensor_dim))
        self.target = nn.Parameter(torch.randn(config.sensor_dim, shape.num_sensors))
        graphs = len(self.transitions) + 1
        self.start = nn.Conv2d(_CHANNELS, config.residual_dim, 1)
        self.gates = nn.ModuleList(GatedConvolution(config, dilation) for dilation in dilations)
        self.skips = nn.ModuleList(nn.Conv2d(config.residual_dim, config.skip_dim, 1) for _ in dilations)
        self.mixes = nn.ModuleList(SpatialMix(config, graphs) for _ in dilations[1:])  # none after the last skip
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(config.skip_dim, config.end_dim, 1),
            nn.ReLU(),
            nn.Conv2d(config.end_dim, shape.output_len, 1),
        )

    def forward(self, reading: Tensor, observed: Tensor, time_of_day: Tensor, day_of_week: Tensor) -> Tensor:
        """(b,t,n) scaled and (b,t) slots -> (b,h,n); `observed` and `day_of_week` are not looked at, as published."""
        graphs = torch.cat([self.transitions, self._learned_graph()[None]])
        channels = torch.stack([reading, day_fraction(time_of_day, self.steps_per_day, reading)], dim=1)
        # (b,2,t,n)
        x = self.start(self._fit_to_receptive_field(channels))
        # (b,c,13,n)
        last = x.new_zeros(())
        for layer, (gate, skip) in enumerate(zip(self.gates, self.skips, strict=True)):
            convolved = gate(x)
            # Only the last step of a skip connection reaches the output, which is one step long.
            last = last + skip(convolved[:, :, -1:])
            if layer < len(self.mixes):
                x = self.mixes[layer](convolved, x, graphs)
        # (b,skip,1,n)
        forecast: Tensor = self.head(last).squeeze(2)
        # (b,h,n)
        return forecast

    def _fit_to_receptive_field(self, x: Tensor) -> Tensor:
        """(b,c,t,n) -> (b,c,receptive field,n): zeros before it or its oldest steps off."""
        return F.pad(x, (0, 0, self.receptive_field - x.shape[2], 0))

    def _learned_graph(self) -> Tensor:
        """The self-adaptive adjacency (n,n), rows summing to 1."""
        return torch.softmax(torch.relu(self.source @ self.target), dim=1)


class GatedConvolution(nn.Module):
    """tanh of one dilated convolution in time times sigmoid of another. (b,c,s,n) -> (b,c,s-dilation*(kernel-1),n)."""

    def __init__(self, config: GraphWaveNetConfig, dilation: int) -> None:
        super().__init__()
        self.both = nn.Conv2d(
            config.residual_dim, 2 * config.residual_dim, (config.kernel_size, 1), dilation=(dilation, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve each sensor's series."""
        value, gate = self.both(x).chunk(2, dim=1)
        gated: Tensor = torch.tanh(value) * torch.sigmoid(gate)
        return gated


class SpatialMix(nn.Module):
    """Diffusion over every graph, then the layer's input added and the batch normalized.

    A linear map joins the signal with its 1..k-step diffusions over each of m graphs (Li et al., 2018). The signal
    flows along the edges, sensor j receives sum_i x_i P_ij, as in the authors' code; the paper's formula has the
    transpose, and since both directions are used the two differ only in which side is normalized.
    """

    def __init__(self, config: GraphWaveNetConfig, graphs: int) -> None:
        super().__init__()
        self.steps = config.diffusion_steps
        parts = 1 + graphs * config.diffusion_steps
        self.join = nn.Conv2d(parts * config.residual_dim, config.residual_dim, 1)
        self.dropout = Dropout(config.dropout)
        self.norm = nn.BatchNorm2d(config.residual_dim)

    def forward(self, x: Tensor, layer_input: Tensor, graphs: Tensor) -> Tensor:
        """(b,c,s,n), (b,c,s' >= s,n), (m,n,n) -> (b,c,s,n)."""
        parts = [x]
        for graph in graphs:
            flow = x
            for _ in range(self.steps):
                flow = flow @ graph
                parts.append(flow)
        mixed = self.dropout(self.join(torch.cat(parts, dim=1)))
        normalized: Tensor = self.norm(mixed + layer_input[:, :, -x.shape[2] :])
        return normalized


def transition_matrices(adjacency: NDArray[np.float32] | None, num_sensors: int) -> Tensor:
    """Random walks along the edges and against them, (2,n,n), rows summing to 1 (0 without edges); (0,n,n) if None."""
    if adjacency is None:
        return torch.zeros(0, num_sensors, num_sensors)
    forward = torch.tensor(adjacency, dtype=torch.float32)
    both = torch.stack([forward, forward.T])
    degree = both.sum(dim=2, keepdim=True)
    return torch.where(degree > 0, both / degree.where(degree > 0, 1.0), 0.0)
