"""What is reused and what runs again after code, configuration, data or machine have changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablations.changed import refuse_changed, reruns
from ablations.matrix import load_matrix
from ablations.plan import Plan
from ablations.planning import make_plan
from ablations.terminal import print_plan
from altformer.errors import UserError
from altformer.files import write_json
from experiments import cell
from experiments.cell import Machine

MATRIX = "name: rates\nbase: simulated.yaml\narms: {{low: {{lr: {low}}}, high: {{lr: 0.003}}}}\nbaseline: low\n"


@pytest.fixture
def run_before(make_folder: Any) -> Plan:
    """Every cell is done but one, under the plan that the folder has."""
    text = MATRIX.format(low=0.001)
    plan: Plan = make_folder.plan("rates", text, {"low": [3.1, 3.2, 3.0], "high": [3.0, 3.1, None]})
    for at in plan.cells:
        if at.record is not None:
            known = {"data_hash": at.cell.data_hash, "sources": cell.provenance.sources_hash()}
            write_json(at.cell.folder / "record.json", {**at.record, **known})
    plan.folder.mkdir(parents=True)
    plan.write()
    return plan


@pytest.fixture
def again(traffic: Any, tmp_path: Path) -> Any:
    def make(low: float = 0.001, data: Any = traffic, machine: Machine | None = None) -> Plan:
        (tmp_path / "rates.yaml").write_text(MATRIX.format(low=low))
        arguments: dict[str, Any] = {"dataset": None, "profile": "quick", "settings": {}, "seeds": 3}
        return make_plan(
            load_matrix(tmp_path / "rates.yaml"), data, machine or Machine(), out=tmp_path / "runs", **arguments
        )

    return make


def other_sources(monkeypatch: Any) -> None:
    for place in ("experiments.provenance", "ablations.changed"):
        monkeypatch.setattr(f"{place}.sources_hash", lambda: "f" * 64)


def said(plan: Plan) -> list[str]:
    return [str(rerun) for rerun in reruns(plan)]


def test_nothing_has_changed(run_before: Plan, again: Any) -> None:
    assert said(again()) == [], "a cell that was not run before does not run again"
    refuse_changed([again()])


def test_other_sources_of_altformer(run_before: Plan, again: Any, monkeypatch: Any, capsys: Any) -> None:
    other_sources(monkeypatch)
    plan = again()
    assert plan.folder == run_before.folder and len(plan.to_run) == 6
    [line] = said(plan)
    assert line.startswith("5 cells run again (low seed 0, high seed 0, low seed 1 and 2 more): since the last run the")
    assert "the sources of altformer have changed (what it trained stays in cells/)" in line
    print_plan(plan, 1)
    assert f"Changed: {line}\n" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"--strict: 5 cells run again .*; without --strict they are run"):
        refuse_changed([plan])


def test_another_configuration_of_one_arm(run_before: Plan, again: Any) -> None:
    plan = again(low=0.002)
    [line] = said(plan)
    assert line.startswith("3 cells run again (low seed 0, low seed 1, low seed 2): ")
    assert "the configuration has changed: training.lr 0.001 -> 0.002" in line


def test_other_data_of_the_same_name_and_another_machine(run_before: Plan, again: Any, traffic: Any) -> None:
    """Their cells, and their folder, are others; those beside are looked at."""
    other = replace(traffic, content_hash="e" * 64)
    [line] = said(again(data=other))
    assert (
        line.startswith("5 cells run again")
        and f"the data have changed ({traffic.identity[:8]} -> {other.identity[:8]})" in line
    )
    [line] = said(again(machine=Machine(threads=2)))
    assert "the machine has changed: threads 1 -> 2" in line
    assert said(again(low=0.002, machine=Machine(threads=2))) == [
        line.replace(
            "5 cells run again (low seed 0, high seed 0, low seed 1 and 2 more)",
            "2 cells run again (high seed 0, high seed 1)",
        )
    ], "other settings in another folder are nothing that has changed"


def test_without_a_plan_that_can_be_read_nothing_is_known(run_before: Plan, again: Any, monkeypatch: Any) -> None:
    other_sources(monkeypatch)
    (run_before.folder / "plan.json").write_text("{")
    assert said(again()) == []


def test_strict_ends_with_2_before_anything_is_written(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    from experiments.cli import main

    def refuse(plans: Any) -> None:
        raise UserError(f"--strict: {len(list(plans))} plan")

    monkeypatch.setattr("ablations.changed.refuse_changed", refuse)
    arguments = ["ablate", "depth", "--dataset", "simulated", "--profile", "quick", "--out", str(tmp_path / "runs")]
    assert main([*arguments, "--strict"]) == 2
    assert capsys.readouterr().err == "altformer: --strict: 1 plan\n" and not (tmp_path / "runs").exists()
