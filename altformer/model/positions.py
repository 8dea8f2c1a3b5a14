"""What attention knows of places, besides what the tokens say: position in time, or the road graph.

Each is a module called with the query and the key of one attention, (r,heads,s,c) both, and gives back both and a bias
to add to the scores, (r or 1,heads,s,s) or None. Shapes: r rows, s tokens in a row, c width of a head, n sensors.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from altformer.errors import UserError
from altformer.model.config import ModelConfig
from altformer.model.shape import ForecastShape

Placed = tuple[Tensor, Tensor, Tensor | None]


class NoPosition(nn.Module):
    """Nothing: the tokens carry their position themselves, or there is none."""

    def forward(self, query: Tensor, key: Tensor) -> Placed:
        """Both unchanged, no bias."""
        return query, key, None


class RotaryPosition(nn.Module):
    """Pairs of features turn by an angle that grows with the position (Su et al., 2021).

    The product of query i and key j then depends on j - i alone. Feature pairs are (k, k + c/2), at 10000^(-2k/c).
    """

    def __init__(self, tokens: int, head_dim: int) -> None:
        super().__init__()
        rate = 10000.0 ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
        angle = torch.arange(tokens, dtype=torch.float32)[:, None] * rate
        self.register_buffer("cosine", torch.cos(angle), persistent=False)
        self.register_buffer("sine", torch.sin(angle), persistent=False)
        self.cosine: Tensor
        self.sine: Tensor

    def forward(self, query: Tensor, key: Tensor) -> Placed:
        """Both turned, no bias."""
        return self._turn(query), self._turn(key), None

    def _turn(self, x: Tensor) -> Tensor:
        s = x.shape[-2]
        cosine, sine = self.cosine[:s].to(x.dtype), self.sine[:s].to(x.dtype)
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


class RelativePosition(nn.Module):
    """A learned vector per clipped distance is added to the keys (Shaw et al., 2018): score += q_i . a_clip(j-i).

    Distances beyond `max_relative_position` share the vector of the last. The vectors are common to all heads.
    """

    def __init__(self, head_dim: int, max_relative_position: int) -> None:
        super().__init__()
        self.reach = max_relative_position
        self.vectors = nn.Parameter(torch.randn(2 * max_relative_position + 1, head_dim) * head_dim**-0.5)

    def forward(self, query: Tensor, key: Tensor) -> Placed:
        """Both unchanged; a bias of the scores, already divided by sqrt(c) as attention divides its own."""
        s, c = query.shape[-2:]
        vectors = self.vectors[self.distance(s, query.device)].to(query.dtype)
        bias = torch.einsum("rhic,ijc->rhij", query, vectors) * c**-0.5
        return query, key, bias

    def distance(self, tokens: int, device: torch.device) -> Tensor:
        """Which vector is that of each pair, (s,s)."""
        place = torch.arange(tokens, device=device)
        return (place[None, :] - place[:, None]).clamp(-self.reach, self.reach) + self.reach


class GraphBias(nn.Module):
    """The road graph as a bias of spatial attention: closeness of two sensors times a learned strength per head."""

    def __init__(self, num_heads: int, shape: ForecastShape) -> None:
        super().__init__()
        if shape.adjacency is None:
            raise UserError("graph_bias needs a road graph, and this data set has none (dataset.graph for your own)")
        self.register_buffer("closeness", torch.from_numpy(np.array(shape.adjacency, dtype=np.float32)))
        self.closeness: Tensor
        self.strength = nn.Parameter(torch.ones(num_heads))

    def forward(self, query: Tensor, key: Tensor) -> Placed:
        """Both unchanged, a bias (1,heads,n,n)."""
        bias = self.strength[:, None, None] * self.closeness
        return query, key, bias[None].to(query.dtype)


def temporal_position(config: ModelConfig, tokens: int) -> nn.Module:
    """What the temporal attention is told; fixed and learnable positions are part of the tokens instead."""
    head_dim = config.embed_dim // config.num_heads
    if config.positional_encoding_type == "rotary":
        return RotaryPosition(tokens, head_dim)
    if config.positional_encoding_type == "relative":
        return RelativePosition(head_dim, config.max_relative_position)
    return NoPosition()


def spatial_position(config: ModelConfig, shape: ForecastShape) -> nn.Module:
    """What the spatial attention is told: sensors have no order, but may have a road graph."""
    return GraphBias(config.num_heads, shape) if config.graph_bias else NoPosition()
