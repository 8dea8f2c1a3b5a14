from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from altformer.model.altformer import AltFormer
from altformer.model.build import build_model, count_parameters
from altformer.model.config import ModelConfig
from altformer.model.shape import ForecastShape

DEPTHS = [f"{axis}_depth_{stage}" for stage in (1, 2, 3) for axis in ("temporal", "spatial")]
TABLE_SWITCHES = ("use_time_of_day", "use_day_of_week", "use_sensor_identity", "use_adaptive")
VARIANTS = [
    {},
    {"fusion_type": "concat"},
    {"fusion_type": "cross_attn", "fusion_heads": 2},
    {"fusion_type": "gated_residual", "gate_activation": "tanh"},
    {"fusion_type": "adaptive"},
    {"use_positional_encoding": False},
    {"positional_encoding_type": "learnable"},
    {"positional_encoding_type": "relative", "max_relative_position": 3},
    {"positional_encoding_type": "rotary"},
    {"stochastic_depth_rate": 0.5},
    {"temporal_depth_1": 2, "spatial_depth_2": 3},
    {"patch_len": 3},
    {"patch_len": 12},
    dict.fromkeys(TABLE_SWITCHES, False),
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize(("input_len", "output_len", "sensors"), [(12, 12, 5), (24, 3, 2), (12, 1, 1)])
def test_a_forecast_has_a_value_for_every_step_and_sensor(changes, input_len, output_len, sensors, build, draw):
    shape = ForecastShape(sensors, input_len, output_len, steps_per_day=24)
    forecast = build(shape, **changes)(*draw(shape, batch=3))
    assert forecast.shape == (3, output_len, sensors)
    assert forecast.isfinite().all()


@st.composite
def valid_configs(choose):
    heads = choose(st.sampled_from([1, 2, 4]))
    width = heads * choose(st.sampled_from([2, 4]))
    return ModelConfig(
        embed_dim=width,
        num_heads=heads,
        mlp_ratio=choose(st.integers(1, 3)),
        **{depth: choose(st.integers(1, 2)) for depth in DEPTHS},
        num_stages=choose(st.integers(1, 3)),
        encoder_order=choose(st.sampled_from(["alternating", "parallel"])),
        fusion_type=choose(st.sampled_from(["gated", "concat", "cross_attn", "gated_residual", "adaptive"])),
        gate_activation=choose(st.sampled_from(["sigmoid", "tanh"])),
        learnable_weights=choose(st.booleans()),
        spatial_impl=choose(st.sampled_from(["batched", "stepwise"])),
        fusion_heads=heads,
        fusion_dropout=choose(st.sampled_from([0.0, 0.3])),
        dropout=choose(st.sampled_from([0.0, 0.3])),
        positional_encoding_type=choose(st.sampled_from(["sincos", "none", "learnable", "relative", "rotary"])),
        max_relative_position=choose(st.integers(1, 3)),
        stochastic_depth_rate=choose(st.sampled_from([0.0, 0.3])),
        **{switch: choose(st.booleans()) for switch in TABLE_SWITCHES},
        adaptive_dim=choose(st.integers(1, 5)),
        patch_len=choose(st.sampled_from([1, 2, 4])),
    )


@settings(max_examples=25)
@given(config=valid_configs(), sensors=st.integers(1, 4), patches=st.integers(1, 3), output_len=st.integers(1, 4))
def test_every_valid_config_makes_a_training_step(config, sensors, patches, output_len):
    shape = ForecastShape(sensors, config.patch_len * patches, output_len, steps_per_day=10)
    model = build_model(config, shape)
    size = (2, shape.input_len, sensors)
    forecast = model(torch.randn(size), torch.rand(size) > 0.2, torch.randint(10, size[:2]), torch.randint(7, size[:2]))
    assert forecast.shape == (2, output_len, sensors)
    forecast.square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


# Attention over a single token is the same for every query and key, so that these learn nothing there.
@pytest.mark.parametrize("changes", [changes for changes in VARIANTS if changes.get("patch_len") != 12], ids=str)
def test_the_gradient_reaches_every_parameter(changes, build, draw):
    model = build(**changes)
    forecast = model(*draw())
    (forecast * torch.randn_like(forecast)).sum().backward()
    unreached = [name for name, parameter in model.named_parameters() if not parameter.grad.any()]
    assert unreached == []


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_with_one_token_every_parameter_still_takes_part(changes, build, draw):
    """What DDP needs: it waits for ever for a parameter that takes no part."""
    shape = ForecastShape(num_sensors=3, input_len=12, output_len=2, steps_per_day=24)
    model = build(shape, **changes | {"patch_len": 12})
    model(*draw(shape)).sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_permuting_the_sensors_permutes_the_forecast_when_their_tables_are_permuted_too(build, draw, shape):
    model = build()
    reading, observed, *clock = draw()
    forecast = model(reading, observed, *clock)
    order = torch.tensor([3, 0, 4, 1, 2])
    unmoved = model(reading[:, :, order], observed[:, :, order], *clock)
    assert not torch.allclose(unmoved, forecast[:, :, order], atol=1e-3)
    with torch.no_grad():
        for table in (model.embeddings[0].sensor, model.embeddings[0].adaptive):
            table.copy_(table[order])
    moved = model(reading[:, :, order], observed[:, :, order], *clock)
    torch.testing.assert_close(moved, forecast[:, :, order], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_the_steps_of_a_forecast_differ(changes, build, draw):
    forecast = build(**changes)(*draw())
    assert (forecast[:, 0] - forecast[:, 1]).abs().min() > 1e-4


def test_every_input_reaches_every_sensor_of_its_sample_and_no_other_sample(build, draw):
    model, (reading, _, *clock) = build(), draw()
    reading.requires_grad_(True)
    observed = torch.ones_like(reading, dtype=torch.bool)
    model(reading, observed, *clock)[1, 0, 2].backward()
    assert (reading.grad[1] != 0).all()
    assert not reading.grad[0].any()


@pytest.mark.parametrize("stage", [0, 1])
def test_the_spatial_encoder_reads_what_the_temporal_encoder_of_its_stage_made(stage, build, draw):
    """Excludes the earlier mistake, two encoders side by side on the stage's input."""
    model = build()
    seen = {}
    part = model.stages[stage]
    part.temporal.register_forward_hook(lambda _module, _inputs, output: output + 1.0 * seen.get("shift", 0))
    part.spatial.register_forward_hook(lambda _module, inputs, _output: seen.update(spatial_input=inputs[0].detach()))
    model(*draw())
    before = seen["spatial_input"]
    seen["shift"] = 1
    model(*draw())
    torch.testing.assert_close(seen["spatial_input"], before + 1)


def test_the_parts_meet_as_in_the_figure(build, draw):
    """The formula of the two stages and the decoder, written out with the model's own parts."""
    model = build()
    (embedding,), (stage_1, stage_2), ((between,),) = model.embeddings, model.stages, model.decoders
    x = embedding(*draw())
    t1 = stage_1.temporal(x)
    s1 = stage_1.spatial(t1)
    td, sd = between.decoder(stage_1.fusion(t1, s1))
    t2 = stage_2.temporal(td + sd)
    s2 = stage_2.spatial(t2 + sd)
    flat = stage_2.fusion(t2, s2).flatten(2)
    torch.testing.assert_close(model(*draw()), model.head.linear(flat).transpose(1, 2))


def test_what_stands_behind_a_missing_reading_changes_no_forecast(build, draw):
    model, (reading, observed, *clock) = build(), draw()
    hidden = reading.masked_fill(~observed, float("nan"))
    assert torch.equal(model(hidden, observed, *clock), model(reading, observed, *clock))
    assert not torch.equal(model(reading, torch.ones_like(observed), *clock), model(reading, observed, *clock))


def test_the_seed_decides_the_starting_weights(tiny, shape):
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(torch.cat([p.flatten() for p in build_model(tiny(), shape).parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_the_baseline_has_as_many_parameters_as_specified():
    baseline = build_model(ModelConfig(), ForecastShape(num_sensors=207))
    assert isinstance(baseline, AltFormer)
    assert 1_200_000 <= count_parameters(baseline) <= 1_500_000


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("axis", ["temporal", "spatial"])
def test_each_depth_sets_its_own_encoder(stage, axis, tiny, shape):
    model = build_model(tiny(num_stages=3, **{f"{axis}_depth_{stage}": 3}), shape)
    depths = {
        (s, a): len(getattr(part, a).layers) for s, part in enumerate(model.stages, 1) for a in ("temporal", "spatial")
    }
    assert depths == dict.fromkeys(depths, 1) | {(stage, axis): 3}


def test_the_parameters_are_those_of_the_parts_written_out():
    """Counted by hand: 8 layers, 4 closing norms, 2 gates, decoder, tables, head."""
    d, n, t, h = 96, 207, 12, 12
    layer = (3 * d * d + 3 * d) + (d * d + d) + (4 * d * d + 4 * d) + (4 * d * d + d) + 4 * d
    embedding = 2 * d + d + 288 * d + 7 * d + n * d + t * n * 80 + 80 * d
    decoder = 2 * t * d + (2 * d * d + 2 * d) + 2 * (d * d + d)
    total = 8 * layer + 4 * 2 * d + 2 * (2 * d * d + d) + decoder + embedding + (t * d * h + h)
    assert count_parameters(build_model(ModelConfig(), ForecastShape(n))) == total


def test_frozen_parameters_are_not_counted(tiny, shape):
    model = build_model(tiny(), shape)
    before = count_parameters(model)
    model.head.linear.bias.requires_grad_(False)
    assert count_parameters(model) == before - shape.output_len


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"positional_encoding_type": "relative", "fusion_type": "gated_residual", "stochastic_depth_rate": 0.1},
        {"positional_encoding_type": "rotary", "fusion_type": "adaptive", "graph_bias": True},
        {"num_stages": 3, "patch_sizes": (1, 2), "cross_stage_attention": True, "stage_skip": "concat"},
    ],
    ids=str,
)
def test_bf16_autocast_trains_close_to_full_precision(changes, build, draw, shape):
    model, inputs = build(replace(shape, adjacency=np.eye(5, dtype=np.float32)), **changes), draw()
    exact = model(*inputs)
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        forecast = model(*inputs)
    forecast.float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(*inputs).float(), exact, atol=0.1 * exact.std().item(), rtol=0.1)


@pytest.mark.slow
def test_compiled_it_computes_the_same(build, draw):
    model, inputs = build(), draw()
    compiled = torch.compile(model)
    torch.testing.assert_close(compiled(*inputs), model(*inputs), atol=1e-5, rtol=1e-4)
    model.train()
    compiled(*inputs).square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
