from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest
from pydantic import ValidationError

from altformer.errors import UserError
from altformer.model.bridge import SKIPS
from altformer.model.build import build_model
from altformer.model.config import ModelConfig
from altformer.model.encoder import SPATIAL_ENCODERS
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
        ({"fusion_type": "gates"}, "'gated', 'concat', 'cross_attn', 'gated_residual' or 'adaptive'"),
        ({"positional_encoding_type": "sin"}, "'none', 'sincos', 'learnable', 'relative' or 'rotary'"),
        ({"dropout": 1.0}, "less than 1"),
        ({"dropout": -0.1}, "greater than or equal to 0"),
        ({"dropout": float("nan")}, "less than 1.*nan"),
        ({"patch_len": 0}, "greater than or equal to 1"),
        ({"spatial_depth_1": 1.5}, "integer"),
        ({"spatial_depth_1": -1}, "greater than or equal to 0"),
        ({"temporal_depth_2": 0, "spatial_depth_2": 0}, "needs an encoder: temporal_depth_2 and spatial_depth_2 are"),
        ({"embed_dims": 64}, "Extra inputs"),
        ({"num_stages": 0}, "greater than or equal to 1"),
        ({"num_stages": 4}, "less than or equal to 3"),
        (
            {"share_stages": True, "temporal_depth_2": 3},
            "share_stages needs the same depths in every stage, got 2-2, 3-2",
        ),
        (
            {"share_stages": True, "num_stages": 3, "spatial_depth_3": 1},
            "share_stages needs the same depths in every stage, got 2-2, 2-2, 2-1",
        ),
        (
            {"num_stages": 1, "share_stages": True},
            "share_stages joins stages and needs num_stages of at least 2, got 1",
        ),
        ({"num_stages": 1, "stage_skip": "add"}, "stage_skip joins stages and needs num_stages of at least 2, got 1"),
        (
            {"num_stages": 1, "cross_stage_attention": True},
            "cross_stage_attention joins stages and needs num_stages of at least 2, got 1",
        ),
        ({"patch_sizes": []}, r"patch_sizes must start with 1 and increase, got \[\]"),
        ({"patch_sizes": [2]}, r"patch_sizes must start with 1 and increase, got \[2\]"),
        ({"patch_sizes": [1, 1]}, r"patch_sizes must start with 1 and increase, got \[1, 1\]"),
        ({"patch_sizes": [1, 4, 2]}, r"patch_sizes must start with 1 and increase, got \[1, 4, 2\]"),
        ({"patch_sizes": [0, 1]}, r"patch_sizes must start with 1 and increase, got \[0, 1\]"),
        (
            {"positional_encoding_type": "rotary", "embed_dim": 12, "num_heads": 4},
            "a head must have an even width: embed_dim 12 / num_heads 4 = 3",
        ),
        ({"max_relative_position": 0}, "greater than or equal to 1"),
        ({"stochastic_depth_rate": 1.0}, "less than 1"),
        ({"stage_skip": "sum"}, "'none', 'add' or 'concat'"),
        ({"encoder_order": "serial"}, "'alternating' or 'parallel'"),
        ({"spatial_impl": "loop"}, "'batched' or 'stepwise'"),
        ({"gate_activation": "relu"}, "'sigmoid' or 'tanh'"),
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
        {"share_stages": True, "spatial_depth_3": 9},  # stage 3 is not there
        {"share_stages": True, "temporal_depth_1": 3, "temporal_depth_2": 3},
        {"num_stages": 1, "temporal_depth_2": 9},
        {"positional_encoding_type": "sincos", "embed_dim": 12, "num_heads": 4},
        {"patch_sizes": [1, 3, 12]},
    ],
    ids=str,
)
def test_what_looks_odd_but_fits_is_accepted(fields):
    config = ModelConfig(**fields)
    assert ModelConfig(**config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    "fields",
    [
        {"use_positional_encoding": False},
        *(
            {"use_positional_encoding": off}
            for off in ("false", "False", "FALSE", "n", "N", "f", "off", "no", "No", "0")
        ),
        {"use_positional_encoding": 0},
        {"use_positional_encoding": 0.0},
        {"use_positional_encoding": "off", "positional_encoding_type": "rotary"},
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


@pytest.mark.parametrize("on", [True, "true", "yes", "on", "y", "t", "1", 1, 1.0])
def test_positions_stay_on_however_it_is_written(on):
    assert ModelConfig(use_positional_encoding=on) == ModelConfig()
    assert ModelConfig(use_positional_encoding=on, positional_encoding_type="rotary").use_positional_encoding is True


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"use_positional_encoding": False, "positional_encoding_type": "sincso"}, "sincso"),
        ({"use_positional_encoding": "nay", "positional_encoding_type": "none"}, "nay"),
        ({"use_positional_encoding": None}, "boolean"),
    ],
)
def test_one_field_that_is_off_hides_no_mistake_in_the_other(fields, message):
    with pytest.raises(ValidationError, match=message):
        ModelConfig(**fields)


def test_fusion_heads_need_not_fit_where_the_fusion_does_not_attend():
    assert ModelConfig(fusion_heads=5).fusion_type == "gated"


def test_every_fusion_that_can_be_named_exists():
    assert set(get_args(ModelConfig.model_fields["fusion_type"].annotation)) == set(FUSIONS)


@pytest.mark.parametrize(
    ("field", "table"), [("stage_skip", SKIPS), ("spatial_impl", SPATIAL_ENCODERS)], ids=["stage_skip", "spatial_impl"]
)
def test_every_choice_that_can_be_named_exists(field, table):
    assert set(get_args(ModelConfig.model_fields[field].annotation)) == set(table)


def test_the_configuration_is_read_without_torch():
    code = "import sys, altformer.model.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
