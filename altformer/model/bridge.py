"""The way from one stage to the next. Shapes: b batch, n sensors, t time tokens, d width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from altformer.model.attention import CrossAttention
from altformer.model.config import ModelConfig
from altformer.model.decoder import SpatioTemporalDecoder
from altformer.model.dropout import Dropout
from altformer.model.embedding import TABLE_STD


class Bridge(nn.Module):
    """Decoder between two stages, and what else of the way so far reaches the next one.

    Embedding (b,n,t,d) and the outputs of all `stages` so far, each (b,n,t,d) -> temporal part, spatial part.
    """

    def __init__(self, config: ModelConfig, tokens: int, stages: int) -> None:
        super().__init__()
        self.decoder = SpatioTemporalDecoder(config, tokens)
        self.skip = SKIPS[config.stage_skip](config)
        self.earlier = CrossStageAttention(config, stages) if config.cross_stage_attention else NoCrossStageAttention()

    def forward(self, embedded: Tensor, outputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The two parts that feed the next stage's encoders."""
        temporal_part, spatial_part = self.decoder(outputs[-1])
        temporal_part = self.skip(temporal_part, embedded, outputs[-1])
        temporal_part = self.earlier(temporal_part, outputs)
        return temporal_part, spatial_part


class NoSkip(nn.Module):
    """The decoder's output alone."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()

    def forward(self, part: Tensor, embedded: Tensor, fused: Tensor) -> Tensor:
        """`part` unchanged."""
        return part


class AddedSkip(nn.Module):
    """Input embedding and the stage before are added."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()

    def forward(self, part: Tensor, embedded: Tensor, fused: Tensor) -> Tensor:
        """The sum of the three."""
        return part + embedded + fused


class ConcatenatedSkip(nn.Module):
    """Input embedding and the stage before are put beside it, and all three projected together."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.project = nn.Linear(3 * config.embed_dim, config.embed_dim)

    def forward(self, part: Tensor, embedded: Tensor, fused: Tensor) -> Tensor:
        """One linear map of the three."""
        joined: Tensor = self.project(torch.cat([part, embedded, fused], dim=-1))
        return joined


SKIPS = {"none": NoSkip, "add": AddedSkip, "concat": ConcatenatedSkip}


class NoCrossStageAttention(nn.Module):
    """No attention to the stages before."""

    def forward(self, part: Tensor, outputs: Sequence[Tensor]) -> Tensor:
        """`part` unchanged."""
        return part


class CrossStageAttention(nn.Module):
    """Each sensor's tokens attend to that sensor's tokens in the outputs of all stages before, and add what they read.

    A learned vector tells the stages apart.
    """

    def __init__(self, config: ModelConfig, stages: int) -> None:
        super().__init__()
        self.attention = CrossAttention(config.embed_dim, config.num_heads)
        self.stage_names = nn.Parameter(TABLE_STD * torch.randn(stages, config.embed_dim))
        self.dropout = Dropout(config.dropout)

    def forward(self, part: Tensor, outputs: Sequence[Tensor]) -> Tensor:
        """Let `part` (b,n,t,d) read from all `outputs`, each (b,n,t,d): (b,n,t,d)."""
        source = torch.cat(self.marked(outputs), dim=2)
        read = self.attention(part.flatten(0, 1), source.flatten(0, 1))
        added: Tensor = part + self.dropout(read).view(part.shape)
        return added

    def marked(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs, each with the vector of its stage, (b,n,t,d) each."""
        return [output + name for output, name in zip(outputs, self.stage_names, strict=True)]
