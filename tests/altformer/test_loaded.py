from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from altformer.config import Config
from altformer.data.windows import Windows
from altformer.errors import UserError
from altformer.evaluate import score
from altformer.forecast import TrainedForecaster
from altformer.loaded import load_model
from altformer.model.build import MODELS
from altformer.train import train
from altformer.training.context import BareContext


@pytest.fixture
def copied(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "copied")


def best(folder):
    return load_model(folder).folder


def rewrite(folder, name, change):
    """Change a JSON file of the best checkpoint as another version might have written it, sums and all."""
    path = best(folder) / name
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    sums = json.loads((path.parent / "sums.json").read_text())
    sums[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / "sums.json").write_text(json.dumps(sums))


def test_scores_as_the_run_itself_did(tiny, traffic, tmp_path):
    result = train(tiny, traffic, BareContext(), tmp_path)
    loaded = load_model(tmp_path)
    windows = Windows.of(traffic, 12, 12)
    forecaster = loaded.forecaster(traffic, windows)
    assert score(forecaster, windows, "val") == result.val and score(forecaster, windows, "test") == result.test
    assert loaded.config == tiny and loaded.folder.name == f"epoch-{result.best_epoch:04d}"
    assert load_model(loaded.folder).facts == loaded.facts, "a checkpoint folder does as well as the cell's"
    assert not loaded.model.training


OWN = """
import torch
from torch import nn

class Mine(nn.Module):
    def __init__(self, shape, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(shape.input_len, width), nn.Linear(width, shape.output_len))

    def forward(self, reading, observed, time_of_day, day_of_week):
        return self.layers(reading.transpose(1, 2)).transpose(1, 2)
"""
OWN_MODULE = "mine_of_the_loaded_test"
WAYS = {
    "own": {"class_path": f"{OWN_MODULE}:Mine", "options": {"width": 5}},
    "graph_wavenet": {},
    "altformer": {"embed_dim": 8, "num_heads": 2, "adaptive_dim": 4, "graph_bias": True},
}


@pytest.mark.parametrize("graph", [True, False], ids=["with a road graph", "without"])
@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_of_model_is_restored_from_its_checkpoint_alone(tiny, traffic, tmp_path, monkeypatch, kind, graph):
    """Also one without weights, one that is fitted, one of the user's own, and what a model made of the road graph."""
    (tmp_path / f"{OWN_MODULE}.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    near = np.random.default_rng(0).random((6, 6)).astype(np.float32) if graph else None
    data = replace(traffic, adjacency=near)
    model = {"type": kind, **WAYS.get(kind, {})}
    if kind == "altformer" and not graph:
        model.pop("graph_bias")
    training = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 8}
    strides = {"name": "simulated", "val_stride": 3, "test_stride": 5}
    config = Config.model_validate({"dataset": strides, "model": model, "training": training})
    result = train(config, data, BareContext(), tmp_path / "cell")
    loaded = load_model(tmp_path / "cell")
    windows = Windows.of(data, 12, 12)
    assert score(loaded.forecaster(data, windows), windows, "test", 5) == result.test
    readings = pd.DataFrame(data.values[:300], index=pd.DatetimeIndex(data.times[:300]), columns=data.sensor_ids)
    with torch.inference_mode():
        expected = loaded.forecaster(data, windows)(torch.tensor([300]))[0].numpy()
    np.testing.assert_array_equal(TrainedForecaster(loaded).forecast(readings).to_numpy(), expected)


def test_the_scaler_is_that_of_the_training(trained, traffic):
    windows = Windows.of(traffic, 12, 12)
    other = replace(windows, scaler=windows.scaler._replace(mean=3.0, std=7.0))
    origins = windows.origins["test"][:5]
    loaded = load_model(trained)
    one, two = (loaded.forecaster(traffic, given)(origins) for given in (windows, other))
    assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sensor_ids": ("s1", "s0", "s2", "s3", "s4", "s5")}, "column 0 was 's0', these data have 's1'"),
        ({"sensor_ids": ("s0", "s1")}, "trained on 6 sensors, these data have 2"),
        ({"step_minutes": 15}, "trained with step_minutes 30, these data have 15"),
    ],
)
def test_other_data_are_refused(trained, traffic, change, message):
    with pytest.raises(UserError, match=message):
        load_model(trained).forecaster(replace(traffic, **change), Windows.of(traffic, 12, 12))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_len": 6}, "trained with input_len 12, these data have 6"),
        ({"output_len": 6}, "trained with output_len 12, these data have 6"),
        ({"null_value": -1.0}, "trained with null_value 0, these data have -1"),
    ],
)
def test_other_windows_are_refused(trained, traffic, change, message):
    with pytest.raises(UserError, match=message):
        load_model(trained).forecaster(traffic, replace(Windows.of(traffic, 12, 12), **change))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "data.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_checkpoint_is_refused_by_name(copied, name, damage):
    path = best(copied) / name
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flip" else content[:-9])
    with pytest.raises(UserError, match=r"damaged|cannot be read|neither"):
        load_model(path.parent)


def test_a_checkpoint_without_sums_or_facts_is_refused(copied):
    folder = best(copied)
    sums = json.loads((folder / "sums.json").read_text())
    (folder / "sums.json").write_text(json.dumps({name: value for name, value in sums.items() if name != "data.json"}))
    with pytest.raises(UserError, match=r"holds no data.json; an earlier version wrote it"):
        load_model(folder)
    (folder / "sums.json").unlink()
    with pytest.raises(UserError, match=r"sums.json: missing or damaged"):
        load_model(folder)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", lambda it: it["model"].update(embed_dim=16), "its weights do not fit the model"),
        ("config.json", lambda it: it["training"].update(lrr=1), "another version of altformer: training.lrr"),
        ("data.json", lambda it: it.pop("sensor_ids"), "another version of altformer: sensor_ids: Field required"),
        ("data.json", lambda it: it["scaler"].update(std=0.0), "std must be above 0"),
    ],
)
def test_what_other_code_wrote_is_refused_clearly(copied, name, change, message):
    folder = best(copied)
    rewrite(copied, name, change)
    with pytest.raises(UserError, match=message):
        load_model(folder)


def test_a_folder_that_is_neither_is_refused(tmp_path):
    with pytest.raises(UserError, match="neither a cell's folder"):
        load_model(tmp_path / "nowhere")
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="checkpoint"):
        load_model(tmp_path)
