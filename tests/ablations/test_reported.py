"""Reports written anew from what the runs left."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ablations.folders import find_matrix
from ablations.groups import make_group, run_group
from ablations.matrix import load_matrix, matrix_file, restore_matrix, shipped_matrices
from ablations.rebuilding import rebuild
from ablations.reported import read_reported, write_run
from ablations.reports.facts import RunInfo
from altformer.errors import UserError
from experiments.cli import main


@pytest.fixture
def no_plots(monkeypatch: Any) -> None:
    """Reports without plots, which take most of the time and are tested elsewhere."""
    monkeypatch.setattr("ablations.reports.files.draw_plots", lambda data, folder: {})
    monkeypatch.setattr("ablations.reports.plots.inline_svgs", lambda data: {}, raising=False)
    monkeypatch.setattr("ablations.reports.files.inline_svgs", lambda data: {}, raising=False)


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_report_written_anew_is_the_runs_byte_for_byte(make_folder: Any, capsys: Any) -> None:
    folder = make_folder(plots=True, high=[3.0, {"status": "diverged"}, None], low=[3.1, 3.2, 3.0])
    before = contents(folder)
    assert {"plan.json", "run.json", "cells.csv", "report.md", "report.html", "report.tex"} <= before.keys()
    shutil.rmtree(folder / "plots")
    (folder / "report.md").unlink()
    (folder / "cells.csv").unlink()
    assert main(["report", str(folder)]) == 0
    assert contents(folder) == before
    printed = capsys.readouterr().out
    assert "against the baseline low" in printed and str(folder / "report.md") in printed


def test_a_shipped_matrix_is_known_by_name_wherever_the_package_is(tmp_path: Path) -> None:
    """So that a report written anew from another installation names no path of the first."""
    matrix = load_matrix(matrix_file("depth"))
    write_run(tmp_path, matrix, RunInfo("METR-LA", "quick", "altformer ablate depth"), [])
    file = json.loads((tmp_path / "run.json").read_text())["file"]
    assert file == "depth"
    assert restore_matrix(matrix.model_dump(mode="json"), file).file == matrix.file


def test_it_needs_neither_torch_nor_ray_nor_mlflow_nor_data(make_folder: Any, tmp_path: Path) -> None:
    """In a process where importing them is an error."""
    make_folder()
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.split('.')[0] in ('ray', 'mlflow', 'torch'): raise ImportError('imported ' + name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from experiments.cli import main\n"
        "sys.exit(main(['report', 'rates']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_what_a_run_knew_is_kept(make_folder: Any) -> None:
    folder = make_folder()
    noted = json.loads((folder / "run.json").read_text())
    noted["info"] |= {"wall_seconds": 7200.0, "slots": 4, "notes": ["Read this first."]}
    noted["trained"] = [cell["cell_hash"] for cell in json.loads((folder / "plan.json").read_text())["cells"]][:2]
    (folder / "run.json").write_text(json.dumps(noted))
    report = read_reported(folder).report
    timing = dict(report.timing)
    assert timing["slot-hours of this run"] == "8.00 (4 slots)" and "2 trained in this run" in timing["cells"]
    assert "Read this first." in report.warnings


@pytest.mark.usefixtures("no_plots")
def test_records_are_read_as_they_are_now(make_folder: Any, make_record: Any) -> None:
    folder = make_folder(low=[3.1, 3.2, 3.0], high=[3.0, 3.1, None])
    missing = read_reported(folder).results[-1]
    assert missing.status == "not run" and missing.folder is not None
    missing.folder.mkdir(parents=True)
    (missing.folder / "record.json").write_text(json.dumps(make_record(2.9, 2)))
    assert "| high " in (folder / "report.md").read_text()
    [one] = rebuild(folder)
    assert [arm.done for arm in one.report.arms] == [3, 3]


@pytest.mark.parametrize("path", shipped_matrices(), ids=lambda path: path.stem)
def test_every_shipped_matrix_comes_back_as_it_was(path: Path) -> None:
    from ablations.matrix import restore_matrix

    matrix = load_matrix(path).of("full")
    again = restore_matrix(json.loads(json.dumps(matrix.model_dump(mode="json"))), str(path))
    assert again.model_dump() == matrix.model_dump() and again.called == matrix.called


def damaged(file: str, change: Any) -> Any:
    def damage(folder: Path) -> None:
        path = folder / file
        path.write_text(change if isinstance(change, str) else json.dumps(change(json.loads(path.read_text()))))

    return damage


@pytest.mark.parametrize(
    ("damage", "file", "message"),
    [
        (damaged("plan.json", "{"), "plan.json", "damaged or of another version"),
        (damaged("plan.json", lambda plan: {**plan, "schema": 1}), "plan.json", "schema"),
        (damaged("plan.json", lambda plan: {"matrix": plan["matrix"]}), "plan.json", "schema: Field required"),
        (damaged("plan.json", lambda plan: plan | {"matrix": {"name": "x"}}), "plan.json", "base: Field required"),
        (damaged("plan.json", lambda plan: plan | {"arms": plan["arms"][:1]}), "plan.json", "the arm 'high'"),
        (damaged("plan.json", lambda plan: plan | {"cells": [plan["cells"][0] | {"cell_hash": "../x"}]}), "", "hash"),
        (lambda folder: (folder / "run.json").unlink(), "run.json", "the command that ran the matrix"),
        (damaged("run.json", lambda run: run | {"info": {}}), "", "dataset"),
        (lambda folder: shutil.rmtree(folder.parent / "cells"), "", "cells are looked for in"),
    ],
)
def test_damaged_folders_are_named(damage: Any, file: str, message: str, make_folder: Any, capsys: Any) -> None:
    folder = make_folder()
    damage(folder)
    assert main(["report", str(folder)]) == 2
    error = capsys.readouterr().err
    assert message in error and f"{folder}{'/' if file else ''}{file}" in error and "Traceback" not in error


def test_the_runs_command_mends_a_folder(make_folder: Any) -> None:
    folder = make_folder()
    before = contents(folder)
    (folder / "run.json").write_text("{")
    make_folder()
    assert contents(folder) == before


def test_the_candidates_of_a_tuning_phase_have_no_report_of_their_own(make_folder: Any, tmp_path: Path) -> None:
    folder = make_folder()
    tuning = shutil.copytree(folder, folder.with_name(folder.name.replace("rates-", "rates-tuning-")))
    plan = json.loads((tuning / "plan.json").read_text())
    plan["cells"] = [cell | {"seed": 1000} for cell in plan["cells"]]
    (tuning / "plan.json").write_text(json.dumps(plan))
    assert find_matrix("rates", tmp_path / "runs") == folder
    with pytest.raises(UserError, match="candidates for tuning"):
        rebuild(find_matrix("rates-tuning", tmp_path / "runs"))


def test_matrices_are_found_by_path_name_and_beginning(
    make_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = make_folder(), tmp_path / "runs"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rates").mkdir()  # of the same name, and no matrix
    (tmp_path / "data").mkdir()
    for name in ("data", "./rates/"):
        with pytest.raises(UserError, match=r"has no plan\.json"):
            find_matrix(name, out)
    assert {find_matrix(name, out) for name in (str(folder), folder.name, "rates", "rates-wave")} == {folder}
    with pytest.raises(UserError, match="did you mean 'rates-wave"):
        find_matrix("rates-wvae", out)
    with pytest.raises(UserError, match=r"has no plan\.json"):
        find_matrix(str(out), out)
    with pytest.raises(UserError, match="has none yet"):
        find_matrix("rates-wave", tmp_path / "nowhere")
    shutil.copytree(folder, out / "rates-other")
    with pytest.raises(UserError, match="stands for 2 folders"):
        find_matrix("rates", out)


@pytest.mark.usefixtures("no_plots")
def test_a_folder_over_several_matrices_is_written_anew_with_them(make_folder: Any, tmp_path: Path) -> None:
    text = "name: {name}\nbase: simulated.yaml\narms:\n  low: {{lr: 0.001}}\n  {name}: {{{arm}}}\nbaseline: low\n"
    maes = {"low": [3.1, 3.2, 3.0], "one": [3.0, 3.1, 2.9], "two": [3.3, 3.2, 3.4]}
    plans = [
        make_folder.plan(name, text.format(name=name, arm=arm), maes)
        for name, arm in (("one", "lr: 0.002"), ("two", "dropout: 0.2"))
    ]
    out = tmp_path / "runs"
    finished = run_group(make_group("several", [plan.refreshed() for plan in plans], out), None, None)  # type: ignore[arg-type]
    assert finished.summary is not None
    before = contents(out)
    assert main(["report", str(finished.summary.parent)]) == 0
    assert contents(out) == before

    assert main(["report", "one", "two", "--out", str(out)]) == 0
    [page] = out.glob("summary-one-two-*/summary.md")
    assert "one on wave, quick profile" in page.read_text() and (page.parent / "table.tex").is_file()
    assert main(["report", "one", "two", "--out", str(out), "--output", str(tmp_path / "page")]) == 0
    assert (tmp_path / "page" / "summary.md").is_file()
    assert main(["report", "one", "--out", str(out), "--output", str(tmp_path / "page")]) == 2
