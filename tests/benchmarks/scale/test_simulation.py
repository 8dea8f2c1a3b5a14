"""A small simulated matrix goes through the code of a real one; the page and the document have what was measured."""

from __future__ import annotations

import argparse
import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scale.courses import course_of
from benchmarks.scale.page import driver_seconds, tables
from benchmarks.scale.run import Run
from benchmarks.scale.simulation import PAGE, TUNE, main, measure_store, sizes_of
from benchmarks.scale.store import backlog, epochs_each_second
from benchmarks.scale.store_page import EPOCH_SECONDS
from benchmarks.simulation_page import ENDS
from cluster.work import Work

ROOT = Path(__file__).parents[3]
CELLS, SEEDS, EPOCHS = 60, 3, 8
OPTIONS = {"nodes": 2, "gpus": 2, "cells": CELLS, "seeds": SEEDS, "epochs": EPOCHS}
EVERY_HALF_HOUR = 0.5  # a node is lost


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scale")


@pytest.fixture(scope="module")
def numbers(folder: Path) -> dict[str, Any]:
    """Of a run on two nodes, of which one is lost now and then."""
    times = {"epoch_seconds": 60.0, "node_hours": EVERY_HALF_HOUR}
    measured = Run(argparse.Namespace(**OPTIONS, **times, folder=folder)).all()
    found: dict[str, Any] = json.loads(json.dumps(measured))  # as it is handed over
    return found


def test_every_cell_ends_though_nodes_are_lost(numbers: dict[str, Any]) -> None:
    assert sum(numbers["statuses"].values()) == CELLS
    assert set(numbers["statuses"]) <= {"done", "stopped", "diverged", "failed"}
    assert numbers["statuses"]["stopped"] > 0, "arms that are far worse than the baseline"
    assert numbers["usage"]["failures"] > 0 and numbers["retries"] > 0


def test_what_a_lost_node_took_is_trained_again_and_no_more(folder: Path, numbers: dict[str, Any]) -> None:
    records = read_records(folder)
    assert {record["epochs"] for record in records if record["status"] == "done"} == {EPOCHS}
    assert sum(record["epochs"] for record in records) == numbers["epochs_reported"]
    assert [epoch["epoch"] for epoch in records[0]["curve"]] == [*range(1, records[0]["epochs"] + 1)]


def test_the_times_are_those_of_the_slots(numbers: dict[str, Any]) -> None:
    usage = numbers["usage"]
    assert 0 < usage["trained"] < usage["taken"] < usage["there"] <= numbers["slots"] * numbers["makespan"]
    assert numbers["ideal"] <= numbers["makespan"]
    assert usage["trained"] / usage["there"] > 0.8


def test_records_events_and_report_are_those_of_a_matrix(folder: Path, numbers: dict[str, Any]) -> None:
    [report] = folder.glob("scale-simulated-*/report.md")
    events = [json.loads(line) for line in report.with_name("events.jsonl").read_text().splitlines()]
    ended = Counter(event["name"] for event in events if event["kind"] == "cell_ended")
    assert len(ended) == CELLS and set(ended.values()) == {1}
    assert sum(event["kind"] == "cell_epoch" for event in events) == numbers["epochs_reported"]
    assert {event["fault"] for event in events if event["kind"] == "cell_retried"} == {"node"}
    assert any("lost: node-" in event["text"] for event in events if event["kind"] == "notice")
    rows = list(csv.DictReader(report.with_name("cells.csv").open()))
    assert Counter(row["status"] for row in rows) == numbers["statuses"]


def test_a_second_start_would_run_no_cell_but_failed_ones(numbers: dict[str, Any]) -> None:
    assert numbers["to_run_again"] == numbers["statuses"].get("failed", 0)


def test_the_page_is_made_of_what_the_store_took_and_the_run_cost(folder: Path, numbers: dict[str, Any]) -> None:
    store = measure_store(folder, numbers["epoch_seconds"], seconds=0.5, server_seconds=0.0)
    page = "\n\n".join(tables([numbers], store, None))
    each = store["singly"]["empty"]["each"]
    assert each["cell_epoch"]["calls"] == 1 and each["cell_started"]["calls"] >= 2
    assert [row["epoch_seconds"] for row in store["behind"]] == [*EPOCH_SECONDS]
    assert f"**{store['rate']:.0f} epochs a second**" in page
    assert f"| arms x seeds | {CELLS // SEEDS} x {SEEDS} |" in page
    assert f"{1000 * driver_seconds(numbers) / CELLS:.3g}" in page


