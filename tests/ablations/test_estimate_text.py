"""An estimate in words, as its reader sees it on the terminal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ablations.estimate import Estimate
from ablations.estimate_text import budget_words, cell_time, expectation_lines, hours, power_text, size
from ablations.groups import Group
from ablations.matrix import load_matrix
from ablations.plan import Plan
from ablations.planning import make_plan
from ablations.terminal import print_end, print_group
from cluster.budget import Budget
from cluster.work import Ended, Outcome
from experiments.cell import Machine

KNOWN = Estimate(
    ["a", "b", "c"],
    {"a": 60.0, "b": 600.0, "c": 60.0},
    {"a": "probe", "b": "2 records", "c": "guess"},
    slots=2,
    gpus=0,
    upper=False,
    disk_bytes=12_300_000,
    free_bytes=5 * 10**9,
)

FROM = " (cells: 1 from records, 1 from a probe, 1 guessed from a similar model)"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, f"Expected: about 10 min 05 s until the last cell ends, 0.20 slot-hours{FROM}"),
        ({"upper": True}, f"Expected: at most about 10 min 05 s until the last cell ends, 0.20 slot-hours{FROM}"),
        ({"gpus": 0.5}, f"Expected: about 10 min 05 s until the last cell ends, 0.10 GPU-hours{FROM}"),
        (
            {"seconds": {"b": 600.0}, "sources": {"b": "probe"}},
            "Expected: about 10 min 05 s until the last cell ends, 0.17 slot-hours, without the 2 cells that could not "
            "be timed (cells: 1 from a probe)",
        ),
        (
            {"seconds": {"b": 600.0, "c": 60.0}, "sources": {"b": "1 record", "c": "5 records"}},
            "Expected: about 10 min 05 s until the last cell ends, 0.18 slot-hours, without the cell that could not be "
            "timed (cells: 2 from records)",
        ),
        ({"seconds": {}}, "Expected: unknown, as no record tells how long such a cell takes and none was timed"),
        ({}, "Disk: 12 MB at most, 5.0 GB free"),
        ({"free_bytes": 10**6}, "Warning: too little disk is free: 12 MB at most, 1.0 MB free"),
        ({"problems": {"odd": "ValueError: no"}}, "Warning: arm odd could not be timed: ValueError: no"),
    ],
)
def test_lines(changes: dict[str, Any], line: str) -> None:
    assert line in expectation_lines(replace(KNOWN, **changes))


def test_nothing_is_said_where_nothing_is_to_run() -> None:
    assert expectation_lines(replace(KNOWN, to_run=[]), Budget(hours=1)) == []


@pytest.mark.parametrize(
    ("budget", "line"),
    [
        (Budget(hours=0.1), "Budget of 0.1 hours: about 2 of 3 cells to run fit"),
        (Budget(hours=1, cells=1), "Budget of 1 hour, 1 cell: about 1 of 3 cells to run fit"),
        (Budget(gpu_hours=2.5), "Budget of 2.5 GPU-hours: about 3 of 3 cells to run fit"),
    ],
)
def test_what_fits_into_the_budget_is_said(budget: Budget, line: str) -> None:
    assert expectation_lines(KNOWN, budget)[-1] == line
    assert not any(line.startswith("Budget") for line in expectation_lines(KNOWN))


def test_no_limit_has_no_words() -> None:
    assert budget_words(Budget()) == ""


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0.00"), (0.004, "under 0.01"), (0.04, "0.04"), (9.994, "9.99"), (1234.5, "1,234")]
)
def test_hours(value: float, text: str) -> None:
    assert hours(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (38_200_000, "38 MB"), (77.5e9, "78 GB"), (2.5e15, "2500.0 TB")],
)
def test_size(value: float, text: str) -> None:
    assert size(value) == text


@pytest.fixture
def plan(traffic: Any, tmp_path: Path) -> Any:
    def make(text: str = "arms: {low: {lr: 0.001}, high: {lr: 0.003}}\nbaseline: low\n", name: str = "rates") -> Plan:
        path = tmp_path / f"{name}.yaml"
        path.write_text(f"name: {name}\nbase: simulated\n{text}")
        arguments: dict[str, Any] = {"dataset": None, "profile": "quick", "settings": {}, "seeds": 3}
        return make_plan(load_matrix(path), traffic, Machine(), out=tmp_path / "runs", **arguments)

    return make


def of_plan(plan: Plan, **changes: Any) -> Estimate:
    keys = [at.cell.hash for at in plan.to_run]
    return replace(
        KNOWN,
        **{"to_run": keys, "seconds": dict.fromkeys(keys, 75.0), "sources": dict.fromkeys(keys, "probe"), **changes},
    )


def test_an_arms_longest_cell_is_shown_with_its_source(plan: Any) -> None:
    found = plan()
    told = of_plan(found)
    low = [at for at in found.cells if at.arm == "low"]
    first = low[0].cell.hash
    assert cell_time(told, low) == "1 min 15 s (probe)"
    assert cell_time(replace(told, seconds={**told.seconds, first: 7500.0}), low) == "2 h 05 min (probe)"
    assert cell_time(replace(told, seconds={}), low) == "?"
    assert cell_time(told, []) == cell_time(None, low) == "-"


@pytest.mark.parametrize("width", [80, 120])
def test_the_whole_announcement(plan: Any, capsys: Any, monkeypatch: Any, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    found = plan()
    print_group(Group([found], None), 2, of_plan(found), Budget(cells=4))
    printed = capsys.readouterr().out.splitlines()
    table = [" ".join(line.split()) for line in printed if "(probe)" in line]
    shown = [" " + " ".join(at.cell.hash[:8] for at in found.cells if at.arm == arm) for arm in ("low", "high")]
    shown = shown if width == 120 else ["", ""]
    params = f"{found.params['low']:,}"
    assert table == [
        f"low (baseline) {params} 0 3 1 min 15 s (probe){shown[0]}",
        f"high {params} 0 3 1 min 15 s (probe){shown[1]}",
    ]
    assert [line.split(":")[0] for line in printed if ":" in line][-5:] == [
        "Results",
        "Expected",
        "Disk",
        "Budget of 4 cells",
        "Power",
    ]


def test_power_is_said_once_for_matrices_of_as_many_arms(plan: Any, capsys: Any) -> None:
    wider = "arms: {low: {lr: 0.001}, high: {lr: 0.003}, more: {lr: 0.004}}\nbaseline: low\n"
    search = "kind: search\ngrid: {lr: [0.001, 0.002]}\n"
    plans = [plan(), plan(wider, "wide"), plan(name="same"), plan(search, "search")]
    print_group(Group(plans, None), 2)
    powers = [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("Power")]
    assert powers == ["Power (rates, same)", "Power (wide)"]
    assert power_text(plans[3]) is None


@pytest.mark.parametrize(
    ("interrupted", "budget", "line"),
    [
        (None, None, ""),
        (
            "SIGINT",
            None,
            "Interrupted (SIGINT): finished cells and checkpoints are kept and 6 cells are left, about 3 min 30 s;",
        ),
        (
            None,
            "2 hours",
            "The budget of 2 hours is spent: finished cells and checkpoints are kept and 6 cells are left, about",
        ),
    ],
)
def test_the_end_before_the_last_cell_says_what_is_left(
    plan: Any, capsys: Any, interrupted: str | None, budget: str | None, line: str
) -> None:
    found = replace(plan(), expected=of_plan(plan()).seconds)
    half = {found.cells[0].cell.hash: Ended("interrupted", seconds=30.0)}
    outcome = Outcome(half, (), interrupted, 2, 9.0, budget)
    print_end(SimpleNamespace(plan=found, outcome=outcome, lost={}))  # type: ignore[arg-type]
    printed = capsys.readouterr().out
    assert printed.startswith(line) and bool(printed) == bool(line)
    assert not line or printed.endswith("the same command goes on.\n")
