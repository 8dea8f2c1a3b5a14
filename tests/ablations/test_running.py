"""A run that does not go as it should: halted, its cluster gone, no room for records or the report."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ablations.groups import FinishedGroup, Group, make_group, run_group
from ablations.plan import Plan
from ablations.running import Finished, run_plan
from ablations.terminal import print_finished
from ablations.trials import FailureRecords, Trained
from altformer.files import write_json
from cluster.connection import Connection
from cluster.lender import Lender
from cluster.work import Ended, Fault, Outcome, Work
from experiments.cell import failure_record, read_record
from experiments.cli import main

ROOT = Path(__file__).parents[2]
FULL = OSError(28, "No space left on device")


class Ray(Connection):
    """A connection that counts its ends."""

    def __init__(self) -> None:
        super().__init__("127.0.0.1:1", True, None, ({"CPU": 2.0},))
        self.ended = 0

    def disconnect(self) -> None:
        self.ended += not self.lost


@pytest.fixture
def trained(monkeypatch: Any, make_record: Any) -> Callable[..., None]:
    """Makes a run of cells that is none: it writes records of cells by name and ends as it is told."""

    def make(done: dict[str, float], unwritten: dict[str, str] | None = None, **outcome: Any) -> None:
        def run_unsettled(plan: Plan, *rest: Any) -> Trained:
            for at in plan.to_run:
                if at.name in done:
                    known = {"config": at.cell.config.model_dump(mode="json"), "cell_hash": at.cell.hash}
                    record = make_record(done[at.name], at.seed, profile="quick", **known)
                    write_json(at.cell.folder / "record.json", record)
            failed = {at.cell.hash: unwritten[at.name] for at in plan.cells if at.name in (unwritten or {})}
            cells = {at.cell.hash: at.cell for at in plan.cells}
            records = {key: failure_record(cells[key], error, {}, "disk") for key, error in failed.items()}
            left = tuple(Work(at.cell.hash, at.name, {}) for at in plan.refreshed().to_run)
            return Trained(Outcome({}, left, None, 2, 9.0, **outcome), records, {"died": 2, "node": 1})

        monkeypatch.setattr("ablations.trials.run_unsettled", run_unsettled)

    return make


@pytest.fixture
def no_plots(monkeypatch: Any) -> None:
    monkeypatch.setattr("ablations.reports.files.draw_plots", lambda data, folder: {})


@pytest.fixture
def plan(make_folder: Any) -> Plan:
    made: Plan = make_folder.plan("rates", "", {"low": [None] * 3, "high": [None] * 3})
    return made


def printed(finished: Finished, capsys: Any) -> str:
    print_finished(FinishedGroup(Group([finished.plan], None), None, [finished], None))
    text: str = capsys.readouterr().out
    return text


@pytest.mark.usefixtures("no_plots")
def test_a_halted_run_still_reports_says_why_once_and_ends_with_1(plan: Plan, trained: Any, capsys: Any) -> None:
    trained({"low seed 0": 3.1, "high seed 0": 3.0}, halted="3 cells of different arms fail alike: ValueError: x.")
    ray = Ray()
    finished = run_plan(plan, lambda: ray, None)
    assert finished.exit_code == 1 and finished.is_cut_short and ray.ended == 1
    text = printed(finished, capsys)
    assert text.count("fail alike") == 1
    assert "Ended early: 3 cells of different arms fail alike: ValueError: x.\n" in text
    assert "Finished cells and checkpoints are kept and 4 cells are left; the same command goes on.\n" in text
    assert "Attempts lost: 3 (2 a process died, 1 a node was lost)" in text
    assert "low" in (plan.folder / "report.md").read_text()


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize("own", [True, False])
def test_nothing_touches_ray_after_its_cluster_is_lost(own: bool, plan: Plan, trained: Any, capsys: Any) -> None:
    trained({}, halted="The Ray cluster is gone.", cluster_lost=True)
    ray = Ray()
    with Lender(lambda: ray, None if own else ray) as lender:
        finished = run_plan(plan, lender, None)
    assert ray.lost and ray.ended == 0 and finished.exit_code == 1
    assert capsys.readouterr().out.count("The Ray cluster is gone.") == 1, "at once, for Ray may end the process"
    assert "Finished cells and checkpoints are kept" in printed(finished, capsys)


@pytest.mark.usefixtures("no_plots")
def test_a_connection_that_stands_outlives_the_matrix(plan: Plan, trained: Any) -> None:
    trained({"low seed 0": 3.1})
    ray = Ray()
    with Lender(Ray, ray) as lender:
        run_plan(plan, lender, None)
        assert ray.ended == 0
    assert ray.ended == 1


@pytest.mark.usefixtures("no_plots")
def test_with_several_matrices_no_other_begins_after_a_halt(plan: Plan, make_folder: Any, trained: Any) -> None:
    text = "name: search\nbase: simulated.yaml\narms: {a: {lr: 0.1}, b: {lr: 0.2}}\nkind: search\n"
    search = make_folder.plan("search", text, {"a": [None] * 3, "b": [None] * 3})
    trained({}, halted="all fail", cluster_lost=True)
    calls: list[Ray] = []

    def connect() -> Ray:
        calls.append(Ray())
        return calls[-1]

    group = make_group("several", [plan, search], plan.folder.parent)
    done = run_group(group, connect, None)
    assert len(calls) == 1 and done.halted and done.cluster_lost and done.exit_code == 1
    assert len(done.matrices) == 2 and (search.folder / "report.md").is_file()


def test_the_command_ends_the_process_although_rays_own_end_would_hang(plan: Plan, tmp_path: Path) -> None:
    """After everything is printed; the code is that of the run."""
    code = f"""
