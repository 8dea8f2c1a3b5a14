from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from altformer import train as loop
from altformer.config import Config
from altformer.data.config import DatasetConfig
from altformer.train import train
from altformer.training import run
from altformer.training.checkpoint import Checkpoints, Progress
from altformer.training.context import BareContext
from altformer.training.loss import LOSSES, Loss, absolute

GOLDEN = Path(__file__).parent / "golden_curve.json"
ELSEWHERE = ("epoch_seconds", "samples_per_second")


class Recorder(BareContext):
    """Keeps what is reported; asks to stop after an epoch if told to."""

    def __init__(self, stop_after=None, reason="scheduler"):
        super().__init__()
        self.epochs, self.stop_after, self.reason = [], stop_after, reason

    def report(self, metrics):
        self.epochs.append(dict(metrics))

    def should_stop(self):
        return self.reason if len(self.epochs) == self.stop_after else None


def configured(config, **training):
    return config.model_copy(update={"training": config.training.model_copy(update=training)})


def numbers(curve):
    return [{key: value for key, value in epoch.items() if key not in ELSEWHERE} for epoch in curve]


def test_golden_curve_of_40_steps(traffic, tiny, tmp_path):
    """The loss of 8 epochs of 5 steps; a change here changes every result. Rewritten only by hand, see the message."""
    config = configured(tiny, epochs=8)
    result = train(config, traffic, BareContext(), tmp_path)
    losses = [epoch["train_loss"] for epoch in result.curve]
    assert len(losses) == 8 and result.status == "done"
    assert GOLDEN.is_file(), f"{GOLDEN} is missing; if the change of the curve is meant, write {losses} into it"
    assert losses == pytest.approx(json.loads(GOLDEN.read_text()), rel=2e-3)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("patience", [30, 1])  # and where it ends before its last epoch
def test_without_the_test_a_run_is_stopped_there_and_goes_on_to_it_later(traffic, tiny, tmp_path, patience):
    config = configured(tiny, patience=patience, lr=1e-9 if patience == 1 else 3e-3)
    whole = train(config, traffic, BareContext(), tmp_path / "whole")
    stopped = train(config, traffic, BareContext(), tmp_path / "part", test=False)
    assert (stopped.status, stopped.test) == ("stopped", None) and stopped.val == whole.val
    assert not list((tmp_path / "part").glob("*test*")), "nothing of the test set is written"
    recorder = Recorder()
    resumed = train(config, traffic, recorder, tmp_path / "part")
    assert recorder.epochs == [] and (resumed.status, resumed.test) == ("done", whole.test)


def test_same_seed_same_numbers_other_seed_others(traffic, tiny, tmp_path):
    first, again = (train(tiny, traffic, BareContext(), tmp_path / name) for name in ("a", "b"))
    other = train(tiny.model_copy(update={"seed": 1}), traffic, BareContext(), tmp_path / "c")
    assert numbers(first.curve) == numbers(again.curve) and first.test == again.test
    assert numbers(first.curve) != numbers(other.curve)


EVERYTHING = {
    "label_smoothing": 0.1,
    "mixup_alpha": 0.2,
    "cutmix_prob": 0.5,
    "augmentation": {"noise_std": 0.01, "mask_ratio": 0.1, "temporal_shift": 2},
}


@pytest.mark.parametrize(
    "options",
    [
        {"scheduler": "constant"},
        {"scheduler": "OneCycleLR"},
        EVERYTHING | {"gradient_accumulation_steps": 2},
        {
            "optimizer": {"lr_groups": {"encoder": 1e-3, "decoder": 2e-3, "head": 3e-3}},
            "scheduler": {"type": "CosineAnnealingWarmRestarts", "T_0": 1},
        },
    ],
    ids=["constant", "OneCycleLR", "augmented", "groups"],
)
def test_resuming_equals_not_stopping_to_the_bit(traffic, tiny, tmp_path, options):
    config = type(tiny).model_validate(
        tiny.model_dump() | {"training": tiny.training.model_dump() | options | {"epochs": 4}}
    )
    whole = train(config, traffic, BareContext(), tmp_path / "whole")
    for stop in (1, 2):
        part = train(config, traffic, Recorder(stop_after=1, reason="interrupted"), tmp_path / "parts")
        assert part.status == "interrupted" and part.epochs == stop and part.test is None
        torch.manual_seed(stop)  # whatever happened in between must not matter
        np.random.seed(stop)
    resumed = train(config, traffic, BareContext(), tmp_path / "parts")
    assert numbers(resumed.curve) == numbers(whole.curve)
    assert resumed.test == whole.test and resumed.best_epoch == whole.best_epoch


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(traffic, tiny, tmp_path, damage, caplog):
    whole = train(tiny, traffic, BareContext(), tmp_path / "whole")
    folder = tmp_path / "parts"
    train(tiny, traffic, Recorder(stop_after=2, reason="interrupted"), folder)
    path = folder / "checkpoints" / "epoch-0002" / "model.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(content[:-10])
    elif damage == "flip":
        content[-5] ^= 4
        path.write_bytes(content)
    else:
        path.unlink()
    context = Recorder()
    resumed = train(tiny, traffic, context, folder)
    assert [epoch["epoch"] for epoch in context.epochs] == [2, 3]
    assert "damaged" in caplog.text
    assert numbers(resumed.curve) == numbers(whole.curve) and resumed.test == whole.test


