"""What can be chosen about our model, and about a user's own; free of torch, so that plans and dry runs stay light."""

from __future__ import annotations

import itertools
import re
from typing import Any, Literal, get_args

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from altformer.schema import Strict

Position = Literal["none", "sincos", "learnable", "relative", "rotary"]
_SWITCH = TypeAdapter(bool)


class ModelConfig(Strict):
    """The alternating Transformer's hyperparameters; the defaults are the Phase 1 baseline.

    Widths must fit the heads (`embed_dim` divisible by `num_heads`, and by `fusion_heads` where the fusion attends);
    `patch_len` and `patch_sizes` are checked against the window length when the model is built.

    A stage is a temporal encoder, a spatial encoder and a fusion, a depth of 0 leaves one out; `num_stages` of them
    follow each other, with a decoder between. `encoder_order: parallel` lets both encoders of a stage read the stage's
    input. `share_stages` uses stage 1's encoders in every stage. `stage_skip` brings the input embedding and the stage
    before also to the next one, added or concatenated and projected; `cross_stage_attention` lets each stage attend to
    all before it. `patch_sizes` is a pyramid in time: every scale embeds patches of that many tokens, runs the stages,
    is upsampled and merged. `graph_bias` adds the road graph to the spatial attention.

    Positions are off where `use_positional_encoding` is false or `positional_encoding_type` is none, whichever layer
    says it: the guide's own `use_positional_encoding: false` beside a type means none, and a type that a higher layer
    (an arm, `--set`) sets on top of it switches nothing on; it must set `use_positional_encoding: true` too.
    """

    type: Literal["altformer"] = "altformer"
    embed_dim: int = Field(96, ge=2)
    num_heads: int = Field(4, ge=1)
    mlp_ratio: int = Field(4, ge=1)
    num_stages: int = Field(2, ge=1, le=3)
    temporal_depth_1: int = Field(2, ge=0)
    spatial_depth_1: int = Field(2, ge=0)
    temporal_depth_2: int = Field(2, ge=0)
    spatial_depth_2: int = Field(2, ge=0)
    temporal_depth_3: int = Field(2, ge=0)
    spatial_depth_3: int = Field(2, ge=0)
    encoder_order: Literal["alternating", "parallel"] = "alternating"
    share_stages: bool = False
    stage_skip: Literal["none", "add", "concat"] = "none"
    cross_stage_attention: bool = False
    spatial_impl: Literal["batched", "stepwise"] = "batched"
    fusion_type: Literal["gated", "concat", "cross_attn", "gated_residual", "adaptive"] = "gated"
    fusion_heads: int = Field(4, ge=1)
    fusion_dropout: float = Field(0.1, ge=0, lt=1)
    gate_activation: Literal["sigmoid", "tanh"] = "sigmoid"
    learnable_weights: bool = True
    dropout: float = Field(0.1, ge=0, lt=1)
    stochastic_depth_rate: float = Field(0.0, ge=0, lt=1)
    use_positional_encoding: bool = True
    positional_encoding_type: Position = "sincos"
    max_relative_position: int = Field(12, ge=1)
    use_time_of_day: bool = True
    use_day_of_week: bool = True
    use_sensor_identity: bool = True
    use_adaptive: bool = True
    adaptive_dim: int = Field(80, ge=1)
    graph_bias: bool = False
    patch_len: int = Field(1, ge=1)
    patch_sizes: tuple[int, ...] = (1,)

    @property
    def depths(self) -> tuple[tuple[int, int], ...]:
        """Temporal and spatial depth of each stage."""
        of_all = (
            (self.temporal_depth_1, self.spatial_depth_1),
            (self.temporal_depth_2, self.spatial_depth_2),
            (self.temporal_depth_3, self.spatial_depth_3),
        )
        return of_all[: self.num_stages]

    @model_validator(mode="before")
    @classmethod
    def _one_way_to_say_no_position(cls, values: Any) -> Any:
        """Set both position fields off when either one is, so that equal models have equal configs (and cells).

        Values that their own fields refuse stay, to be refused there.
        """
        if not isinstance(values, dict):
            return values
        use = _switched(values.get("use_positional_encoding", True))
        kind = values.get("positional_encoding_type", "sincos")
        if use is None or kind not in get_args(Position) or (use and kind != "none"):
            return values
        return values | {"use_positional_encoding": False, "positional_encoding_type": "none"}

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
        if self.positional_encoding_type == "rotary" and (self.embed_dim // self.num_heads) % 2:
            raise ValueError(
                "rotary positions turn pairs, so a head must have an even width: "
                f"embed_dim {self.embed_dim} / num_heads {self.num_heads} = {self.embed_dim // self.num_heads}"
            )
        return self

    @model_validator(mode="after")
    def _stages_fit(self) -> ModelConfig:
        links = {
            "share_stages": self.share_stages,
            "stage_skip": self.stage_skip != "none",
            "cross_stage_attention": self.cross_stage_attention,
        }
        linked = next((name for name, on in links.items() if on), None)
        if linked and self.num_stages < 2:
            raise ValueError(f"{linked} joins stages and needs num_stages of at least 2, got {self.num_stages}")
        if (0, 0) in self.depths:
            number = self.depths.index((0, 0)) + 1
            raise ValueError(f"a stage needs an encoder: temporal_depth_{number} and spatial_depth_{number} are both 0")
        if self.share_stages and len(set(self.depths)) > 1:
            shown = ", ".join(f"{temporal}-{spatial}" for temporal, spatial in self.depths)
            raise ValueError(f"share_stages needs the same depths in every stage, got {shown}")
        sizes = self.patch_sizes
        if sizes[:1] != (1,) or any(size <= before for before, size in itertools.pairwise(sizes)):
            raise ValueError(f"patch_sizes must start with 1 and increase, got {list(sizes)}")
        return self


class OwnModelConfig(Strict):
    """A user's own model: where its class is (`package.module:Name`) and the options that it is built with.

    It is built as `Name(shape, **options)`, with `shape` a `ForecastShape`, and called as our own model is (see
    `AltFormer.forward`). In YAML: `model: {class: my_package.module:MyModel, ...}`, all but the class its options.
    """

    type: Literal["own"]
    class_path: str
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("class_path")
    @classmethod
    def _names_module_and_class(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", value):
            raise ValueError("takes the class as package.module:Name")
        return value


def _switched(value: Any) -> bool | None:
    """How pydantic reads a switch, which includes no, off, f, n and 0; None where it would refuse the value."""
    try:
        return _SWITCH.validate_python(value)
    except ValidationError:
        return None
