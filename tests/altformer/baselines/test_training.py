"""Baselines in the training loop, as arms of a matrix are run."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file

from altformer.data.windows import Windows
from altformer.evaluate import model_forecaster, score
from altformer.model.build import BASELINES
from altformer.model.shape import ForecastShape
from altformer.train import train
from altformer.training.checkpoint import best_checkpoint
from altformer.training.context import BareContext


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_baseline_is_trained_selected_and_scored(small, traffic, tiny, tmp_path, name, precision):
    training = tiny.training.model_copy(update={"epochs": 2, "precision": precision})
    config = tiny.model_copy(update={"model": small(name), "training": training})
    result = train(config, traffic, BareContext(), tmp_path)
    assert result.status == "done"
    model = BASELINES[name](small(name), ForecastShape(6, 12, 12, 48))
    assert result.params == sum(parameter.numel() for parameter in model.parameters())
    model.load_state_dict(load_file(best_checkpoint(tmp_path) / "model.safetensors"))
    windows = Windows.of(traffic, 12, 12)
    assert result.test == score(model_forecaster(model, windows), windows, "test")


@pytest.mark.parametrize("name", ["copy_last", "last_value", "historical_average"])
def test_what_learns_nothing_scores_the_same_whatever_the_seed(small, traffic, tiny, tmp_path, name):
    runs = [
        train(
            tiny.model_copy(update={"model": small(name), "seed": seed}), traffic, BareContext(), tmp_path / str(seed)
        )
        for seed in (0, 1)
    ]
    assert runs[0].test == runs[1].test and runs[0].val == runs[1].val
