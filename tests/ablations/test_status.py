"""How far a matrix is, seen from another shell."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ablations.events import FILE, Events
from ablations.matrix_lock import holder, only_writer
from ablations.plan import Plan
from altformer.files import write_json
from cluster.work import Ended, Fault, Outcome, Work
from experiments.cli import main

OTHER = "name: other\nbase: simulated.yaml\narms: {low: {lr: 0.1}, high: {lr: 0.2}}\nbaseline: low\n"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def plan(make_folder: Any) -> Plan:
    """Two arms with three seeds: two cells are done, one has failed, of one there is a checkpoint; none runs."""
    failed = {"status": "failed", "mae": 3.0}
    found: Plan = make_folder.plan("rates", "", {"low": [3.1, failed, None], "high": [3.0, None, None]})
    found.folder.mkdir(parents=True)
    found.write()
    half = found.cells[4].cell.folder / "checkpoints" / "epoch-0002"
    write_json(half / "progress.json", {"curve": [{"val_mae": 4.0}, {"val_mae": 3.5}]})
    write_json(half / "config.json", {"training": {"epochs": 9}})
    return found


def works(plan: Plan) -> dict[str, Work]:
    return {at.name: Work(at.cell.hash, at.name, {}, epochs=9, expected_seconds=100.0) for at in plan.cells}


def tell(plan: Plan, ended: bool = False) -> None:
    """A run of what is left: a cell trains for the second time, one waits at a rung, one has failed, one waits."""
    own, events = works(plan), Events(plan.folder, "val_mae")
    to_run = [own[at.name] for at in plan.to_run]
    events.matrix_started(to_run, 2)
    again, rung, failed = own["low seed 1"], own["high seed 1"], own["low seed 2"]
    for work in (again, rung, failed):
        events.cell_started(work)
    events.cell_epoch(again, {"epoch": 1, "val_mae": 3.25})
    events.cell_retried(again, Fault("died", "Traceback\nActorDied: it is gone"), 1)
    events.notice("the node n2 is lost")
    events.cell_started(again)
    events.cell_epoch(again, {"epoch": 2, "val_mae": 3.5})
    events.cell_epoch(rung, {"epoch": 3, "val_mae": 3.0})
    events.cell_paused(rung)
    events.cell_ended(failed, Ended("failed", error="Traceback\nOSError: disk full", seconds=3.0, fault="disk"))
    if ended:
        events.matrix_ended(Outcome({}, (), None, 2, 9.0))


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """The folder's lock held as by another process."""
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps({"pid": os.getpid(), "host": platform.node(), "since": 0.0}))
        file.flush()
        yield


