"""The two encoders of a stage. Shapes: b batch, n sensors, t time tokens, d width; r rows, s tokens in a row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from altformer.model.attention import SelfAttention
from altformer.model.config import ModelConfig
from altformer.model.dropout import Dropout, StochasticDepth
from altformer.model.linear import Linear, feed_forward, is_convolved


class FeedForward(nn.Module):
    """Each token by itself through a wider ReLU layer, (r,s,d) -> (r,s,d); GELU costs twice as much on a CPU."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.widen = Linear(dim, hidden_dim)
        self.narrow = Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform every token of `x`."""
        # As one list of tokens: the widened tensor is then no view of another, so relu_ needs no copy of it.
        rows = x.flatten(0, 1)
        if is_convolved(rows, self.widen.out_features):
            return feed_forward(rows, self.widen, self.narrow).view(x.shape)
        hidden = torch.relu_(self.widen(rows))
        narrowed: Tensor = self.narrow(hidden).view(x.shape)
        return narrowed


class EncoderLayer(nn.Module):
    """A pre-norm Transformer layer (Xiong et al., 2020): attention and feed-forward, each added to its input."""

    def __init__(self, config: ModelConfig, stochastic_depth: float) -> None:
        super().__init__()
        dim = config.embed_dim
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = SelfAttention(dim, config.num_heads)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, config.mlp_ratio * dim)
        self.dropout = Dropout(config.dropout)
        self.depth = StochasticDepth(stochastic_depth)

    def forward(self, x: Tensor, position: nn.Module) -> Tensor:
        """(r,s,d) -> (r,s,d)."""
        x = x + self.depth(self.dropout(self.attention(self.attention_norm(x), position)))
        x = x + self.depth(self.dropout(self.feed_forward(self.feed_forward_norm(x))))
        return x


class Encoder(nn.Module):
    """`depth` layers and the norm that pre-norm layers leave to the end. (r,s,d) -> (r,s,d).

    All layers are told the same of places (`position`, see positions.py). The chance that stochastic depth leaves a
    layer out grows linearly to `stochastic_depth_rate` at the last one (Huang et al., 2016).
    """

    def __init__(self, config: ModelConfig, depth: int, position: nn.Module) -> None:
        super().__init__()
        rates = [config.stochastic_depth_rate * (layer + 1) / depth for layer in range(depth)]
        self.layers = nn.ModuleList(EncoderLayer(config, rate) for rate in rates)
        self.norm = nn.LayerNorm(config.embed_dim)
        self.position = position

    def forward(self, x: Tensor) -> Tensor:
        """Encode each row of `x` (r,s,d) by itself."""
        for layer in self.layers:
            x = layer(x, self.position)
        encoded: Tensor = self.norm(x)
        return encoded


class TemporalEncoder(Encoder):
    """Self-attention over the steps of one sensor; sensors never mix. (b,n,t,d) -> (b,n,t,d)."""

    def forward(self, x: Tensor) -> Tensor:
        """Encode each sensor's series."""
        return super().forward(x.flatten(0, 1)).view(x.shape)


class SpatialEncoder(Encoder):
    """Self-attention over the sensors of one step; steps never mix. (b,n,t,d) -> (b,n,t,d).

    The axes change places once on the way in and once on the way out, not in every layer.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Encode each step's network, all steps in one call over (b*t,n,d)."""
        b, n, t, d = x.shape
        rows = x.transpose(1, 2).reshape(b * t, n, d)
        return super().forward(rows).view(b, t, n, d).transpose(1, 2).contiguous()


class StepwiseSpatialEncoder(Encoder):
    """The same function as `SpatialEncoder`, one call per step: the guide's form, kept to show that they are equal."""

    def forward(self, x: Tensor) -> Tensor:
        """Encode each step's network by itself."""
        steps = [super(StepwiseSpatialEncoder, self).forward(step.contiguous()) for step in x.unbind(dim=2)]
        return torch.stack(steps, dim=2)


SPATIAL_ENCODERS: dict[str, type[Encoder]] = {"batched": SpatialEncoder, "stepwise": StepwiseSpatialEncoder}
