from __future__ import annotations

import pytest

from experiments.train_progress import TrainProgress

METRICS = {"epoch": 1.0, "train_loss": 2.0, "lr": 1e-3, "epoch_seconds": 3.0, "val_mae_unmasked": 9.5}


@pytest.mark.parametrize(
    ("metric", "metrics", "shown"),
    [
        ("val_mae", METRICS | {"val_mae": 2.5}, "val MAE 2.5000"),
        ("val_mae_unmasked", METRICS | {"val_mae": 2.5}, "val MAE (missing readings scored) 9.5000"),
        ("val_mae_unmasked", METRICS, "val MAE (missing readings scored) 9.5000"),
    ],
)
def test_an_epoch_shows_the_error_that_selects(metric, metrics, shown, capsys):
    passed_on = []
    with TrainProgress("cpu", 3, "name", passed_on.append, metric) as progress:
        progress.report(metrics)
    assert f"epoch 1/3  train loss 2.0000  {shown}  lr 1.00e-03" in capsys.readouterr().out
    assert passed_on == [metrics]
