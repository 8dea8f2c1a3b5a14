"""Two gloo ranks on CPU train the same curve as one rank with the same global batch."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import nn

from altformer import train as loop
from altformer.config import Config
from altformer.data.traffic import read_only
from altformer.error_profile import TEST_ERRORS
from altformer.train import train
from altformer.training.context import BareContext

CURVE = ("train_loss", "val_mae", "val_rmse", "val_mape_3", "val_mae_unmasked")


class Rank(BareContext):
    def __init__(self, rank, world_size):
        super().__init__()
        self.rank, self.world_size = rank, world_size


class Teacher(nn.Module):
    """Repeats the last reading."""

    def forward(self, reading, observed, time_of_day, day_of_week):
        return reading[:, -1:].expand(-1, 12, -1)


def worker(rank, world_size, store, config, data, folder, teacher):
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    try:
        found = train_and_look(config, data, Rank(rank, world_size), folder, teacher)
        dist.barrier()
        return found
    finally:
        dist.destroy_process_group()


def train_and_look(config, data, context, folder, teacher):
    """The result, and the buffers that the model has at the end of each epoch, as numpy."""
    buffers = []
    epoch = loop._train_epoch

    def looking(*arguments):
        metrics = epoch(*arguments)
        training = arguments[0]
        model = getattr(training.model, "module", training.model)
        buffers.append({name: buffer.numpy().copy() for name, buffer in model.named_buffers()})
        return metrics

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_train_epoch", looking)
        return train(config, data, context, folder, teacher), buffers


@pytest.fixture(scope="module")
def train_on_two_ranks():
    """The result of each rank, and its model's buffers after each epoch.

    The two processes stay for all tests of this module: each takes seconds to import torch.
    """
    processes = ProcessPoolExecutor(2, get_context("spawn"))

    def trained(config, data, folder, teacher=None):
        arguments = (2, str(folder / "store"), config, data, folder / "two", teacher)
        found = [processes.submit(worker, rank, *arguments) for rank in range(2)]
        results, buffers = zip(*(each.result() for each in found), strict=True)
        return dict(enumerate(results)), dict(enumerate(buffers))

    yield trained
    for process in list(processes._processes.values()):
        process.kill()  # all is handed over; torch's threads have been seen to abort at the interpreter's own exit
    processes.shutdown()


def changed(config, model=None, **training):
    values = config.model_dump()
    return Config.model_validate(
        values | {"model": model or values["model"], "training": values["training"] | training}
    )


def assert_equal_curves(results, alone):
    for epoch, expected in enumerate(alone.curve):
        for rank in (0, 1):
            got = results[rank].curve[epoch]
            for name in CURVE:
                assert got[name] == pytest.approx(expected[name], rel=2e-5), (epoch, name)
    assert results[0].test["windows"] == alone.test["windows"]
    assert results[0].test["all"] == pytest.approx(alone.test["all"], rel=2e-5)
    assert results[0].test == results[1].test


@pytest.fixture
def dry(tiny):
    """The tiny model without dropout, for four epochs."""
    return changed(tiny, tiny.model.model_dump() | {"dropout": 0.0, "fusion_dropout": 0.0}, epochs=4)


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
def test_two_ranks_equal_one(traffic, dry, tmp_path, batch_size, steps, loss, accumulated, train_on_two_ranks):
    """Four epochs without dropout; one rank alone sees a step's windows in a single batch."""
    config = changed(dry, batch_size=batch_size * accumulated, steps_per_epoch=steps, loss=loss)
    alone = train(config, traffic, BareContext(), tmp_path / "one")
    config = changed(config, batch_size=batch_size, gradient_accumulation_steps=accumulated)
    results, _ = train_on_two_ranks(config, traffic, tmp_path)
    assert_equal_curves(results, alone)
    with np.load(tmp_path / "one" / TEST_ERRORS) as one, np.load(tmp_path / "two" / TEST_ERRORS) as two:
        for part in ("day", "sensor"):
            # sums of few windows: rounding, which differs between kinds of CPU, shows more than in the mean of all
            np.testing.assert_allclose(two[f"{part}_sums"], one[f"{part}_sums"], rtol=3e-4)
            np.testing.assert_array_equal(two[f"{part}_counts"], one[f"{part}_counts"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "teacher"),
    [
        # one weight serves two stages and two scales: its gradient is whole only once all four have added theirs
        ({"share_stages": True, "patch_sizes": [1, 2]}, None),
        ({}, Teacher()),
        ({"share_stages": True, "patch_sizes": [1, 2]}, Teacher()),
    ],
    ids=["shared weights", "distillation", "both"],
)
def test_two_ranks_equal_one_in_every_form_of_a_step(traffic, dry, tmp_path, model, teacher, train_on_two_ranks):
    """An odd batch: the two terms of a distilled loss have counts of their own, unequal between the ranks."""
    distillation = None if teacher is None else {"teacher": "0123456789abcdef", "weight": 0.4}
    config = changed(dry, dry.model.model_dump() | model, batch_size=15, distillation=distillation)
    alone = train(config, traffic, BareContext(), tmp_path / "one", teacher)
    results, _ = train_on_two_ranks(config, traffic, tmp_path, teacher)
    assert_equal_curves(results, alone)


@pytest.mark.slow
def test_ranks_of_a_model_with_running_means_validate_one_model(traffic, dry, tmp_path, train_on_two_ranks):
    """Each rank normalizes by its own share of a batch; what it remembers of it is made one at each epoch's end.

    Else validation, which every rank does a part of, would be that of two models, and the checkpoint a third.
    """
    data = replace(traffic, adjacency=read_only(np.eye(6, k=1) + np.eye(6)))
    model = {"type": "graph_wavenet", "num_blocks": 1, "residual_dim": 4, "skip_dim": 8, "end_dim": 8, "dropout": 0.0}
    config = changed(dry, model, batch_size=15, epochs=2)
    results, buffers = train_on_two_ranks(config, data, tmp_path)
    assert [len(buffers[rank]) for rank in (0, 1)] == [2, 2]
    for ours, theirs in zip(buffers[0], buffers[1], strict=True):
        assert ours.keys() == theirs.keys() >= {"transitions", "mixes.0.norm.running_mean", "mixes.0.norm.running_var"}
        for name, buffer in ours.items():
            np.testing.assert_array_equal(buffer, theirs[name], err_msg=name)
    assert buffers[0][0]["mixes.0.norm.running_mean"].any()
    saved = load_file(tmp_path / "two" / "checkpoints" / "epoch-0002" / "model.safetensors")
    for name, buffer in buffers[1][-1].items():
        np.testing.assert_array_equal(saved[name].numpy(), buffer, err_msg=name)
    assert results[0].test == results[1].test and results[0].val == results[1].val


@pytest.mark.slow
def test_a_model_without_weights_runs_on_two_ranks(traffic, tiny, tmp_path, train_on_two_ranks):
    config = changed(tiny, {"type": "historical_average"})
    alone = train(config, traffic, BareContext(), tmp_path / "one")
    results, _ = train_on_two_ranks(config, traffic, tmp_path)
    for result in results.values():
        assert result.epochs == 1 and result.status == "done"
        assert result.curve[0]["train_loss"] == pytest.approx(alone.curve[0]["train_loss"], rel=1e-6)
        assert result.test["all"] == pytest.approx(alone.test["all"], rel=1e-6)
