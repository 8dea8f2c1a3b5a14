"""What holds for every baseline, as for any other model."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from altformer.baselines.config import BaselineConfig
from altformer.data.windows import Windows
from altformer.evaluate import model_forecaster
from altformer.model.build import BASELINES
from altformer.model.shape import ForecastShape

CONFIGS = {kind().type: kind for kind in get_args(BaselineConfig)}
METR_LA = ForecastShape(207, adjacency=np.eye(207, dtype=np.float32))
TRAINED = ("mlp", "dlinear", "stid", "graph_wavenet", "staeformer")
OF_ONE_SENSOR = ("mlp", "dlinear", "stid")
COUNTS = {
    "copy_last": 0,
    "last_value": 0,
    "historical_average": 0,
    "mlp": 12 * 256 + 256 + 256 * 256 + 256 + 256 * 12 + 12,
    "dlinear": 2 * (12 * 12 + 12),
    "stid": 117_868,
    # the authors' 309,400 without what never reaches their output
    "graph_wavenet": 309_400 - 8 * (32 * 32 + 32) - (7 * 32 * 32 + 32) - 2 * 32,
    "staeformer": 1_258_980,
}


def test_every_config_has_its_model():
    assert list(CONFIGS) == list(BASELINES) == list(COUNTS)


@pytest.mark.parametrize("name", BASELINES)
def test_parameters_on_metr_la(name):
    model = BASELINES[name](CONFIGS[name](), METR_LA)
    assert sum(parameter.numel() for parameter in model.parameters()) == COUNTS[name]


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"adjacency": None},
        {"input_len": 24, "output_len": 12},
        {"num_sensors": 1, "output_len": 1, "adjacency": None},
    ],
    ids=["graph", "no graph", "24 in", "one sensor"],
)
def test_one_forecast_per_step_ahead_and_sensor(build, draw, shape, name, changes):
    shape = replace(shape, **changes)
    forecast = build(name, shape)(*draw(shape))
    assert forecast.shape == (4, shape.output_len, shape.num_sensors)
    assert forecast.dtype == torch.float32 and forecast.isfinite().all()


@pytest.mark.parametrize("name", BASELINES)
def test_samples_do_not_meet(build, draw, name):
    model, inputs = build(name), draw()
    forecast = model(*inputs)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(model(*(part[order] for part in inputs)), forecast[order], rtol=0, atol=1e-6)
    alone = model(*(part[1:2] for part in inputs))
    torch.testing.assert_close(alone, forecast[1:2], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", BASELINES)
def test_a_missing_reading_is_read_as_it_stands_as_published(build, draw, name):
    model, (reading, observed, *clock) = build(name), draw()
    assert torch.equal(model(reading, observed, *clock), model(reading, ~observed, *clock))


@pytest.mark.parametrize("name", OF_ONE_SENSOR)
def test_sensors_do_not_meet_in_models_of_one_sensor(build, draw, name):
    model, (reading, *rest) = build(name), draw()
    changed = reading.clone()
    changed[:, :, 2] += 1
    same = (model(changed, *rest) == model(reading, *rest)).all(dim=1)
    assert not same[:, 2].any() and same[:, [0, 1, 3, 4]].all()


@pytest.mark.parametrize("name", ["graph_wavenet", "staeformer"])
def test_a_sensor_reaches_the_others_in_models_of_the_network(build, draw, name):
    model, (reading, *rest) = build(name), draw()
    changed = reading.clone()
    changed[:, :, 2] += 1
    assert ((model(changed, *rest) - model(reading, *rest)).abs().amax(dim=1) > 1e-6).all()


@pytest.mark.parametrize("name", TRAINED)
def test_every_weight_takes_part(build, draw, name):
    """DDP refuses a weight without a gradient."""
    model, inputs = build(name), draw(batch=256)  # so many that every slot and day is looked up
    model(*inputs).square().sum().backward()
    assert [path for path, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()] == []


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("has_graph", [True, False])
def test_weights_alone_restore_the_model(build, draw, small, shape, tmp_path, name, has_graph):
    shape = shape if has_graph else replace(shape, adjacency=None)
    model, inputs = build(name, shape), draw()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    placeholder = np.zeros((5, 5), dtype=np.float32) if has_graph else None
    restored = BASELINES[name](small(name), replace(shape, adjacency=placeholder)).eval()
    restored.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(restored(*inputs), model(*inputs))


@pytest.mark.parametrize("name", TRAINED)
def test_twenty_steps_of_training_lower_the_loss(build, traffic, name):
    windows = Windows.of(traffic, 12, 12)
    model = build(name, ForecastShape(6, 12, 12, 48))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    chance = torch.Generator().manual_seed(0)
    every = windows.origins["train"]

    def loss(origins):
        batch = windows.batch(origins)
        scaled = model(batch.reading, batch.observed, batch.time_of_day, batch.day_of_week)
        return (windows.scaler.unscale(scaled) - batch.target).abs()[batch.target_observed].mean()

    with torch.no_grad():
        before = float(loss(every))
    model.train()
    for _ in range(20):
        optimizer.zero_grad()
        loss(every[torch.randint(len(every), (32,), generator=chance)]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        assert float(loss(every)) < 0.9 * before


def test_a_forecaster_leaves_training_mode(traffic):
    """Else dropout would be scored."""
    windows = Windows.of(traffic, 12, 12)
    model = BASELINES["stid"](CONFIGS["stid"](), ForecastShape(6, 12, 12, 48)).train()
    forecaster, origins = model_forecaster(model, windows), windows.origins["val"]
    with torch.inference_mode():
        assert torch.equal(forecaster(origins), forecaster(origins))
        assert 0 < float(forecaster(origins).mean()) < 200  # in the data's unit


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("dlinear", {"kernel_size": 4}, "kernel_size must be odd, the average is centred: kernel_size 4"),
        ("staeformer", {"adaptive_dim": 81}, "must be divisible by num_heads: sum 153, num_heads 4"),
        ("stid", {"dropout": 1.0}, "less than 1"),
        ("stid", {"hidden_dim": 3}, "Extra inputs are not permitted"),
        ("mlp", {"num_layers": 0}, "greater than or equal to 1"),
        ("graph_wavenet", {"kernel_size": 1}, "greater than or equal to 2"),
        (
            "graph_wavenet",
            {"num_blocks": 1, "layers_per_block": 1},
            "num_blocks x layers_per_block must be at least 2: .* num_blocks 1, layers_per_block 1",
        ),
        ("copy_last", {"type": "last_value"}, "copy_last"),
    ],
)
def test_what_does_not_fit_is_refused(name, fields, message):
    with pytest.raises(ValidationError, match=message):
        CONFIGS[name](**fields)


def test_configs_are_free_of_torch():
    code = "import sys, altformer.baselines.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
