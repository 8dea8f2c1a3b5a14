"""What can be chosen about the model; free of torch, so that plans and dry runs stay light."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from altformer.schema import Strict


class ModelConfig(Strict):
    """The model's hyperparameters; the defaults are the Phase 1 baseline.

    Widths must fit the heads (`embed_dim` divisible by `num_heads`, and by `fusion_heads` where the fusion attends);
    `patch_len` is checked against the window length when the model is built.
    """

    embed_dim: int = Field(96, ge=2)
    num_heads: int = Field(4, ge=1)
    mlp_ratio: int = Field(4, ge=1)
    temporal_depth_1: int = Field(2, ge=1)
    spatial_depth_1: int = Field(2, ge=1)
    temporal_depth_2: int = Field(2, ge=1)
    spatial_depth_2: int = Field(2, ge=1)
    fusion_type: Literal["gated", "concat", "cross_attn"] = "gated"
    fusion_heads: int = Field(4, ge=1)
    fusion_dropout: float = Field(0.1, ge=0, lt=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    use_positional_encoding: bool = True
    positional_encoding_type: Literal["sincos", "none"] = "sincos"
    use_time_of_day: bool = True
    use_day_of_week: bool = True
    use_sensor_identity: bool = True
    use_adaptive: bool = True
    adaptive_dim: int = Field(80, ge=1)
    patch_len: int = Field(1, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _one_way_to_say_no_position(cls, values: Any) -> Any:
        """Set both position fields off when either one is, so that equal models have equal configs (and cells)."""
        if not isinstance(values, dict):
            return values
        off = values.get("use_positional_encoding") in (False, "false", "False")
        if off or values.get("positional_encoding_type") == "none":
            return values | {"use_positional_encoding": False, "positional_encoding_type": "none"}
        return values

    @model_validator(mode="after")
    def _widths_fit(self) -> ModelConfig:
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"embed_dim must be divisible by num_heads: embed_dim {self.embed_dim}, num_heads {self.num_heads}"
            )
        if self.embed_dim % 2:
            raise ValueError(f"embed_dim must be even, half sines and half cosines: embed_dim {self.embed_dim}")
        if self.fusion_type == "cross_attn" and self.embed_dim % self.fusion_heads:
            raise ValueError(
                "embed_dim must be divisible by fusion_heads when fusion_type is cross_attn: "
                f"embed_dim {self.embed_dim}, fusion_heads {self.fusion_heads}"
            )
        return self