def test_checkpoints_of_another_run_are_not_resumed(traffic, tiny, tmp_path):
    train(tiny, traffic, Recorder(stop_after=2, reason="interrupted"), tmp_path)
    other = Recorder()
    train(configured(tiny, lr=1e-3), traffic, other, tmp_path)
    assert [epoch["epoch"] for epoch in other.epochs] == [1, 2, 3]


def test_kept_are_best_last_and_the_one_before(traffic, tiny, tmp_path):
    result = train(configured(tiny, epochs=6), traffic, BareContext(), tmp_path)
    kept = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    values = [epoch["val_mae"] for epoch in result.curve]
    best_before = 1 + values[:5].index(min(values[:5]))
    assert kept == {f"epoch-{epoch:04d}" for epoch in {result.best_epoch, 6, 5, best_before}}
    config = json.loads((tmp_path / "checkpoints" / "epoch-0006" / "config.json").read_text())
    assert type(tiny).model_validate(config) == configured(tiny, epochs=6)


def test_the_one_before_the_last_can_be_resumed_when_the_last_is_the_best(tmp_path):
    """Validation 5, 4, 4.5, 4.6, 3.9: when epoch 5 is damaged, epoch 4 goes on with epoch 2 as the best."""
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    checkpoints = Checkpoints(tmp_path, Config(dataset=DatasetConfig(name="simulated")), {})
    progress = Progress("run")
    for epoch, value in enumerate([5, 4, 4.5, 4.6, 3.9], start=1):
        progress.add({"epoch": epoch, "val_mae": value}, {})
        checkpoints.save(model, optimizer, progress)
    (tmp_path / "epoch-0005" / "model.safetensors").write_bytes(b"damaged")
    found = checkpoints.load_last("run", model, optimizer, torch.device("cpu"))
    assert (found.epoch, found.best_epoch) == (4, 2)


def test_horizons_without_an_observed_target_have_no_score(traffic, tiny, tmp_path):
    """A network that is silent whenever step 3 falls due still trains and is scored at the other steps."""
    config = tiny.model_copy(update={"dataset": tiny.dataset.model_copy(update={"val_stride": 48, "test_stride": 48})})
    values = traffic.values.copy()
    parts = loop.Windows.of(traffic, 12, 12).origins
    for part in ("val", "test"):
        values[parts[part][::48] + 2] = 0
    result = train(config, replace(traffic, values=values), BareContext(), tmp_path)
    assert result.status == "done"
    assert result.test["3"] == {"mae": None, "rmse": None, "mape": None}
    assert result.test["6"]["mae"] > 0 and "val_mae_3" not in result.curve[0]
    json.dumps([result.test, result.val, result.curve], allow_nan=False)


def test_best_epoch_is_scored_not_the_last(traffic, tiny, tmp_path, monkeypatch):
    """With a rate that ruins the model after the first epoch, the test scores are those of the first."""
    config = configured(tiny, epochs=3)
    one = train(configured(tiny, epochs=1), traffic, BareContext(), tmp_path / "one")
    rate = type(config.training.scheduler).rate
    monkeypatch.setattr(
        type(config.training.scheduler),
        "rate",
        lambda self, step, *rest: rate(self, step, *rest) * (1 if step < 5 else 50),
    )
    three = train(config, traffic, BareContext(), tmp_path / "three")
    assert three.best_epoch == 1 and three.epochs == 3
    assert three.test == one.test


