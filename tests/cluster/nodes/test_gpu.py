"""On a real card: cells that share it, the same cell again, and groups over NCCL where there are two of them."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time

import pytest
import torch
import yaml

from altformer.data.datasets import load
from cluster.connection import connect
from cluster.resources import Resources
from cluster.runner import run_cells
from cluster.scheduler import NoScheduler
from cluster.work import Work
from experiments.cell import Machine, make_cell
from experiments.compose import compose
from experiments.tracked_cell import train_cell
from tests.faults.harness import PLAIN, SETTINGS, same_results

GPUS = torch.cuda.device_count()

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(GPUS == 0, reason="torch finds no GPU on this machine"),
]
two_gpus = pytest.mark.skipif(GPUS < 2, reason=f"NCCL needs a GPU for each rank: 2, and this machine has {GPUS}")


@pytest.fixture(scope="module")
def run():
    """Runs works on a Ray of our own with this machine's GPUs; returns how they ended, by key."""
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    folder = tempfile.mkdtemp(prefix="ray-g", dir="/tmp")
    with connect("local", num_cpus=max(4, 2 * GPUS), temp_dir=folder) as connection:

        def run(works, function, shared, storage, **resources):
            outcome = run_cells(
                works,
                function,
                shared,
                resources=Resources(**resources),
                scheduler=NoScheduler(),
                connection=connection,
                storage=storage,
            )
            assert {ended.status for ended in outcome.ended.values()} == {"done"}, outcome
            return {key: ended.result for key, ended in outcome.ended.items()}

        yield run
    shutil.rmtree(folder, ignore_errors=True)


def take_memory(payload, shared, context):
    """Take so much of the card's memory, then too much, and tell which card it was and when."""
    began = time.time()
    properties = torch.cuda.get_device_properties(context.device)
    taken = torch.empty(int(payload["may"] * properties.total_memory), dtype=torch.uint8, device=context.device)
    time.sleep(3)
    try:
        torch.empty(int(payload["more"] * properties.total_memory), dtype=torch.uint8, device=context.device)
        capped = False
    except torch.OutOfMemoryError:
        capped = True
    return {"card": str(properties.uuid), "capped": capped, "began": began, "ended": time.time(), "had": taken.numel()}


def test_two_cells_share_a_card_and_neither_takes_more_than_its_half(run, tmp_path):
    # 0.3 + 0.25 are more than a half, and with the other's 0.3 less than the card has
    works = [Work(f"key{number}", f"cell {number}", {"may": 0.3, "more": 0.25}) for number in range(2 * GPUS)]
    results = list(run(works, take_memory, None, tmp_path / "storage", gpus_per_worker=0.5).values())
    assert all(result["capped"] and result["had"] > 0 for result in results)
    for card in {result["card"] for result in results}:
        first, second = sorted((one for one in results if one["card"] == card), key=lambda one: one["began"])
        assert second["began"] < first["ended"], "at the same time"
    assert len({result["card"] for result in results}) == GPUS


@pytest.fixture
def simulated(tmp_path):
    """Readings, and the configuration of a small linear model."""
    model = {"class": PLAIN, "pause": 0.0}
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump({"base": "simulated.yaml", "model": model}))
    config = compose(tmp_path / "plain.yaml", settings={**SETTINGS, "epochs": 3})
    return load(config.dataset), config


def train_on(run, simulated, out, workers=1, **resources):
    """The record of the cell, from new processes."""
    data, config = simulated
    cell = make_cell(config, Machine("cuda", 1, workers), data.identity, out)
    works = [Work(cell.hash, "cell", {"cell": cell, "started_by": {}})]
    run(works, train_cell, {data.identity: data}, out / "storage", workers=workers, **resources)
    return json.loads((cell.folder / "record.json").read_text())


def test_a_cell_trained_twice_on_a_card_has_the_same_bits(run, simulated, tmp_path):
    """Of a model without scattered sums, which CUDA adds up in any order: there nothing is promised."""
    records = [train_on(run, simulated, tmp_path / name, gpus_per_worker=0.5) for name in ("one", "two")]
    assert records[0]["machine"]["device"] == "cuda"
    assert same_results({("cell", 0): records[0]}, {("cell", 0): records[1]})


def over_nccl(payload, shared, context):
    """Add up ones over the ranks, on their cards."""
    import torch.distributed as dist

    ones = torch.ones(1, device=context.device)
    dist.all_reduce(ones)
    cards = [""] * context.world_size
    dist.all_gather_object(cards, str(torch.cuda.get_device_properties(context.device).uuid))
    return {"backend": dist.get_backend(), "sum": float(ones), "cards": cards}


@two_gpus
def test_ranks_on_two_cards_talk_over_nccl(run, tmp_path):
    [result] = run([Work("key", "cell", {})], over_nccl, None, tmp_path / "storage", workers=2).values()
    assert (result["backend"], result["sum"]) == ("nccl", 2.0)
    assert len(set(result["cards"])) == 2


@two_gpus
def test_a_cell_on_two_cards_is_trained_over_nccl(run, simulated, tmp_path):
    record = train_on(run, simulated, tmp_path / "two", workers=2)
    assert record["machine"] == {"device": "cuda", "threads": 1, "workers": 2}
    assert len(record["curve"]) == 3 and record["test"]
