"""Decisions as a table, and the two logs that only grow."""

from __future__ import annotations

import errno
import json
import math
import os
from dataclasses import replace

import pytest

from ablations.tuning.decision import Decision, DecisionLog, Kind, best_of, not_meant, through_gate
from ablations.tuning.ledger import Ledger
from ablations.tuning.log import JsonLines
from ablations.tuning.outcome import ToldLog
from ablations.tuning.search import Proposal, Result
from ablations.tuning.stages import Gate
from altformer.files import DiskFullError

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
    ("change", "why"),
    [
        ({}, ""),
        ({"epochs": 150}, ""),
        ({"profile": "quick"}, "quick: the guide's thresholds are not meant"),
        ({"loss": "masked_mae"}, "training with masked_mae"),
        ({"metric": "val_mae"}, "val_mae after training"),
        ({"dataset": "PEMS08"}, "PEMS08: the guide's thresholds are of METR-LA"),
        ({"steps_per_epoch": 40}, "steps_per_epoch 40: the guide's thresholds are of whole epochs"),
        ({"epochs": 9}, "epochs 9: the guide's thresholds are of 10"),
    ],
)
def test_what_the_thresholds_are_meant_for(change, why):
    kind = replace(Kind("val_mae_unmasked", "full", "METR-LA", "mae_unmasked", 10, None), **change)
    found = not_meant(kind, "METR-LA", 10)
    assert (found == "") if why == "" else (why in found)
    assert not_meant(replace(kind, dataset="PEMS08", epochs=1, profile="full"), None, None) == (
        "" if not change.keys() & {"loss", "metric", "steps_per_epoch"} else found
    )


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


def test_a_logged_decision_stands_for_the_same_candidates_and_cells(tmp_path):
    log = DecisionLog(JsonLines(tmp_path / "decisions.jsonl"))
    log.add(first := decision())
    finished_since = decision(candidates={"a": 4.2, "b": 4.1}, winner="b", value=4.1, path="other")
    assert log.standing(finished_since) == first
    for other in (
        decision("two"),
        decision(cells=("c1", "c3")),
        decision(candidates={"a": 4.2}),
        decision(metric="val_mae"),
    ):
        assert log.standing(other) is other


def test_a_search_hears_of_a_proposal_what_it_heard_first(tmp_path):
    log = ToldLog(JsonLines(tmp_path / "told.jsonl"))
    proposal = Proposal("proposal-1", {"lr": 0.001})
    assert log.result("s", proposal, ["c1"], lambda: Result("stopped", math.nan, 3)) == Result("stopped", None, 3)
    done = Result("done", 4.0, 9)
    assert log.result("s", proposal, ["c1"], lambda: done) == Result("stopped", None, 3)
    for stage, asked, cells in [
        ("t", proposal, ["c1"]),
        ("s", proposal, ["c2"]),
        ("s", replace(proposal, name="p"), ["c1"]),
    ]:
        assert log.result(stage, asked, cells, lambda: done) == done


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
    for campaign in ("first", "first", "another"):
        ledger = Ledger(tmp_path, campaign)
        for _ in range(2):
            ledger.add("ensemble", "ensemble", ["c1", "c2"], "METR-LA")
            ledger.add("ensemble", "ensemble", ["c1", "c2", "c3"], "METR-LA")
            ledger.add("correct", "postprocessing", ["c1", "c2"], "METR-LA")
        ledger.add("ensemble", "ensemble", ["c1"], "PEMS08")
    assert Ledger(tmp_path, "another").entries == [] == Ledger(tmp_path, "another").files
    entries = JsonLines(tmp_path / "test_ledger-METR-LA.jsonl").read()
    assert {entry["campaign"] for entry in entries} == {"first"} and len(Ledger(tmp_path, "first").entries) == 4
    assert [(entry["cell"], entry["what"]) for entry in entries] == [
        ("c1+c2", "ensemble"),
        ("c1+c2+c3", "ensemble"),
        ("c1+c2", "postprocessing"),
    ]


def test_an_entry_that_does_not_fit_on_the_disk_is_said_so(tmp_path, monkeypatch):
    def no_space(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ablations.tuning.log.os.fsync", no_space)
    with pytest.raises(DiskFullError, match="disk full: no space left in"):
        JsonLines(tmp_path / "decisions.jsonl").append({"stage": "one"})
