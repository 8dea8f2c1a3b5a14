"""Ways to join what a stage's two encoders produced. All: (b,n,t,d), (b,n,t,d) -> (b,n,t,d)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from altformer.model.attention import CrossAttention
from altformer.model.config import ModelConfig
from altformer.model.dropout import Dropout


class GatedFusion(nn.Module):
    """A gate per feature decides between the two: g*T + (1-g)*S with g = sigmoid(W[T;S] + c) (as GMAN, Zheng 2020)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * config.embed_dim, config.embed_dim)

    def forward(self, temporal: Tensor, spatial: Tensor) -> Tensor:
        """Weigh `temporal` against `spatial`."""
        gate = torch.sigmoid(self.gate(torch.cat([temporal, spatial], dim=-1)))
        return torch.lerp(spatial, temporal, gate.to(spatial.dtype))  # under autocast the gate alone is bf16


class ConcatFusion(nn.Module):
    """One linear map of both, side by side."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.project = nn.Linear(2 * config.embed_dim, config.embed_dim)

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


FUSIONS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "gated": GatedFusion,
    "concat": ConcatFusion,
    "cross_attn": CrossAttentionFusion,
}
