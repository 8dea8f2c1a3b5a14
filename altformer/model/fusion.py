"""Ways to join what a stage's two encoders produced. All: (b,n,t,d), (b,n,t,d) -> (b,n,t,d)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from altformer.model.attention import CrossAttention
from altformer.model.config import ModelConfig
from altformer.model.dropout import Dropout
from altformer.model.linear import Linear


class GatedFusion(nn.Module):
    """A gate per feature decides between the two: g*T + (1-g)*S with g = sigmoid(W[T;S] + c) (as GMAN, Zheng 2020)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = Linear(2 * config.embed_dim, config.embed_dim)

    def forward(self, temporal: Tensor, spatial: Tensor) -> Tensor:
        """Weigh `temporal` against `spatial`."""
        gate = torch.sigmoid(self.gate(torch.cat([temporal, spatial], dim=-1)))
        return torch.lerp(spatial, temporal, gate.to(spatial.dtype))  # under autocast the gate alone is bf16


class ConcatFusion(nn.Module):
    """One linear map of both, side by side."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.project = Linear(2 * config.embed_dim, config.embed_dim)

    def forward(self, temporal: Tensor, spatial: Tensor) -> Tensor:
        """Project `temporal` and `spatial` together."""
        joined: Tensor = self.project(torch.cat([temporal, spatial], dim=-1))
        return joined


class CrossAttentionFusion(nn.Module):
    """Each step's spatial features attend to the temporal features of all steps of the same sensor, and are added."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention = CrossAttention(config.embed_dim, config.fusion_heads)
        self.dropout = Dropout(config.fusion_dropout)

    def forward(self, temporal: Tensor, spatial: Tensor) -> Tensor:
        """Let `spatial` read from `temporal`."""
        read = self.attention(spatial.flatten(0, 1), temporal.flatten(0, 1))
        added: Tensor = spatial + self.dropout(read).view(spatial.shape)
        return added


class GatedResidualFusion(nn.Module):
    """The spatial features, which have seen the temporal ones, plus a gated part of these: S + g * (V T + v).

    g = sigmoid(W[T;S] + c), or tanh of it, which can also take away.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = Linear(2 * config.embed_dim, config.embed_dim)
        self.value = Linear(config.embed_dim, config.embed_dim)
        self.activation = {"sigmoid": torch.sigmoid, "tanh": torch.tanh}[config.gate_activation]

    def forward(self, temporal: Tensor, spatial: Tensor) -> Tensor:
        """Add what the gate lets through of `temporal` to `spatial`."""
        gate = self.activation(self.gate(torch.cat([temporal, spatial], dim=-1)))
        added: Tensor = spatial + gate * self.value(temporal)
        return added


class AdaptiveFusion(nn.Module):
    """A weighted mean per feature, a*T + (1-a)*S, its weight learned (`learnable_weights`) or fixed at one half."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        balance = torch.zeros(config.embed_dim)  # sigmoid of it is the temporal share
        self.balance: Tensor
        if config.learnable_weights:
            self.balance = nn.Parameter(balance)
        else:
            self.register_buffer("balance", balance, persistent=False)

    def forward(self, temporal: Tensor, spatial: Tensor) -> Tensor:
        """Average `temporal` and `spatial`."""
        return torch.lerp(spatial, temporal, torch.sigmoid(self.balance).to(spatial.dtype))


FUSIONS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "gated": GatedFusion,
    "concat": ConcatFusion,
    "cross_attn": CrossAttentionFusion,
    "gated_residual": GatedResidualFusion,
    "adaptive": AdaptiveFusion,
}
