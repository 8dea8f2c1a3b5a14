"""What is removed of finished matrices, and that nothing misses it."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ablations.estimate_text import size
from ablations.matrix import load_matrix
from ablations.plan import Plan
from ablations.planning import make_plan
from ablations.reports.files import write_tables
from ablations.running import run_plan
from altformer.data.traffic import TrafficData
from altformer.files import write_json
from altformer.training.context import BareContext
from experiments.cell import Machine, run_cell
from experiments.cli import main

TEXT = """
name: rates
base: simulated.yaml
arms: {low: {lr: 0.001}, high: {lr: 0.02}}
baseline: low
scheduler: none
settings: {embed_dim: 8, num_heads: 2, adaptive_dim: 4, patch_len: 1, epochs: 5, steps_per_epoch: 3, batch_size: 8}
"""


@pytest.fixture(scope="session")
def trained(traffic: TrafficData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with a matrix whose four cells were really trained."""
    folder = tmp_path_factory.mktemp("trained")
    plan = planned(traffic, folder)
    for at in plan.cells:
        run_cell(at.cell, traffic, BareContext(), {})
    run_plan(plan.refreshed(), None, None, train=False, report_with=write_tables)  # type: ignore[arg-type]
    return folder


def planned(traffic: TrafficData, folder: Path) -> Plan:
    file = folder / "rates.yaml"
    file.write_text(TEXT)
    arguments: dict[str, Any] = {"dataset": None, "profile": "full", "settings": {}, "seeds": 2}
    return make_plan(load_matrix(file), traffic, Machine(), out=folder / "runs", **arguments)


@pytest.fixture
def plan(trained: Path, traffic: TrafficData, tmp_path: Path) -> Plan:
    """The matrix in a folder of this test's own."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    return planned(traffic, tmp_path)


def out_of(plan: Plan) -> Path:
    return plan.folder.parent


def checkpoints(plan: Plan) -> dict[str, list[str]]:
    return {at.name: sorted(path.name for path in (at.cell.folder / "checkpoints").iterdir()) for at in plan.cells}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def total(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def change(plan: Plan, place: int, **values: Any) -> None:
    path = plan.cells[place].cell.folder / "record.json"
    write_json(path, json.loads(path.read_text()) | values)


def test_of_a_finished_matrix_the_best_checkpoints_stay_and_all_goes_on_working(
    plan: Plan, traffic: TrafficData, capsys: Any
) -> None:
    out, best = out_of(plan), {at.name: at.record["best_epoch"] for at in plan.cells if at.record}
    assert any(len(own) > 1 for own in checkpoints(plan).values())
    for name in ("tune/.ray-abc", "tune"):
        (plan.folder / name).mkdir(parents=True, exist_ok=True)
        (plan.folder / name / "scratch").write_text("x" * 1000)
    for name in (".record.json.1a2b3c4d", "checkpoints/.epoch-0009.new/model"):
        (plan.cells[0].cell.folder / name).parent.mkdir(exist_ok=True)
        (plan.cells[0].cell.folder / name).write_text("x" * 1000)
    assert main(["report", str(plan.folder)]) == 0
    capsys.readouterr()
    reported = {name: (plan.folder / name).read_bytes() for name in ("report.md", "cells.csv", "plan.json")}
    before, names = total(out), checkpoints(plan)

    assert main(["gc", "--out", str(out), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert total(out) == before and checkpoints(plan) == names
    assert main(["gc", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed == said.replace("would free", "freed").replace("Would free", "Freed")
    freed = before - total(out)
    assert f"Freed in all: {size(freed)}" in printed and freed > 4000
    assert checkpoints(plan) == {name: [f"epoch-{epoch:04d}"] for name, epoch in best.items()}
    assert not list(out.rglob(".*[!k]")) and not (plan.folder / "tune").exists()

    assert main(["gc", "--out", str(out)]) == 0
    assert "Freed in all: 0 B" in capsys.readouterr().out
    again = run_plan(planned(traffic, out.parent), None, None, report_with=write_tables)  # type: ignore[arg-type]
    assert again.outcome is None and again.exit_code == 0, "nothing was trained"
    assert main(["report", str(plan.folder)]) == 0
    assert {name: (plan.folder / name).read_bytes() for name in reported} == reported
    assert main(["status", str(plan.folder)]) == 0
    assert "4 cells: 4 done" in capsys.readouterr().out
    assert_it_forecasts(plan, traffic)


def assert_it_forecasts(plan: Plan, traffic: TrafficData) -> None:
    from ablations.promote_command import choose
    from altformer.loaded import load_model

    readings = out_of(plan) / "readings.csv"
    index = pd.DatetimeIndex(traffic.times[-48:])
    pd.DataFrame(traffic.values[-48:], index=index, columns=list(traffic.sensor_ids)).to_csv(readings)
    forecast = out_of(plan) / "forecast.csv"
    arguments = ["--input", str(readings), "--output", str(forecast), "--out", str(out_of(plan))]
    assert main(["predict", "--run", plan.cells[0].cell.hash, *arguments]) == 0
    assert np.isfinite(pd.read_csv(forecast, index_col=0).to_numpy()).all()
    chosen = choose("rates", out_of(plan))
    assert load_model(chosen.run.folder).folder.name == f"epoch-{chosen.run.record['best_epoch']:04d}"


def test_a_cell_that_was_stopped_can_go_on_and_a_diverged_one_keeps_its_best(plan: Plan, capsys: Any) -> None:
    """Made so that best and last are two: the last epoch's checkpoint is an exact resumption point."""
    cell = plan.cells[0].cell.folder
    change(plan, 0, status="stopped", stopped_by=plan.scheduler, test=None)
    change(plan, 1, status="diverged", test=None)
    best, last = (json.loads((cell / "record.json").read_text())[name] for name in ("best_epoch", "epochs"))
    assert main(["gc", str(plan.folder)]) == 0
    left = checkpoints(plan)
    assert left[plan.cells[0].name] == sorted({f"epoch-{best:04d}", f"epoch-{last:04d}"})
    assert len(left[plan.cells[1].name]) == 1


