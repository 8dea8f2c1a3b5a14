from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest
from pydantic import ValidationError

from altformer.errors import UserError
from altformer.model.build import build_model
from altformer.model.config import ModelConfig
from altformer.model.fusion import FUSIONS
from altformer.model.shape import ForecastShape


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"embed_dim": 50}, "embed_dim must be divisible by num_heads: embed_dim 50, num_heads 4"),
        ({"embed_dim": 9, "num_heads": 3}, "embed_dim must be even, half sines and half cosines: embed_dim 9"),
        (
            {"fusion_type": "cross_attn", "fusion_heads": 5},
            "embed_dim must be divisible by fusion_heads when fusion_type is cross_attn: embed_dim 96, fusion_heads 5",
        ),
        ({"fusion_type": "gates"}, "'gated', 'concat' or 'cross_attn'"),
        ({"positional_encoding_type": "sin"}, "'sincos' or 'none'"),
        ({"dropout": 1.0}, "less than 1"),
        ({"dropout": -0.1}, "greater than or equal to 0"),
        ({"dropout": float("nan")}, "less than 1.*nan"),
        ({"patch_len": 0}, "greater than or equal to 1"),
        ({"temporal_depth_2": 0}, "greater than or equal to 1"),
        ({"spatial_depth_1": 1.5}, "integer"),
        ({"embed_dims": 64}, "Extra inputs"),
    ],
)
def test_an_invalid_value_is_refused_with_the_rule_and_the_value(fields, message):
    with pytest.raises(ValidationError, match=message):
        ModelConfig(**fields)


def test_a_patch_that_does_not_divide_the_window_is_refused_when_the_model_is_built():
    with pytest.raises(UserError, match="patch_len must divide input_len: patch_len 5, input_len 12"):
        build_model(ModelConfig(patch_len=5), ForecastShape(num_sensors=2, input_len=12))


@pytest.mark.parametrize(
    "fields",
    [
        {"use_positional_encoding": False},
        {"use_positional_encoding": "false"},
        {"positional_encoding_type": "none"},
        {"use_positional_encoding": True, "positional_encoding_type": "none"},
        {"use_positional_encoding": False, "positional_encoding_type": "sincos"},
    ],
)
def test_all_ways_to_switch_positions_off_give_the_same_config(fields):
    off = ModelConfig(**fields)
    assert off == ModelConfig(use_positional_encoding=False, positional_encoding_type="none")
    assert ModelConfig(**off.model_dump()) == off
    assert off != ModelConfig()


def test_fusion_heads_need_not_fit_where_the_fusion_does_not_attend():
    assert ModelConfig(fusion_heads=5).fusion_type == "gated"


def test_every_fusion_that_can_be_named_exists():
    assert set(get_args(ModelConfig.model_fields["fusion_type"].annotation)) == set(FUSIONS)


def test_the_configuration_is_read_without_torch():
    code = "import sys, altformer.model.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
