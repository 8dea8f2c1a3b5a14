from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from altformer.config import Config
from altformer.data.windows import Windows
from altformer.errors import UserError
from altformer.train import train
from altformer.training.checkpoint import Checkpoints, Progress, best_checkpoint
from altformer.training.config import selection_metric
from altformer.training.context import BareContext

SIMULATED = Config.model_validate({"dataset": "simulated"})
UNMASKED = Config.model_validate({"dataset": "simulated", "training": {"loss": "mae_unmasked"}})


def saved(folder, values, config=SIMULATED, upto=None):
    """Checkpoints of a run whose epochs have these validation MAEs, by masked and unmasked scoring."""
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    checkpoints = Checkpoints(folder / "checkpoints", config, {})
    progress = checkpoints.load_last("run", model, optimizer, torch.device("cpu"))
    for epoch, (masked, unmasked) in enumerate(values[:upto], start=1):
        progress.add({"epoch": epoch, "val_mae": masked, "val_mae_unmasked": unmasked}, {"epoch": epoch})
        checkpoints.save(model, optimizer, progress)
    return checkpoints, progress, model, optimizer


@pytest.mark.parametrize(
    ("loss", "metric"),
    [("masked_mae", "val_mae"), ("huber", "val_mae"), ("mae_unmasked", "val_mae_unmasked")],
)
def test_the_best_epoch_is_chosen_as_the_loss_scores(trained_with, loss, metric):
    assert selection_metric(trained_with(loss=loss).training) == metric


@pytest.mark.parametrize(("config", "best", "before"), [(SIMULATED, 2, 2), (UNMASKED, 4, 3)])
def test_best_and_kept_epochs_follow_the_metric(tmp_path, config, best, before):
    """Epoch 2 is the best by one scoring, epoch 4 by the other, which had epoch 3 before."""
    _, progress, _, _ = saved(tmp_path, [(5, 9), (3, 9), (4, 7), (4, 6)], config)
    assert progress.best_epoch == best and progress.val == {"epoch": best}
    kept = {int(path.name[-4:]) for path in (tmp_path / "checkpoints").iterdir()}
    assert kept == {best, before, 3, 4}
    assert best_checkpoint(tmp_path) == tmp_path / "checkpoints" / f"epoch-{best:04d}"


def test_a_resumed_run_goes_on_choosing_by_its_metric(tmp_path):
    values = [(5, 9), (3, 9), (4, 7), (3.5, 8)]
    saved(tmp_path, values, UNMASKED, upto=3)
    checkpoints, progress, model, optimizer = saved(tmp_path, [], UNMASKED)
    assert (progress.epoch, progress.best_epoch, progress.metric) == (3, 3, "val_mae_unmasked")
    progress.add({"epoch": 4, "val_mae": 3.5, "val_mae_unmasked": 8}, {})
    checkpoints.save(model, optimizer, progress)
    assert best_checkpoint(tmp_path).name == "epoch-0003"


def test_the_run_restores_the_epoch_that_is_best_by_its_own_scoring(patchy, trained_with, tmp_path):
    result = train(trained_with(loss="mae_unmasked", epochs=4), patchy, BareContext(), tmp_path)
    unmasked = [epoch["val_mae_unmasked"] for epoch in result.curve]
    assert all("val_mae" in epoch for epoch in result.curve), "both scorings are in the curve"
    assert result.best_epoch == 1 + unmasked.index(min(unmasked))
    assert result.val["mae_unmasked"] == min(unmasked)


def test_every_checkpoint_holds_what_a_forecast_must_know_of_the_data(traffic, trained_with, tmp_path):
    graph = np.eye(6, dtype=np.float32)
    train(trained_with(epochs=2), replace(traffic, adjacency=graph), BareContext(), tmp_path)
    scaler = Windows.of(traffic, 12, 12).scaler
    folders = sorted((tmp_path / "checkpoints").iterdir())
    assert len(folders) == 2
    for folder in folders:
        assert json.loads((folder / "data.json").read_text()) == {
            "name": "wave",
            "sensor_ids": ["s0", "s1", "s2", "s3", "s4", "s5"],
            "scaler": {"mean": scaler.mean, "std": scaler.std},
            "step_minutes": 30,
            "steps_per_day": 48,
            "null_value": 0.0,
            "input_len": 12,
            "output_len": 12,
            "unit": "mph",
            "has_graph": True,
        }
        sums = json.loads((folder / "sums.json").read_text())
        assert sums.keys() == {path.name for path in folder.iterdir()} - {"sums.json"}


def test_a_damaged_data_json_makes_a_checkpoint_damaged(traffic, trained_with, tmp_path):
    train(trained_with(epochs=2), traffic, BareContext(), tmp_path)
    newest = max((tmp_path / "checkpoints").iterdir())
    (newest / "data.json").write_text("{}")
    assert best_checkpoint(tmp_path).name == "epoch-0001"


def test_the_best_checkpoint_is_named_by_the_newest_whole_one(tmp_path):
    """When the best epoch 4 is damaged, what was best before it is given; with nothing whole it is an error."""
    saved(tmp_path, [(5, 5), (3, 3), (4, 4), (2, 2)])
    assert best_checkpoint(tmp_path).name == "epoch-0004"
    (tmp_path / "checkpoints/epoch-0004/model.safetensors").write_bytes(b"damaged")
    assert best_checkpoint(tmp_path).name == "epoch-0002"
    (tmp_path / "checkpoints/epoch-0002/progress.json").unlink()
    with pytest.raises(UserError, match=r"checkpoints: no whole checkpoint"):
        best_checkpoint(tmp_path)


def test_a_folder_without_checkpoints_has_no_best_one(tmp_path):
    with pytest.raises(UserError, match="no whole checkpoint"):
        best_checkpoint(tmp_path / "nowhere")


def test_a_progress_of_before_there_was_a_choice_of_metric_reads_as_val_mae():
    assert Progress(**{"identity": "run", "epoch": 0, "best_epoch": 0, "val": None, "curve": []}).metric == "val_mae"


def test_tied_weights_are_kept_and_stay_tied(tmp_path):
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one = torch.nn.Linear(2, 2)
            self.other = torch.nn.Linear(2, 2)
            self.other.weight = self.one.weight

    model, again = Tied(), Tied()
    checkpoints, progress = Checkpoints(tmp_path, SIMULATED, {}), Progress("run")
    progress.add({"epoch": 1, "val_mae": 1.0}, {})
    checkpoints.save(model, torch.optim.AdamW(model.parameters()), progress)
    checkpoints.load_best(again)
    assert torch.equal(again.other.weight, model.one.weight) and again.one.weight is again.other.weight
