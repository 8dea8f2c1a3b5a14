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


def train_on_two_ranks(config, data, folder):
    """The result of each rank."""
    context = mp.get_context("spawn")
    queue = context.SimpleQueue()
    arguments = (2, str(folder / "store"), config, data, folder / "two", queue)
    ranks = mp.spawn(worker, arguments, nprocs=2, join=False)
    results = dict(queue.get() for _ in range(2))
    while not ranks.join():
        pass
    return results


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch_size", "steps", "loss", "accumulated"),
    [
        (16, 5, "masked_mae", 1),
        (15, 5, "masked_mae", 1),  # an odd batch gives the ranks unequal shares
        (263, None, "mae_unmasked", 1),  # the last batch of 264 windows has a single one, of which one rank gets none
        (7, 5, "masked_mae", 3),  # one exchange of gradients for three unequal micro-batches
    ],
)
def test_two_ranks_equal_one(traffic, tiny, tmp_path, batch_size, steps, loss, accumulated):
    """Four epochs without dropout; one rank alone sees a step's windows in a single batch."""
    update = {"batch_size": batch_size * accumulated, "epochs": 4, "steps_per_epoch": steps, "loss": loss}
    training = tiny.training.model_copy(update=update)
    config = tiny.model_copy(
        update={"training": training, "model": tiny.model.model_copy(update={"dropout": 0.0, "fusion_dropout": 0.0})}
    )
    alone = train(config, traffic, BareContext(), tmp_path / "one")
    training = training.model_copy(update={"batch_size": batch_size, "gradient_accumulation_steps": accumulated})
    config = config.model_copy(update={"training": training})
    results = train_on_two_ranks(config, traffic, tmp_path)
    for epoch, expected in enumerate(alone.curve):
        for rank in (0, 1):
            got = results[rank].curve[epoch]
            for name in ("train_loss", "val_mae", "val_rmse", "val_mape_3", "val_mae_unmasked"):
                assert got[name] == pytest.approx(expected[name], rel=2e-5), (epoch, name)
    assert results[0].test["windows"] == alone.test["windows"]
    assert results[0].test["all"] == pytest.approx(alone.test["all"], rel=2e-5)
    assert results[0].test == results[1].test


@pytest.mark.slow
def test_a_model_without_weights_runs_on_two_ranks(traffic, tiny, tmp_path):
    config = type(tiny).model_validate(tiny.model_dump() | {"model": {"type": "historical_average"}})
    alone = train(config, traffic, BareContext(), tmp_path / "one")
    for result in train_on_two_ranks(config, traffic, tmp_path).values():
        assert result.epochs == 1 and result.status == "done"
        assert result.curve[0]["train_loss"] == pytest.approx(alone.curve[0]["train_loss"], rel=1e-6)
        assert result.test["all"] == pytest.approx(alone.test["all"], rel=1e-6)
