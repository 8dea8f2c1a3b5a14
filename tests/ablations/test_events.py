"""What a matrix's folder tells of its runs while they go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ablations.events import FILE, Events, read_events
from cluster.work import Ended, Fault, Outcome, Work

WORK = Work("0123456789abcdef", "low seed 0", {}, epochs=3, expected_seconds=2.0)


def told(folder: Path) -> Events:
    """A run in which one cell loses its process and is done in the end."""
    events = Events(folder, "val_mae")
    events.matrix_started([WORK], 2)
    events.cell_started(WORK)
    events.cell_epoch(WORK, {"epoch": 1, "val_mae": 3.0, "val_rmse": 5.0, "train_loss": 4.0, "epoch_seconds": 0.5})
    events.cell_retried(WORK, Fault("died", "Traceback\nthe actor died"), 1)
    events.notice("node 3 is lost")
    events.cell_started(WORK)
    events.cell_paused(WORK)
    events.cell_ended(WORK, Ended("done", {}, seconds=4.0, retries=1))
    events.interrupted("SIGTERM", 30.0)
    events.matrix_ended(Outcome({}, (), None, 2, 9.0))
    return events


def test_every_event_is_a_line_that_says_which_cell_and_what(tmp_path: Path) -> None:
    told(tmp_path)
    found = list(read_events(tmp_path))
    assert [event["kind"] for event in found] == [
        "matrix_started",
        "cell_started",
        "cell_epoch",
        "cell_retried",
        "notice",
        "cell_started",
        "cell_paused",
        "cell_ended",
        "interrupted",
        "matrix_ended",
    ]
    assert all(list(event)[:2] == ["t", "kind"] for event in found)
    of_cell = [event for event in found if event["kind"].startswith("cell")]
    assert all((event["cell"], event["name"]) == (WORK.key, "low seed 0") for event in of_cell)
    epoch, retried, ended = found[2], found[3], found[7]
    assert (epoch["epoch"], epoch["metrics"]) == (1, {"val_mae": 3.0, "train_loss": 4.0, "epoch_seconds": 0.5})
    assert (retried["fault"], retried["retries"], retried["text"]) == ("died", 1, "Traceback\nthe actor died")
    assert (ended["status"], ended["retries"], ended["seconds"]) == ("done", 1, 4.0)
    assert found[0]["cells"] == [{"cell": WORK.key, "name": WORK.name, "epochs": 3, "expected_seconds": 2.0}]


def test_another_run_appends_and_begins_a_line_of_its_own(tmp_path: Path) -> None:
    """Even where the last one was cut off within a line; half a line is no event."""
    told(tmp_path)
    with (tmp_path / FILE).open("a") as file:
        file.write('{"t": 1.0, "kind": "cell_ep')
    told(tmp_path)
    kinds = [event["kind"] for event in read_events(tmp_path)]
    assert kinds.count("matrix_started") == 2 and len(kinds) == 20


def test_a_full_disk_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / FILE).symlink_to("/dev/full")
    told(tmp_path)
    told(tmp_path / "not-there")
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_numbers_that_json_does_not_know_and_odd_files_are_no_obstacle(tmp_path: Path) -> None:
    events = Events(tmp_path, "val_mae")
    events.cell_epoch(WORK, {"epoch": 1, "val_mae": float("nan")})
    (tmp_path / FILE).open("a").write("[]\n{}\nnonsense\n\n")
    [event] = read_events(tmp_path)
    assert event["kind"] == "cell_epoch"
    assert list(read_events(tmp_path / "nowhere")) == []


def test_lines_are_whole_json(tmp_path: Path) -> None:
    told(tmp_path)
    parsed: list[Any] = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert all(isinstance(event, dict) for event in parsed)