def test_patience_ends_the_run(traffic, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(type(tiny.training.scheduler), "rate", lambda self, step, *rest: 3e-3 if step < 10 else 0.5)
    result = train(configured(tiny, epochs=30, patience=2), traffic, BareContext(), tmp_path)
    assert result.status == "done" and result.epochs == result.best_epoch + 2 < 30


def test_a_stopped_run_reads_no_test_set(traffic, tiny, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(run, "score", lambda *args: read.append(args[2]) or original(*args))
    result = train(tiny, traffic, Recorder(stop_after=2), tmp_path / "stopped")
    assert result.status == "stopped" and result.test is None and result.epochs == 2
    assert read == ["val", "val"]
    train(tiny, traffic, BareContext(), tmp_path / "done")
    assert read[2:] == ["val", "val", "val", "test"]


original = run.score


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_divergence_ends_the_run_within_its_epoch(traffic, tiny, tmp_path, monkeypatch, value):
    calls = []

    def poisoned(forecast, target):
        calls.append(1)
        return absolute(forecast, target) * (value if len(calls) == 8 else 1)

    monkeypatch.setitem(LOSSES, "masked_mae", Loss(poisoned))
    result = train(tiny, traffic, BareContext(), tmp_path)
    assert result.status == "diverged" and result.test is None
    assert len(calls) == 8, "no further step, where looking at the loss does not wait for a device"
    assert len(result.curve) == 1 and all(math.isfinite(value) for value in result.curve[0].values())


def test_val_and_test_never_train(traffic, tiny, tmp_path):
    """Readings after the last training target change nothing that is learned."""
    first = train(configured(tiny, epochs=1), traffic, BareContext(), tmp_path / "a")
    values = traffic.values.copy()
    last = loop.Windows.of(traffic, 12, 12).origins["train"][-1] + 12
    values[int(last) :] *= 1.5
    train(configured(tiny, epochs=1), replace(traffic, values=values), BareContext(), tmp_path / "b")
    weights = [(tmp_path / name / "checkpoints/epoch-0001/model.safetensors").read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]
    assert first.epochs == 1


def test_augmentation_changes_training_alone(traffic, tiny, tmp_path, monkeypatch):
    """With a rate of nearly nothing the weights stay: so do validation and test, while the training loss differs."""
    config = configured(tiny, lr=1e-30, weight_decay=0.0)
    plain = train(config, traffic, BareContext(), tmp_path / "plain")
    options = config.training.model_dump() | EVERYTHING
    augmented = config.model_copy(update={"training": type(config.training).model_validate(options)})
    result = train(augmented, traffic, BareContext(), tmp_path / "augmented")
    assert result.test == plain.test and result.val == plain.val
    assert all(one["train_loss"] != other["train_loss"] for one, other in zip(result.curve, plain.curve, strict=True))


def test_bf16_trains(traffic, tiny, tmp_path):
    result = train(configured(tiny, precision="bf16"), traffic, BareContext(), tmp_path)
    assert result.status == "done" and result.curve[-1]["train_loss"] < result.curve[0]["train_loss"]


@pytest.mark.slow
def test_compiled_training_agrees_with_eager(traffic, tiny, tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("torch.compile on CPU needs g++")
    plain = tiny.model_copy(update={"model": tiny.model.model_copy(update={"dropout": 0.0, "fusion_dropout": 0.0})})
    eager = train(plain, traffic, BareContext(), tmp_path / "eager")
    compiled = train(configured(plain, compile=True), traffic, BareContext(), tmp_path / "compiled")
    for ours, expected in zip(compiled.curve, eager.curve, strict=True):
        for name in ("train_loss", "val_mae"):
            assert ours[name] == pytest.approx(expected[name], rel=1e-3), (ours["epoch"], name)


def test_forecast_sample_is_a_day_of_the_test_part(traffic, tiny, tmp_path):
    train(configured(tiny, epochs=1), traffic, BareContext(), tmp_path)
    with np.load(tmp_path / "forecast_sample.npz", allow_pickle=False) as sample:
        assert sample["forecast"].shape == sample["truth"].shape == (48, 3, 4)
        first = int(loop.Windows.of(traffic, 12, 12).origins["test"][0])
        assert sample["time"][0] == traffic.times[first]
        truth = traffic.values[first + 2, 0]
        assert np.isnan(sample["truth"][0, 0, 0]) if truth == 0 else sample["truth"][0, 0, 0] == truth