def test_what_is_not_finished_or_damaged_or_in_use_is_left_alone(plan: Plan, capsys: Any) -> None:
    before = contents(out_of(plan) / "cells")
    with (plan.folder / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert main(["gc", "--out", str(out_of(plan))]) == 0
        assert "left alone: it is being run" in capsys.readouterr().out
    record = plan.cells[0].cell.folder / "record.json"
    saved = record.read_bytes()
    record.unlink()
    assert main(["gc", "--out", str(out_of(plan))]) == 0
    assert "it is not finished (1 cell has no result), so its checkpoints are kept" in capsys.readouterr().out
    record.write_bytes(saved)
    assert contents(out_of(plan) / "cells") == before

    best = plan.cells[0].record["best_epoch"]  # type: ignore[index]
    damaged = plan.cells[0].cell.folder / "checkpoints" / f"epoch-{best:04d}" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with (plan.cells[1].cell.folder / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        names = checkpoints(plan)
        assert main(["gc", "--out", str(out_of(plan))]) == 0
    printed, left = capsys.readouterr().out, checkpoints(plan)
    for at in plan.cells[:2]:
        assert left[at.name] == names[at.name]
        assert f"left alone: cell {at.cell.hash}" in printed
    assert all(len(left[at.name]) == 1 for at in plan.cells[2:])


def test_an_interrupted_removal_is_completed_by_the_next(plan: Plan, monkeypatch: Any, capsys: Any) -> None:
    """However early it ends: a folder that has lost a file has lost its name before."""
    whole, real = plan.cells[0].cell.folder / "checkpoints", shutil.rmtree

    def killed(path: Path, *rest: Any, **more: Any) -> None:
        next(Path(path).iterdir()).unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr("ablations.leftovers.shutil.rmtree", killed)
    assert main(["gc", "--out", str(out_of(plan))]) == 130
    monkeypatch.setattr("ablations.leftovers.shutil.rmtree", real)
    for folder in whole.glob("epoch-*"):
        assert len(list(folder.iterdir())) == 6
    assert main(["gc", "--out", str(out_of(plan))]) == 0
    assert all(len(own) == 1 for own in checkpoints(plan).values())


def test_cells_that_nothing_refers_to_go_only_when_asked(plan: Plan, capsys: Any) -> None:
    cells = out_of(plan) / "cells"
    one, teacher, student, noted = (cells / (letter * 16) for letter in "abcd")
    for folder in (one, teacher, student, noted):
        shutil.copytree(plan.cells[0].cell.folder, folder)
    record = json.loads((student / "record.json").read_text())
    record["config"]["training"]["distillation"] = {"teacher": teacher.name}
    write_json(student / "record.json", record)
    write_json(out_of(plan) / "ensembles" / "e.json", {"members": [{"cell_hash": student.name}]})
    write_json(out_of(plan) / "experiments" / "e.json", {"cell_hash": noted.name})
    assert main(["gc", "--out", str(out_of(plan))]) == 0 and one.is_dir()
    with (one / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert main(["gc", "--out", str(out_of(plan)), "--unreferenced"]) == 0 and one.is_dir()
    capsys.readouterr()
    assert main(["gc", "--out", str(out_of(plan)), "--unreferenced"]) == 0
    assert re.search(r"unreferenced: freed .* in 1 cell\n", capsys.readouterr().out)
    assert not one.exists() and {path.name for path in cells.iterdir()} == {
        *(at.cell.hash for at in plan.cells),
        *(folder.name for folder in (teacher, student, noted)),
    }


def test_a_cell_that_another_matrix_has_gone_on_with_is_left_alone(plan: Plan, capsys: Any) -> None:
    change(plan, 0, status="stopped", stopped_by=plan.scheduler, test=None, epochs=3, best_epoch=1)
    before = checkpoints(plan)[plan.cells[0].name]
    assert main(["gc", str(plan.folder)]) == 0
    assert "it has been gone on with since" in capsys.readouterr().out
    assert checkpoints(plan)[plan.cells[0].name] == before


def test_what_can_be_gone_on_with_and_teachers_to_be_are_no_leftovers(plan: Plan, capsys: Any) -> None:
    cells = out_of(plan) / "cells"
    interrupted, teacher, planned, copied, gone = (
        cells / name for name in ("a" * 16, "b" * 16, "c" * 16, f".{'d' * 16}.1a2b3c4d", ".gone-" + "e" * 16)
    )
    for folder in (interrupted, teacher, planned, copied, gone):
        shutil.copytree(plan.cells[0].cell.folder, folder)
    (interrupted / "record.json").unlink()
    (interrupted / "config.yaml").write_text(f"training: {{distillation: {{teacher: {teacher.name}, weight: 0.5}}}}")
    written = json.loads((plan.folder / "plan.json").read_text())
    written["arms"][0]["settings"]["distillation"] = {"teacher": planned.name, "weight": 0.5}
    write_json(plan.folder / "plan.json", written)
    assert main(["gc", "--out", str(out_of(plan)), "--unreferenced"]) == 0
    assert f"cell {interrupted.name} was interrupted and can be gone on with" in capsys.readouterr().out
    assert all(folder.is_dir() for folder in (interrupted, teacher, planned, copied)) and not gone.exists()


def test_a_damaged_plan_refers_to_who_knows_what(plan: Plan, capsys: Any) -> None:
    before = contents(out_of(plan) / "cells")
    (plan.folder / "plan.json").write_text("{")
    assert main(["gc", "--out", str(out_of(plan)), "--unreferenced"]) == 2
    assert "plan.json: damaged" in capsys.readouterr().err
    assert contents(out_of(plan) / "cells") == before
