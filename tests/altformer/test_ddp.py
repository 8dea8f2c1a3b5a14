"""Two gloo ranks on CPU train the same curve as one rank with the same global batch."""

from __future__ import annotations

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from altformer.train import train
from altformer.training.context import BareContext


class Rank(BareContext):
    def __init__(self, rank, world_size):
        super().__init__()
        self.rank, self.world_size = rank, world_size


def worker(rank, world_size, store, config, data, folder, queue):
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    result = train(config, data, Rank(rank, world_size), folder)
    queue.put((rank, result))
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch_size", "steps", "loss"),
    [
        (16, 5, "masked_mae"),
        (15, 5, "masked_mae"),  # an odd batch gives the ranks unequal shares
        (263, None, "mae_unmasked"),  # the last batch of 264 windows has a single one, of which one rank gets none
    ],
)
def test_two_ranks_equal_one(traffic, tiny, tmp_path, batch_size, steps, loss):
    """Four epochs without dropout."""
    update = {"batch_size": batch_size, "epochs": 4, "steps_per_epoch": steps, "loss": loss}
    training = tiny.training.model_copy(update=update)
    config = tiny.model_copy(
        update={"training": training, "model": tiny.model.model_copy(update={"dropout": 0.0, "fusion_dropout": 0.0})}
    )
    alone = train(config, traffic, BareContext(), tmp_path / "one")
    context = mp.get_context("spawn")
    queue = context.SimpleQueue()
    arguments = (2, str(tmp_path / "store"), config, traffic, tmp_path / "two", queue)
    ranks = mp.spawn(worker, arguments, nprocs=2, join=False)
    results = dict(queue.get() for _ in range(2))
    while not ranks.join():
        pass
    for epoch, expected in enumerate(alone.curve):
        for rank in (0, 1):
            got = results[rank].curve[epoch]
            for name in ("train_loss", "val_mae", "val_rmse", "val_mape_3", "val_mae_unmasked"):
                assert got[name] == pytest.approx(expected[name], rel=2e-5), (epoch, name)
    assert results[0].test["windows"] == alone.test["windows"]
    assert results[0].test["all"] == pytest.approx(alone.test["all"], rel=2e-5)
    assert results[0].test == results[1].test
