"""The loss sees the nearest forecast steps first, and nothing of the others."""

import pytest
import torch
from safetensors.torch import load_file

from altformer.config import Config
from altformer.data.windows import Windows
from altformer.train import train
from altformer.training.augmentation import Augmentation
from altformer.training.batches import nearest, own_shares, steps_seen
from altformer.training.context import BareContext


@pytest.mark.parametrize(
    ("done", "growing", "seen"),
    [(0, 24, 1), (1, 24, 1), (2, 24, 2), (23, 24, 12), (24, 24, 12), (99, 24, 12), (0, 0, 12), (0, 5, 1), (4, 5, 10)],
)
def test_steps_grow_evenly_until_all_are_seen(done, growing, seen):
    assert steps_seen(done, growing, output_len=12) == seen


def test_only_the_nearest_targets_count(tiny, traffic):
    windows = Windows.of(traffic, 12, 12)
    shares = own_shares(windows.origins["train"][:8], 4, Augmentation(tiny.training, windows), rank=0, world_size=1)
    for before, after in zip(shares, nearest(shares, 3), strict=True):
        assert torch.equal(after.batch.target_observed[:, :3], before.batch.target_observed[:, :3])
        assert not after.batch.target_observed[:, 3:].any()
        assert torch.equal(after.batch.target, before.batch.target)
        assert before.batch.target_observed[:, 3:].any(), "the windows' own mask is left as it was"
    assert nearest(shares, 12) == shares


def test_weights_of_later_steps_move_only_once_they_are_seen(tiny, traffic, tmp_path):
    """With a flat head each forecast step has weights of its own; without decay they stay where no loss pulls."""

    def head(epochs):
        values = tiny.model_dump()
        values["training"] |= {"epochs": epochs, "horizon_curriculum": 12, "weight_decay": 0.0, "steps_per_epoch": 1}
        folder = tmp_path / str(epochs)
        train(Config.model_validate(values), traffic, BareContext(), folder)
        return load_file(folder / "checkpoints" / f"epoch-{epochs:04}" / "model.safetensors")["head.linear.weight"]

    first, third = head(1), head(3)
    moved = (first != third).any(dim=1)
    assert moved[:3].all() and not moved[3:].any()