def cells_of(plan: Plan, capsys: Any) -> dict[str, dict[str, Any]]:
    assert main(["status", str(plan.folder), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    return {f"{cell['arm']} seed {cell['seed']}": cell for cell in content["cells"]} | {"": content}


def test_of_a_running_one_every_cell_with_its_state(plan: Plan, capsys: Any) -> None:
    tell(plan)
    with running(plan.folder):
        cells = cells_of(plan, capsys)
        assert main(["status", "rates", "--out", str(plan.folder.parent)]) == 0
    printed = capsys.readouterr().out
    assert cells[""]["state"] == "running" and cells[""]["running"]["pid"] == os.getpid()
    assert cells[""]["eta_seconds"] > 0 and cells[""]["elapsed_seconds"] >= 0
    assert {name: cell["status"] for name, cell in cells.items() if name} == {
        "low seed 0": "done",
        "high seed 0": "done",
        "low seed 1": "running",
        "high seed 1": "paused",
        "low seed 2": "failed",
        "high seed 2": "waiting",
    }
    again = cells["low seed 1"]
    assert (again["epoch"], again["epochs"], again["best"], again["retries"]) == (2, 9, 3.25, 1)
    assert cells["low seed 2"]["why"] == "OSError: disk full"
    assert f"running (process {os.getpid()} on" in printed and "paused" in printed
    assert "running, retried 1" in printed and "2/9" in printed and "3.2500" in printed
    assert "failed: low seed 2: OSError: disk full" in printed and "the node n2 is lost" in printed
    assert "6 cells: 2 done, 1 running, 1 paused, 1 failed, 1 waiting" in printed


def test_of_one_that_does_not_run_what_there_is_to_go_on_from(plan: Plan, capsys: Any) -> None:
    """A driver that was killed has said nothing of its end; its cells are not running."""
    tell(plan)
    cells = cells_of(plan, capsys)
    assert cells[""]["state"] == "not finished" and cells[""]["running"] is None and cells[""]["eta_seconds"] is None
    found = {name: (cell["status"], cell["epoch"]) for name, cell in cells.items() if name}
    assert found == {
        "low seed 0": ("done", 30),
        "high seed 0": ("done", 30),
        "low seed 1": ("interrupted", 2),
        "high seed 1": ("interrupted", 3),
        "low seed 2": ("failed", 2),
        "high seed 2": ("not run", 0),
    }
    assert cells["high seed 1"]["best"] == 3.0


def test_without_events_checkpoints_tell(plan: Plan, capsys: Any) -> None:
    """As of a run by an earlier version, or with a full disk."""
    cell = cells_of(plan, capsys)[plan.cells[4].name]
    assert (cell["status"], cell["epoch"], cell["epochs"], cell["best"]) == ("interrupted", 2, 9, 3.5)


@pytest.mark.parametrize(("ended", "phase"), [(None, "starts"), (True, "writes its report")])
def test_what_a_running_one_does_besides_training(ended: bool | None, phase: str, plan: Plan, capsys: Any) -> None:
    if ended is not None:
        tell(plan, ended)
    with running(plan.folder):
        content = cells_of(plan, capsys)[""]
    assert (content["state"], content["phase"], content["eta_seconds"]) == ("running", phase, None)


def test_cells_that_a_run_over_several_matrices_trains(plan: Plan, capsys: Any) -> None:
    over = plan.folder.parent / "all-wave-000000"
    over.mkdir()
    content = json.loads((plan.folder / "plan.json").read_text())
    write_json(over / "plan.json", {**content, "members": [plan.folder.name]})
    tell(plan)
    (plan.folder / FILE).rename(over / FILE)
    with running(over):
        cells = cells_of(plan, capsys)
    assert cells[""]["state"] == "running" and cells["low seed 1"]["status"] == "running"


def test_without_a_name_all_of_them(plan: Plan, make_folder: Any, capsys: Any) -> None:
    make_folder("other", OTHER)
    (plan.folder.parent / "broken-1").mkdir()
    (plan.folder.parent / "broken-1" / "plan.json").write_text("{")
    assert main(["status", "--out", str(plan.folder.parent)]) == 0
    out, err = capsys.readouterr()
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert "not finished" in lines[plan.folder.name] and "2 done, 1 failed" in out
    assert any("finished" in line and "6 done" in line for name, line in lines.items() if name.startswith("other-"))
    assert "broken-1/plan.json: damaged" in err
    assert main(["status", "--out", str(plan.folder.parent / "nowhere")]) == 0
    assert "No matrix in" in capsys.readouterr().out


def test_a_wrong_name_is_told_with_the_nearest(plan: Plan, capsys: Any) -> None:
    assert main(["status", "rats-wave", "--out", str(plan.folder.parent)]) == 2
    assert f"did you mean '{plan.folder.name}'" in capsys.readouterr().err


def test_it_changes_nothing_and_needs_neither_torch_nor_ray_nor_mlflow(plan: Plan) -> None:
    """In a process where importing them is an error."""
    tell(plan)
    with only_writer(plan.folder):
        pass
    files = sorted(plan.folder.parent.rglob("*"))
    before = [(path, path.stat().st_mtime_ns) for path in files]
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.split('.')[0] in ('torch', 'ray', 'mlflow', 'scipy'): raise ImportError('imported ' + name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from experiments.cli import main\n"
        f"sys.exit(main(['status', {str(plan.folder)!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert [(path, path.stat().st_mtime_ns) for path in sorted(plan.folder.parent.rglob("*"))] == before


def test_who_looks_does_not_keep_a_run_from_starting(plan: Plan) -> None:
    assert holder(plan.folder) is None
    with only_writer(plan.folder):
        held = holder(plan.folder)
        assert held is not None and held.pid == os.getpid()
    assert holder(plan.folder) is None
