"""A run that leaves in the middle of an epoch goes on from there as if it had not."""

from __future__ import annotations

import pytest
import torch

from altformer.config import Config
from altformer.train import train
from altformer.training.context import BareContext
from altformer.training.part import Part

EPOCHS, STEPS = 2, 3


class Leaving(BareContext):
    """Leaves at the given steps, counted over the attempts; sees the steps and epochs that are done."""

    def __init__(self, *steps):
        super().__init__()
        self.leave_at, self.steps, self.epochs = set(steps), [], []

    def progress(self, epoch, step, steps):
        self.steps.append((epoch, step))

    def leave_now(self):
        return len(self.steps) in self.leave_at

    def report(self, metrics):
        self.epochs.append(metrics)


@pytest.fixture(scope="module")
def stochastic(tiny):
    """Dropout, augmentation and two micro-batches a step: whatever takes random numbers."""
    training = {
        "epochs": EPOCHS,
        "steps_per_epoch": STEPS,
        "batch_size": 8,
        "gradient_accumulation_steps": 2,
        "ema_decay": 0.5,
        "horizon_curriculum": 1,
        "optimizer": "Muon",
        "mixup_alpha": 0.2,
        "augmentation": {"noise_std": 0.01},
    }
    values = tiny.model_dump()
    values["training"] |= training
    values["model"]["dropout"] = 0.3
    values["dataset"] |= {"val_stride": 4, "test_stride": 8}
    return Config.model_validate(values)


@pytest.fixture(scope="module")
def undisturbed(stochastic, traffic, tmp_path_factory):
    return numbers(train(stochastic, traffic, BareContext(), tmp_path_factory.mktemp("whole")))


def numbers(result):
    times = {"epoch_seconds", "samples_per_second"}
    curve = [{name: value for name, value in epoch.items() if name not in times} for epoch in result.curve]
    return curve, result.best_epoch, result.val, result.test


@pytest.mark.parametrize("step", range(1, EPOCHS * STEPS + 1))
def test_leaving_after_any_step_changes_nothing(stochastic, traffic, tmp_path, undisturbed, step):
    context = Leaving(step)
    first = train(stochastic, traffic, context, tmp_path)
    if step % STEPS == 0:
        assert numbers(first) == undisturbed, "after an epoch's last step there is nothing to leave"
        return
    assert first.status == "interrupted" and first.epochs == step // STEPS and first.test is None
    assert len(context.steps) == step
    assert (tmp_path / "checkpoints" / f"part-{step // STEPS + 1:04d}").is_dir()
    torch.manual_seed(step)  # whatever happens in between must not matter
    again = Leaving()
    assert numbers(train(stochastic, traffic, again, tmp_path)) == undisturbed
    assert len(again.steps) == EPOCHS * STEPS - step, "no step was done twice"
    assert not list((tmp_path / "checkpoints").glob("part-*")), "it lasts until its epoch is saved"


def test_leaving_again_and_again_changes_nothing(stochastic, traffic, tmp_path, undisturbed):
    for _ in range(EPOCHS * (STEPS - 1)):
        assert train(stochastic, traffic, Leaving(1, 2), tmp_path).status == "interrupted"
    assert numbers(train(stochastic, traffic, Leaving(1, 2), tmp_path)) == undisturbed


@pytest.mark.parametrize("name", ["part.pt", "model.safetensors", "state.pt", "sums.json"])
def test_a_damaged_part_gives_way_to_the_epoch_before(stochastic, traffic, tmp_path, undisturbed, name, caplog):
    train(stochastic, traffic, Leaving(STEPS + 1), tmp_path)
    path = tmp_path / "checkpoints" / "part-0002" / name
    path.write_bytes(path.read_bytes()[:-20])
    again = Leaving()
    assert numbers(train(stochastic, traffic, again, tmp_path)) == undisturbed
    assert again.steps[0] == (2, 1)
    assert "part-0002 is damaged: using the one before" in caplog.text


def test_a_part_whose_best_epoch_is_damaged_is_not_used(stochastic, traffic, tmp_path, undisturbed):
    train(stochastic, traffic, Leaving(STEPS + 2), tmp_path)
    (tmp_path / "checkpoints" / "epoch-0001" / "state.pt").unlink()
    again = Leaving()
    assert numbers(train(stochastic, traffic, again, tmp_path)) == undisturbed
    assert again.steps[0] == (1, 1)


def test_the_time_of_an_epoch_counts_all_its_attempts(stochastic, traffic, tmp_path, monkeypatch):
    until = Part.until.__func__
    monkeypatch.setattr(Part, "until", classmethod(lambda cls, step, totals, seconds: until(cls, step, totals, 1000.0)))
    train(stochastic, traffic, Leaving(1), tmp_path)
    again = Leaving()
    train(stochastic, traffic, again, tmp_path)
    assert 1000 < again.epochs[0]["epoch_seconds"] < 1100 and again.epochs[1]["epoch_seconds"] < 100
    assert again.epochs[0]["samples_per_second"] < 1


@pytest.mark.gpu
def test_a_part_keeps_the_random_numbers_of_the_gpu():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    device = torch.device("cuda", 0)
    torch.manual_seed(3)
    torch.rand(5, device=device)
    part = Part.from_bytes(Part.until(1, torch.zeros(2, 1, device=device), 0.0).to_bytes())
    expected = torch.rand(3), torch.rand(3, device=device)
    part.restore_random(device)
    assert torch.equal(torch.rand(3), expected[0]) and torch.equal(torch.rand(3, device=device), expected[1])