import atexit, sys, time
atexit.register(time.sleep, 1000)
import ablations.trials
from cluster.connection import Connection
from cluster.work import Outcome

class Ray(Connection):
    def __exit__(self, *rest):
        assert self.lost

lost = Outcome({{}}, (), None, 2, 9.0, halted="The Ray cluster is gone.", cluster_lost=True)
ablations.trials.run_unsettled = lambda *rest: ablations.trials.Trained(lost, {{}}, {{}})
import ablations.command
ablations.surroundings.connect = lambda address: Ray("a:1", False, None, ({{"CPU": 2.0}},))
from experiments.cli import main
main(["ablate", {str(plan.matrix.file)!r}, "--profile", "quick", "--out", "runs", "--no-mlflow", "--address", "a:1",
      "--dataset", "simulated", "--set=sensors=8", "--set=days=8", "--seeds=1", "--probe-seconds=0"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count("The Ray cluster is gone.") == 1 and "2 cells are left" in done.stdout
    assert "Report: " in done.stdout and not done.stderr


@pytest.mark.usefixtures("no_plots")
def test_a_cell_that_left_with_a_checkpoint_counts_as_interrupted(plan: Plan, trained: Any, capsys: Any) -> None:
    (plan.cells[1].cell.folder / "checkpoints" / "epoch-0002").mkdir(parents=True)
    trained({"low seed 0": 3.1})
    assert "Cells: 1 done, 1 interrupted, 4 not run\n" in printed(run_plan(plan, Ray, None), capsys)


@pytest.mark.usefixtures("no_plots")
def test_a_failed_cell_without_room_for_its_record_is_shown_as_failed(plan: Plan, trained: Any, capsys: Any) -> None:
    trained({"low seed 0": 3.1}, unwritten={"high seed 0": "Traceback\nOSError: disk full"})
    finished = run_plan(plan, Ray, None)
    assert read_record(plan.cells[1].cell.folder) is None
    text = printed(finished, capsys)
    assert "Failed: high seed 0: OSError: disk full" in text and "1 done, 1 failed, 4 not run" in text
    assert "OSError: disk full" in (plan.folder / "report.md").read_text()
    assert finished.plan.refreshed().cells[1].has_failed, "nor is it forgotten by a report over several matrices"


def test_records_of_failed_cells_are_kept_where_they_cannot_be_written(plan: Plan, monkeypatch: Any) -> None:
    records = FailureRecords({at.cell.hash: at for at in plan.cells}, {})
    works = [Work(at.cell.hash, at.name, {}) for at in plan.cells]
    records.cell_ended(works[0], Ended("failed", error="Traceback\nValueError: x", fault="error"))
    written = read_record(plan.cells[0].cell.folder)
    assert written is not None and (written["status"], written["fault"]) == ("failed", "error")

    def full(*rest: Any) -> None:
        raise FULL

    monkeypatch.setattr("experiments.cell.write_json", full)
    records.cell_ended(works[1], Ended("failed", error="Traceback\nOSError: disk full", fault="disk"))
    records.cell_retried(works[2], Fault("died", "gone"), 1)
    assert list(records.unwritten) == [works[1].key] and records.unwritten[works[1].key]["fault"] == "disk"
    assert records.lost == {"died": 1}


@pytest.mark.usefixtures("no_plots")
def test_a_ray_that_does_not_end_is_told_and_costs_no_report(plan: Plan, trained: Any, capsys: Any) -> None:
    class Stuck(Ray):
        def disconnect(self) -> None:
            raise RuntimeError("a process stays")

    trained({at.name: 3.0 for at in plan.cells})
    assert run_plan(plan, Stuck, None).exit_code == 0
    told = "Attention: Ray did not end as it should (a process stays); what was trained is kept\n"
    assert capsys.readouterr().out.count(told) == 1 and (plan.folder / "report.md").is_file()


def test_a_report_that_cannot_be_written_is_printed_and_the_code_is_1(plan: Plan, trained: Any, capsys: Any) -> None:
    def full(*rest: Any) -> Path:
        raise FULL

    trained({at.name: 3.0 + 0.1 * place for place, at in enumerate(plan.cells)})
    finished = run_plan(plan, Ray, None, report_with=full)
    assert finished.exit_code == 1
    text = printed(finished, capsys)
    assert "Attention: the report in" in text and "could not be written: No space left on device" in text
    assert "against the baseline low" in text and "Report:" not in text
    again = run_plan(plan.refreshed(), Ray, None, report_with=lambda data, folder: folder)
    assert again.outcome is None and again.problem is None and again.exit_code == 0


@pytest.mark.usefixtures("no_plots")
def test_a_page_over_several_matrices_that_cannot_be_written(plan: Plan, make_folder: Any, monkeypatch: Any) -> None:
    def full(*rest: Any) -> None:
        raise FULL

    more = make_folder.plan("more", "", {"low": [3.1, 3.2, 3.0], "high": [3.0, 3.1, 2.9]})
    monkeypatch.setattr("ablations.groups.write_overview", full)
    done = run_group(make_group("several", [plan.refreshed(), more], plan.folder.parent), Ray, None)
    assert done.exit_code == 1 and done.problem is not None and "No space left" in done.problem
    assert all(one.problem is None and not one.exit_code for one in done.matrices)


@pytest.mark.parametrize("what", ["folder", "plan"])
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_trained(
    what: str, plan: Plan, trained: Any, monkeypatch: Any
) -> None:
    from altformer.errors import UserError

    def full(*rest: Any, **more: Any) -> None:
        raise FULL

    monkeypatch.setattr(*{"folder": (Path, "mkdir"), "plan": (Plan, "write")}[what], full)
    with pytest.raises(UserError, match="cannot be written: No space left on device; nothing was trained"):
        run_plan(plan, lambda: pytest.fail("connected"), None)


def test_how_often_cells_are_tried_again(plan: Plan, tmp_path: Path, capsys: Any) -> None:
    from ablations.command import add_arguments
    from ablations.run_options import with_options
    from experiments.cli import Parser

    parser = Parser()
    add_arguments(parser)
    matrix = replace(plan).matrix.changed({"retries": {"per_cell": 2, "per_matrix": 7}})
    for options, per_cell in [([], 2), (["--retries", "5"], 5), (["--retries", "0"], 0)]:
        retries = with_options(matrix, parser.parse_args(["rates", *options])).retries
        assert (retries.per_cell, retries.per_matrix) == (per_cell, 7)
    assert main(["ablate", "depth", "--retries", "-1", "--dry-run", "--dataset", "simulated"]) == 2
    assert capsys.readouterr().err == "altformer: --retries must be 0 or more, got -1\n"
