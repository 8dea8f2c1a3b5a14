"""The architecture variants of the matrix `stages`, each against what it promises."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from altformer.data.simulated import simulate
from altformer.data.windows import Windows
from altformer.model.build import build_model, count_parameters
from altformer.model.config import ModelConfig
from altformer.model.shape import ForecastShape

PYRAMID = {"num_stages": 3, "patch_sizes": (1, 2, 4), "cross_stage_attention": True}
VARIANTS = {
    "phase1": {},
    "single_stage": {"num_stages": 1},
    "parallel": {"encoder_order": "parallel"},
    "phase2_shared": {"share_stages": True},
    "phase2_skip_add": {"stage_skip": "add"},
    "phase2_skip_concat": {"stage_skip": "concat"},
    "phase1_stepwise": {"spatial_impl": "stepwise"},
    "phase3": PYRAMID,
    "phase3_lite": {"num_stages": 2, "patch_sizes": (1, 2), "embed_dim": 64},
    "phase1_optimized": {"temporal_depth_2": 3, "spatial_depth_2": 3, "fusion_type": "cross_attn", "dropout": 0.12},
    "three stages, shared": {"num_stages": 3, "share_stages": True},
    "parallel phase3, shared and concatenated": PYRAMID
    | {"encoder_order": "parallel", "share_stages": True, "stage_skip": "concat", "spatial_impl": "stepwise"},
}
METR_LA = ForecastShape(num_sensors=207)

variants = pytest.mark.parametrize("changes", VARIANTS.values(), ids=list(VARIANTS))


def parameters_of(variant):
    return count_parameters(build_model(ModelConfig(**VARIANTS[variant]), METR_LA))


@variants
def test_a_forecast_has_a_value_for_every_step_and_sensor_and_its_steps_differ(changes, build, draw, shape):
    forecast = build(**changes)(*draw())
    assert forecast.shape == (2, shape.output_len, shape.num_sensors)
    assert forecast.isfinite().all()
    assert (forecast[:, 0] - forecast[:, 1]).abs().min() > 1e-4


@variants
def test_the_gradient_reaches_every_parameter(changes, build, draw):
    model = build(**changes)
    forecast = model(*draw())
    (forecast * torch.randn_like(forecast)).sum().backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.any()] == []
    rows = {name: parameter.grad for name, parameter in model.named_parameters() if name.endswith("stage_names")}
    assert all(gradient.any(-1).all() for gradient in rows.values())  # no vector for a stage that is never read


@variants
def test_a_forecast_depends_on_every_reading_of_its_sample_alone(changes, build, draw):
    model, (reading, observed, *clock) = build(**changes), draw()
    reading.requires_grad_(True)
    model(reading, torch.ones_like(observed), *clock)[1, 0, 2].backward()
    assert (reading.grad[1] != 0).all()
    assert not reading.grad[0].any()


@variants
def test_saved_weights_forecast_the_same_in_another_model(changes, build, draw, tiny, shape, tmp_path):
    model = build(**changes)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    torch.manual_seed(99)
    other = build_model(tiny(**changes), shape).eval()
    assert not torch.allclose(other(*draw()), model(*draw()))
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(other(*draw()), model(*draw()))


@variants
def test_it_trains(changes, windows, tiny):
    """20 steps on simulated traffic: the masked MAE falls."""
    torch.manual_seed(0)
    model = build_model(tiny(**changes | {"dropout": 0.0}), ForecastShape(windows.values.shape[1]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        batch = windows.batch(windows.origins["train"][torch.randint(len(windows.origins["train"]), (8,))])
        forecast = windows.scaler.unscale(model(*batch[:4]))
        loss = (forecast - batch.target).abs()[batch.target_observed].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5]), losses


@pytest.fixture(scope="module")
def windows():
    return Windows.of(simulate(sensors=8, days=3), input_len=12, output_len=12)


def test_stepwise_and_batched_are_one_function_and_one_gradient(build, draw):
    """Which makes the guide's `phase2_batched` the same model as Phase 1."""
    changes = {"spatial_depth_1": 2, "dropout": 0.0}
    models = [build(**changes, spatial_impl=form) for form in ("batched", "stepwise")]
    models[1].load_state_dict(models[0].state_dict())
    for model in models:
        model.train().zero_grad()
        model(*draw()).square().sum().backward()
    forecasts = [model.eval()(*draw()) for model in models]
    torch.testing.assert_close(forecasts[0], forecasts[1], atol=1e-5, rtol=1e-5)
    for (name, batched), stepwise in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        scale = batched.grad.abs().max().clamp(min=1).item()
        torch.testing.assert_close(batched.grad, stepwise.grad, atol=1e-5 * scale, rtol=1e-5, msg=name)


def test_phase_3_has_two_to_three_million_parameters():
    assert 2_000_000 <= parameters_of("phase3") <= 3_000_000


def test_sharing_saves_about_two_fifths_of_the_parameters():
    """Exactly stage 2's encoders, and the guide's 40 %."""
    two = build_model(ModelConfig(), METR_LA)
    saved = count_parameters(two) - parameters_of("phase2_shared")
    assert saved == sum(count_parameters(encoder) for encoder in (two.stages[1].temporal, two.stages[1].spatial))
    assert 0.36 <= saved / count_parameters(two) <= 0.45


def test_one_stage_has_neither_decoder_nor_second_stage(build, draw):
    model = build(num_stages=1)
    assert (len(model.stages), len(model.decoders)) == (1, 0)
    (embedding,), (stage,) = model.embeddings, model.stages
    temporal = stage.temporal(embedding(*draw()))
    fused = stage.fusion(temporal, stage.spatial(temporal))
    torch.testing.assert_close(model(*draw()), model.head(fused))


def test_a_depth_of_0_leaves_an_encoder_out(build, draw):
    model = build(num_stages=1, temporal_depth_1=0)
    (embedding,), (stage,) = model.embeddings, model.stages
    assert not any(name.startswith("stages.0.temporal") for name, _ in model.named_parameters())
    entering = embedding(*draw())
    torch.testing.assert_close(model(*draw()), model.head(stage.fusion(entering, stage.spatial(entering))))
    without_spatial = build(num_stages=1, spatial_depth_1=0)
    moved = [*draw()]
    moved[0] = moved[0].clone()
    moved[0][..., 0] += 1
    difference = without_spatial(*draw()) != without_spatial(*moved)
    assert difference[..., 0].any() and not difference[..., 1:].any(), "sensors meet nowhere else"


def test_three_stages_follow_each_other_with_a_decoder_between(build, draw):
    model = build(num_stages=3)
    fused = model.stages[0](model.embeddings[0](*draw()))
    for (between,), stage in zip(model.decoders, model.stages[1:], strict=True):
        fused = stage(*between.decoder(fused))
    torch.testing.assert_close(model(*draw()), model.head(fused))
