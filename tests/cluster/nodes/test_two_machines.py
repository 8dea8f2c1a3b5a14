"""A cell on two nodes with networks of their own, as on two machines."""

from __future__ import annotations

import json

import pytest

from altformer.data.datasets import load
from cluster.resources import Resources
from cluster.runner import run_cells
from cluster.scheduler import NoScheduler
from cluster.work import Work
from experiments.cell import Machine, make_cell
from experiments.compose import compose
from tests.cluster.nodes.cells import train_and_say_where
from tests.cluster.nodes.driver import driver
from tests.cluster.nodes.machines import Machines
from tests.faults.harness import same_results
from tests.faults.process import ROOT
from tests.small import SMALL

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SETTINGS = {**SMALL, "epochs": 3, "steps_per_epoch": 4}


def test_a_cell_on_two_machines_has_the_curve_that_it_has_on_one(tmp_path):
    config = compose(ROOT / "experiments" / "simulated.yaml", settings=SETTINGS)
    data = load(config.dataset)
    found = {}
    with Machines() as cluster:
        addresses = [cluster.add(cpus=2), cluster.add(cpus=2)]
        with driver(cluster.address, cluster.environment) as connection:
            for placement in ("STRICT_SPREAD", "STRICT_PACK"):
                cell = make_cell(config, Machine("cpu", 1, 2), data.identity, tmp_path / placement)
                outcome = run_cells(
                    [Work(cell.hash, "cell", {"cell": cell, "started_by": {}})],
                    train_and_say_where,
                    {data.identity: data},
                    resources=Resources(workers=2, placement=placement, gpus_per_worker=0),
                    scheduler=NoScheduler(),
                    connection=connection,
                    storage=tmp_path / placement / "storage",
                )
                ended = outcome.ended[cell.hash]
                assert ended.status == "done", ended.error
                found[placement] = ended.result, cell
    (spread, spread_cell), (packed, packed_cell) = found["STRICT_SPREAD"], found["STRICT_PACK"]
    assert sorted(spread["places"]) == sorted(addresses)
    assert len(set(packed["places"])) == 1 and packed["places"][0] in addresses
    assert spread_cell.hash == packed_cell.hash, "where its workers are is no part of what a cell is"
    assert len(spread["curve"]) == SETTINGS["epochs"]
    written = [json.loads((cell.folder / "record.json").read_text()) for cell in (spread_cell, packed_cell)]
    assert same_results({("cell", 0): written[0]}, {("cell", 0): written[1]})