def test_a_cell_that_is_resumed_goes_on_as_it_would_have() -> None:
    class Cell:
        class config:  # noqa: N801
            seed = 1

    work = Work("key", "arm seed 1", {"cell": Cell}, tags={"baseline": "false"}, arm="arm")
    assert course_of(work, 9, 60.0) == course_of(work, 9, 60.0)
    assert course_of(work, 9, 60.0).curve != course_of(replace(work, arm="other"), 9, 60.0).curve


@pytest.mark.parametrize(
    ("nodes", "cells", "expected"),
    [
        (125, 10_000, [(1, 8, 100, 10), (12, 8, 1_000, 10), (125, 8, 10_000, 10)]),
        (2, 60, [(2, 8, 60, 3)]),
        (2, 400, [(1, 8, 40, 3), (2, 8, 400, 10)]),
    ],
)
def test_smaller_matrices_are_run_on_as_much_less_of_the_cluster(
    nodes: int, cells: int, expected: list[tuple[int, int, int, int]]
) -> None:
    assert sizes_of(nodes, 8, cells) == expected


EACH = {"cell_epoch": {"seconds": 0.5, "calls": 1.0}, "cell_ended": {"seconds": 1.0, "calls": 3.0}}


@pytest.mark.parametrize(
    ("faster", "busy", "waiting", "longest", "behind"),
    [
        (1.0, 0.5, 2, 0.5, 0.5),  # an epoch a second: only the end waits, which comes with the last epoch
        (2.0, 1.0, 2, 0.5, 0.5),  # just as fast as the writer
        (4.0, 2.0, 4, 1.25, 1.25),  # twice as fast
    ],
)
def test_a_writer_falls_behind_a_matrix_that_is_faster(
    faster: float, busy: float, waiting: int, longest: float, behind: float
) -> None:
    epochs = [{"kind": "cell_epoch", "t": 1000 * second, "metrics": {"a": 1, "b": 2}} for second in range(1, 5)]
    events: list[dict[str, Any]] = [{"kind": "matrix_started", "t": 0}, *epochs, {"kind": "cell_ended", "t": 4000}]
    found = backlog(events, {**EACH, "cell_ended": {"seconds": 0.0, "calls": 3.0}}, faster)
    assert found.busy == pytest.approx(busy)
    assert found.points == pytest.approx(2 * faster)
    assert (found.waiting, found.longest_wait, found.behind) == (waiting, longest, behind)


def test_the_rate_of_a_writer_counts_what_belongs_to_the_cells_too() -> None:
    events = [{"kind": "cell_epoch"}] * 4 + [{"kind": "cell_ended"}] * 2 + [{"kind": "matrix_ended"}]
    assert epochs_each_second(events, EACH) == pytest.approx(4 / (4 * 0.5 + 2 * 1.0))


@pytest.mark.slow
def test_the_command_writes_page_numbers_and_document(tmp_path: Path) -> None:
    document = tmp_path / "doc.md"
    document.write_text(f"a\n{PAGE.begins}\n{ENDS}\nb\n")
    size = ["--nodes", "2", "--gpus", "2", "--cells", "60", "--epochs", "8"]
    seconds = ["--store-seconds", "1", "--server-seconds", "2"]
    assert main([*size, *seconds, "--out", str(tmp_path / "scale.md"), "--docs", str(document)]) == 0
    page = (tmp_path / "scale.md").read_text()
    assert "make simulate NODES=2 GPUS=2 CELLS=60" in page
    assert PAGE.block_of(document.read_text()) == PAGE.block_of(page) != ""
    numbers = json.loads((tmp_path / "scale.json").read_text())
    assert numbers["sizes"][0]["cells"] == CELLS
    assert all(row["epochs_per_second"] > 0 for row in numbers["store"]["servers"])


@pytest.mark.parametrize("arguments", [["--nodes", "0"], ["--cells", "3"]])
def test_what_cannot_be_simulated_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "30 cells or more" in capsys.readouterr().err


def test_the_document_and_the_page_have_the_numbers_that_were_measured() -> None:
    page, document = (PAGE.block_of((ROOT / path).read_text()) for path in (PAGE.page, PAGE.document))
    result = json.loads((ROOT / PAGE.page).with_suffix(".json").read_text())
    tune = json.loads((ROOT / PAGE.page).with_name(TUNE).read_text())
    assert document == page == "\n\n".join(tables(result["sizes"], result["store"], tune))


def read_records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("cells/*/record.json"))]
