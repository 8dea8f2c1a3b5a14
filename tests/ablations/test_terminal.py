"""What the command says on the terminal, and when it ends in the table over data sets."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import pytest

from ablations.command import run_groups
from ablations.groups import FinishedGroup, Group, make_group
from ablations.matrix import PACKAGE, load_matrix, shipped_matrices
from ablations.plan import Plan
from ablations.planning import make_plan
from ablations.reports.data import build_report
from ablations.reports.facts import RunInfo
from ablations.running import Finished
from ablations.terminal import print_finished, print_group
from cluster.budget import NO_BUDGET
from cluster.lender import Lender
from experiments.cell import Machine, write_failure
from experiments.cli import main
from experiments.programs import program

CLAIMS = "claims: [{text: high is worse, arm: high, is: worse}]\n"
RATES = "name: rates\nbase: simulated\narms: {low: {lr: 0.001}, high: {lr: 0.003}}\nbaseline: low\n"


@pytest.fixture
def plan(traffic: Any, tmp_path: Path) -> Any:
    def make(text: str = RATES, name: str = "rates") -> Plan:
        path = tmp_path / f"{name}.yaml"
        path.write_text(text.replace("rates", name))
        arguments: dict[str, Any] = {"dataset": None, "profile": "quick", "settings": {}, "seeds": 1}
        return make_plan(load_matrix(path), traffic, Machine(), out=tmp_path / "runs", **arguments)

    return make


def finished(plans: list[Plan]) -> FinishedGroup:
    info = RunInfo("x", "quick", "c")
    reported = [Finished(plan, build_report(plan.matrix, plan.arms, [], info), None) for plan in plans]
    return FinishedGroup(Group(plans, None), None, reported, None)


@pytest.mark.parametrize("names", [["rates"], ["rates", "more"]])
def test_claims_stand_on_the_terminal_with_their_verdicts(names: list[str], plan: Any, capsys: Any) -> None:
    print_finished(finished([plan(RATES + CLAIMS, name) for name in names]))
    line = "Claim: high is worse [high]: not testable here (no numbers of both high and low)"
    assert capsys.readouterr().out.splitlines().count(line) == len(names)


def test_cells_of_another_torch_are_named_for_several_matrices_too(plan: Any, tmp_path: Path, capsys: Any) -> None:
    cell = plan().cells[0].cell
    record = write_failure(cell, "", {}) | {"status": "done", "error": None}
    record["provenance"]["versions"]["torch"] = "1.0.0"
    (cell.folder / "record.json").write_text(json.dumps(record))
    print_group(make_group("several", [plan(), plan(name="more")], tmp_path), 1)
    assert capsys.readouterr().out.count("some finished cells were trained with torch 1.0.0") == 1


def test_a_matrix_at_its_end_says_how_to_forecast_with_the_best(plan: Any, make_record: Any, capsys: Any) -> None:
    def told(*maes: float) -> str:
        for at, mae in zip(plan().cells, maes, strict=False):
            at.cell.folder.mkdir(parents=True, exist_ok=True)
            record = make_record(mae, at.seed) | {"cell_hash": at.cell.hash}
            (at.cell.folder / "record.json").write_text(json.dumps(record))
        print_finished(finished([plan()]))
        return str(capsys.readouterr().out)

    assert "altformer predict" not in told(3.0), "a cell is still to be run"
    folder = plan().cells[1].cell.folder
    command = f"{program('altformer')} predict --run {folder.name} --input readings.csv --out {folder.parents[1]}"
    assert f"Forecast with the best by validation (high seed 0): {command}" in told(3.0, 2.9)


@pytest.mark.parametrize("several", [False, True])
def test_cells_that_go_on_from_a_checkpoint_are_named(several: bool, plan: Any, tmp_path: Path, capsys: Any) -> None:
    plans = [plan(), plan(name="more")] if several else [plan()]
    print_group(make_group("several", plans, tmp_path), 1)
    assert "checkpoint" not in capsys.readouterr().out
    for epoch in ("epoch-0001", "epoch-0003"):
        (plans[0].cells[1].cell.folder / "checkpoints" / epoch).mkdir(parents=True)
    print_group(make_group("several", plans, tmp_path), 1)
    assert "Of these 1 goes on from a checkpoint: high seed 0 (epoch 3)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("dataset", "groups", "key", "written"),
    [
        ("at-hand", 1, "", True),
        (None, 1, "paper_table: true\n", True),
        ("METR-LA", 1, "", False),
        (None, 1, "", False),
        ("METR-LA,PEMS08", 2, "", True),
    ],
)
def test_the_table_over_data_sets_is_written_where_it_is_asked_for(
    dataset: str | None, groups: int, key: str, written: bool, plan: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    one = finished([plan(RATES + key)])
    monkeypatch.setattr("ablations.groups.run_group", lambda *args: one)
    args = argparse.Namespace(dataset=dataset, out=tmp_path / "out", no_mlflow=True)
    run_groups([one.group] * groups, args, Lender(lambda: pytest.fail("connected")), NO_BUDGET)
    folders = list((tmp_path / "out").glob("rates-*-data-sets-*/table.md")) if (tmp_path / "out").exists() else []
    assert bool(folders) == written


def test_the_matrix_of_data_sets_asks_for_its_table() -> None:
    assert load_matrix(PACKAGE / "datasets.yaml").paper_table
    assert not any(load_matrix(path).paper_table for path in shipped_matrices())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("settings: {embed_dm: 4}\n", r"rates\.yaml:5: unknown field 'embed_dm'; did you mean 'embed_dim'"),
        ("settings:\n  embed_dim: wide\n", r"rates\.yaml:6: model\.embed_dim: .*got 'wide'"),
        (
            "settings: {embed_dim: {quick: 16}}\n",
            r"rates\.yaml:5: settings\.embed_dim: .*the keys quick and full",
        ),
    ],
)
def test_a_mistake_in_settings_is_named_with_its_line(change: str, message: str, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "rates.yaml"
    path.write_text(RATES + change)
    assert main(["ablate", str(path), "--dataset", "simulated", "--profile", "quick", "--dry-run"]) == 2
    assert re.search(message, capsys.readouterr().err)
