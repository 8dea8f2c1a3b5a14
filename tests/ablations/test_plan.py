"""Plans: what is settled, where it goes, and what a user is told before the start."""

from __future__ import annotations

import json

import pytest

from ablations.matrix import load_matrix
from ablations.plan import make_plan
from ablations.summary import print_plan
from experiments.cell import Machine, write_failure
from experiments.provenance import versions

MATRIX = """
name: tiny
base: simulated.yaml
arms: {one: {lr: 0.001}, two: {lr: 0.003}}
baseline: one
scheduler: asha
"""


@pytest.fixture
def plan(traffic, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(MATRIX)

    def make(seeds=2, **changes):
        arguments = {"dataset": None, "profile": "quick", "settings": {}, "out": tmp_path / "runs"} | changes
        return make_plan(load_matrix(path), traffic, Machine("cpu", 1, 1), seeds=seeds, **arguments)

    return make


def settle(planned, status, **changes):
    """Leave a record of a cell as training would."""
    record = write_failure(planned.cell, "", {})
    record |= {"status": status, "error": None, **changes}
    (planned.cell.folder / "record.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("status", "stopped_by", "settled"),
    [
        ("done", None, True),
        ("diverged", None, True),
        ("failed", None, False),
        ("stopped", "this scheduler", True),
        ("stopped", {"type": "asha", "reduction_factor": 9}, False),
    ],
)
def test_what_counts_as_settled(plan, status, stopped_by, settled):
    before = plan()
    stopped_by = before.scheduler if stopped_by == "this scheduler" else stopped_by
    settle(before.cells[0], status, stopped_by=stopped_by)
    after = plan()
    assert [after.settled(at) for at in after.cells] == [settled, False, False, False]
    assert len(after.to_run) == 4 - settled


def test_more_seeds_continue_the_same_folder_and_other_settings_do_not(plan):
    folder = plan().folder
    assert plan(seeds=5).folder == folder
    assert plan(settings={"dropout": 0.2}).folder != folder
    assert plan(profile="full").folder != folder


def test_whole_seeds_come_first(plan):
    assert [(at.arm, at.seed) for at in plan().cells] == [("one", 0), ("two", 0), ("one", 1), ("two", 1)]


def test_a_plan_knows_whether_it_is_written(plan):
    before = plan()
    assert not before.is_written()
    before.write()
    assert plan().is_written() and not plan(seeds=3).is_written()
    settle(before.cells[0], "done")
    assert not plan().is_written()


def test_cells_of_another_torch_are_named(plan, capsys):
    settle(plan().cells[0], "done")
    print_plan(plan(), 1)
    assert "Warning" not in capsys.readouterr().out
    record = json.loads((plan().cells[0].cell.folder / "record.json").read_text())
    record["provenance"]["versions"]["torch"] = "1.0.0"
    (plan().cells[0].cell.folder / "record.json").write_text(json.dumps(record))
    print_plan(plan(), 1)
    assert f"trained with torch 1.0.0; this is {versions()['torch']}" in capsys.readouterr().out
