from __future__ import annotations

import fcntl
import logging

import pytest

from altformer.training.config import TrainingConfig
from experiments.cell_lock import only_trainer
from experiments.train_progress import TrainProgress

METRICS = {"epoch": 1.0, "train_loss": 2.0, "lr": 1e-3, "epoch_seconds": 3.0, "val_mae_unmasked": 9.5}


@pytest.mark.parametrize(
    ("loss", "metrics", "shown"),
    [
        ("masked_mae", METRICS | {"val_mae": 2.5}, "val MAE 2.5000"),
        ("mae_unmasked", METRICS | {"val_mae": 2.5}, "val MAE (missing readings scored) 9.5000"),
        ("mae_unmasked", METRICS, "val MAE (missing readings scored) 9.5000"),
    ],
)
def test_an_epoch_shows_the_error_that_selects(loss, metrics, shown, capsys):
    passed_on = []
    with TrainProgress("cpu", TrainingConfig(epochs=3, loss=loss), "name", passed_on.append) as progress:
        progress.report(metrics)
    assert f"epoch 1/3  train loss 2.0000  {shown}  lr 1.00e-03" in capsys.readouterr().out
    assert passed_on == [metrics]


def test_it_says_that_it_waits_for_another_process(tmp_path, capsys, monkeypatch):
    class Leaving(TrainProgress):
        def leave_now(self):
            return True

    monkeypatch.setattr(logging.getLogger("experiments"), "level", logging.INFO)  # as a cell's log has it
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with Leaving("cpu", TrainingConfig(epochs=3), "depth") as context, only_trainer(tmp_path, context) as is_ours:
            assert not is_ours
    assert capsys.readouterr().out == "depth: waits for another process that trains this cell\n"
