"""Decisions as a table, and the two logs that only grow."""

from __future__ import annotations

import json
import math

import pytest

from ablations.tuning.decision import Decision, DecisionLog, best_of, not_meant, through_gate
from ablations.tuning.ledger import Ledger
from ablations.tuning.log import JsonLines
from ablations.tuning.stages import Gate

GATE = Gate.model_validate(
    {"below": {"value": 4.0, "then": "full"}, "above": {"value": 4.5, "then": "phase1"}, "between": "fine"}
)


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        (3.9, "full", "3.9000 < 4"),
        (3.99999, "full", "< 4"),
        (4.0, "fine", "4 <= 4.0000 <= 4.5"),
        (4.2, "fine", "4 <= 4.2000 <= 4.5"),
        (4.5, "fine", "4 <= 4.5000 <= 4.5"),
        (4.6, "phase1", "4.6000 > 4.5"),
        (math.nan, "phase1", "no arm has a value"),
        (math.inf, "phase1", "no arm has a value"),
        (None, "phase1", "no arm has a value"),
    ],
)
def test_the_guides_gate(value, path, reason):
    chosen, why = through_gate(GATE, value, "")
    assert chosen == path and reason in why


@pytest.mark.parametrize("value", [3.9, 4.2, 4.6, None])
def test_thresholds_that_are_not_meant_are_computed_and_not_followed(value):
    by_number, _ = through_gate(GATE, value, "")
    path, why = through_gate(GATE, value, "quick: ...")
    assert path == "fine" and f"by them: {by_number}" in why
    assert through_gate(GATE.model_copy(update={"otherwise": "full"}), value, "quick: ...")[0] == "full"


@pytest.mark.parametrize(
    ("metric", "profile", "dataset", "loss", "why"),
    [
        ("val_mae_unmasked", "full", "METR-LA", "mae_unmasked", ""),
        ("val_mae_unmasked", "quick", "METR-LA", "mae_unmasked", "quick: the guide's thresholds are not meant"),
        ("val_mae_unmasked", "full", "METR-LA", "masked_mae", "training with masked_mae"),
        ("val_mae", "full", "METR-LA", "mae_unmasked", "val_mae after training"),
        ("val_mae_unmasked", "full", "PEMS08", "mae_unmasked", "PEMS08: the guide's thresholds are of METR-LA"),
    ],
)
def test_what_the_thresholds_are_meant_for(metric, profile, dataset, loss, why):
    gate = GATE.model_copy(update={"dataset": "METR-LA"})
    found = not_meant(gate, metric, profile, dataset, loss)
    assert (found == "") if why == "" else (why in found)


@pytest.mark.parametrize(
    ("candidates", "best"),
    [
        ({"a": 4.2, "b": 4.1}, ("b", 4.1)),
        ({"a": 4.1, "b": 4.1}, ("a", 4.1)),
        ({"a": None, "b": 9.0}, ("b", 9.0)),
        ({"a": math.nan, "b": 9.0, "c": math.inf}, ("b", 9.0)),
        ({"a": None, "b": math.nan}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_the_least_finite_value_is_best(candidates, best):
    assert best_of(candidates) == best


def decision(stage="one", value=4.2, **changes):
    found = {
        "stage": stage,
        "metric": "val_mae_unmasked",
        "candidates": {"a": value, "b": None},
        "winner": "a",
        "value": value,
        "thresholds": {"below": 4.0, "above": 4.5},
        "path": "fine",
        "reason": "4 <= 4.2000 <= 4.5",
        "cells": ("c1", "c2"),
    }
    return Decision(**{**found, **changes})


def test_a_decision_is_one_line_with_everything_in_it():
    line = decision(marker="quick: not meant").sentence
    assert "\n" not in line
    for part in ("one", "a is best", "val_mae_unmasked 4.2000", "next: fine", "4 <= 4.2000 <= 4.5", "quick: not meant"):
        assert part in line
    assert "nothing is best" in decision(value=None, winner=None).sentence


def test_a_decision_is_logged_once_and_a_changed_one_again(tmp_path):
    log = JsonLines(tmp_path / "decisions.jsonl")
    for one in (decision(), decision("two"), decision(), decision("two", value=4.3), decision("two", value=4.3)):
        DecisionLog(log).add(one)
    assert [(entry["stage"], entry["value"]) for entry in log.read()] == [("one", 4.2), ("two", 4.2), ("two", 4.3)]
    assert all(entry["time"] and entry["cells"] == ["c1", "c2"] for entry in log.read())


def test_a_line_cut_short_by_a_crash_spoils_no_other(tmp_path):
    path = tmp_path / "log.jsonl"
    log = JsonLines(path)
    assert log.read() == []
    log.append({"a": 1})
    path.write_text(path.read_text() + '{"a": 2, "b')
    log.append({"a": 3})
    assert log.read() == [{"a": 1}, {"a": 3}]
    with pytest.raises(ValueError):
        log.append({"a": math.nan})
    assert [json.loads(line) for line in path.read_text().splitlines() if "b" not in line] == [{"a": 1}, {"a": 3}]


def test_the_ledger_notes_a_reading_once(tmp_path):
    log = JsonLines(tmp_path / "ledger.jsonl")
    for _ in range(2):
        ledger = Ledger(log)
        for _ in range(2):
            ledger.add("ensemble", "ensemble", ["c1", "c2"], "METR-LA")
            ledger.add("ensemble", "ensemble", ["c1", "c2", "c3"], "METR-LA")
            ledger.add("correct", "postprocessing", ["c1", "c2"], "METR-LA")
        assert len(ledger) == 3
    assert [(entry["cell"], entry["what"]) for entry in log.read()] == [
        ("c1+c2", "ensemble"),
        ("c1+c2+c3", "ensemble"),
        ("c1+c2", "postprocessing"),
    ]
