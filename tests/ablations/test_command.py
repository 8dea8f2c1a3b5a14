"""The whole way once, on a small simulated network: matrix -> Ray -> records -> MLflow -> report."""

from __future__ import annotations

import csv
import json
import re
import subprocess
from pathlib import Path

import pytest

from ablations.cells import COLUMNS
from experiments.cli import main
from tests.small import SMALL, as_settings

SETTINGS = {**SMALL, "epochs": 3, "steps_per_epoch": 4}
MATRIX = """
name: tiny
base: simulated.yaml
arms:
  one: {lr: 0.001}
  two: {lr: 0.003}
baseline: one
seeds: 2
"""


@pytest.fixture
def matrix(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(MATRIX)
    return path


def options(out, **changes):
    return ["--out", str(out), "--profile", "quick", *as_settings({**SETTINGS, **changes})]


def only_folder(out, name="tiny"):
    [folder] = out.glob(f"{name}-simulated-*")
    return folder


def rows(folder):
    with (folder / "cells.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def mlflow_runs(out):
    """{run name: (status, metrics, tags)} of everything in the database."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{out.resolve() / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments)
    assert len({run.info.run_name for run in found}) == len(found), "a run twice"
    return {run.info.run_name: (run.info.status, run.data.metrics, run.data.tags) for run in found}


@pytest.mark.parametrize("name", ["depth", "embed_dim", "fusion", "lr"])
def test_dry_run_prints_the_cells_and_writes_nothing(name, tmp_path, capsys):
    out = tmp_path / "runs"
    assert main(["ablate", name, "--dataset", "simulated", "--dry-run", "--seeds", "2", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "(baseline)" in printed and "cells" in printed
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["depht"], "did you mean 'depth'"),
        (["depth", "--set", "temporal_depth_1=4"], "temporal_depth_1.*arm"),
        (["depth", "--set", "seed=3"], "choose N with --seeds"),
        (["depth", "--seeds", "0"], "--seeds must be at least 1"),
        (["depth", "--seeds", "5", "--undecided"], "no report on all cells of matrix 'depth' on simulated"),
        (["fair_lr", "--seeds", "5", "--undecided"], "no report on all cells of matrix 'fair_lr' on simulated"),
        (["fair_lr", "--set", "lr=0.1"], r"--set lr: every arm is tuned over lr \(.*fair_lr.yaml:13\)"),
        (["depth", "--max-hours", "0"], "--max-hours takes a number of hours above 0, got 0"),
        (["depth", "--max-hours", "nan"], "--max-hours takes a number of hours above 0, got nan"),
        (["depth", "--max-gpu-hours", "-2"], "--max-gpu-hours takes a number of hours above 0, got -2"),
        (["depth", "--max-gpu-hours", "3", "--gpus-per-worker", "0"], "no trial holds a GPU here; use --max-hours"),
        (["depth", "--max-cells", "0"], "--max-cells must be at least 1, got 0"),
        (["depth", "--probe-seconds", "-1"], "--probe-seconds must be 0 or more, got -1"),
        (["depth", "--probe-seconds", "inf"], "--probe-seconds must be 0 or more, got inf"),
        (["depth", "--profile", "quik"], "did you mean 'quick'"),
        (["depth", "--set", "embed_dm=4"], "did you mean 'embed_dim'"),
        (["depth", "--set", "patch_len=5"], "patch_len must divide input_len"),
        (["depth", "--cpus-per-worker", "5000"], "5000 CPU"),
        (["depth", "--gpus-per-worker", "0.5", "--workers", "2"], "fraction of a GPU"),
        (["lr", "--set", "epochs=1"], "lr.yaml:.*grace_period 2, epochs 1"),
        (["depth", "--dataset", "METR-LB"], "did you mean 'METR-LA'"),
    ],
)
def test_mistakes_end_with_code_2_and_write_nothing(arguments, message, tmp_path, capsys, monkeypatch):
    out = tmp_path / "runs"
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    dataset = [] if "--dataset" in arguments else ["--dataset", "simulated"]
    assert main(["ablate", *arguments, *dataset, "--out", str(out)]) == 2
    printed = capsys.readouterr()
    assert re.search(message, printed.err, re.DOTALL), printed.err
    assert "Traceback" not in printed.err
    assert not out.exists()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray_here")
def test_the_whole_way_then_again_then_more_seeds(matrix, tmp_path, capsys):
    out = tmp_path / "runs"
    assert main(["ablate", str(matrix), *options(out)]) == 0
    folder = only_folder(out)
    first = rows(folder)
    assert tuple(first[0])[: len(COLUMNS)] == COLUMNS
    assert [(row["arm"], row["seed"], row["status"]) for row in first] == [
        (arm, seed, "done") for seed in "01" for arm in ("one", "two")
    ]
    assert {path.name for path in folder.iterdir()} >= {"plan.json", "cells.csv", "report.md", "plots"}
    report = (folder / "report.md").read_text()
    assert "not comparable with published numbers" in report and "simulated" in report.splitlines()[0]
    runs = mlflow_runs(out)
    assert len(runs) == 5 and {status for status, *_ in runs.values()} == {"FINISHED"}
    for row in first:
        record = json.loads((out / "cells" / row["cell_hash"] / "record.json").read_text())
        _, metrics, tags = runs[f"{row['arm']} seed {row['seed']}"]
        assert float(row["test_mae"]) == record["test"]["all"]["mae"] == pytest.approx(metrics["test_mae"])
        assert tags["cell_hash"] == row["cell_hash"] and tags["baseline"] == str(row["arm"] == "one").lower()
        assert row["mlflow_run_id"] not in ("", "-")

    written = {path: path.stat().st_mtime_ns for path in [*out.glob("cells/*/record.json"), *folder.glob("[!.]*.*")]}
    capsys.readouterr()
    assert main(["ablate", str(matrix), *options(out)]) == 0
    assert "0 to run" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in written} == written, "nothing is done twice"
    assert mlflow_runs(out) == runs
    written = {path: time for path, time in written.items() if path.name == "record.json"}

    (folder / "report.md").unlink()
    assert main(["ablate", str(matrix), *options(out)]) == 0
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert mlflow_runs(out).keys() == runs.keys(), "logged again into the same runs"
    assert (folder / "report.md").is_file()

    assert main(["ablate", str(matrix), *options(out), "--seeds", "3"]) == 0
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert [row["status"] for row in rows(only_folder(out))] == ["done"] * 6
    assert len(mlflow_runs(out)) == 7

    repeat = out / "cells" / first[1]["cell_hash"] / "config.yaml"
    again = tmp_path / "repeat"
    assert main(["train", "--cfg", str(repeat), "--device", "cpu", "--threads", "1", "--out", str(again)]) == 0
    [repeated] = again.glob("cells/*/record.json")
    original = json.loads((repeat.parent / "record.json").read_text())
    assert json.loads(repeated.read_text())["test"] == original["test"], "bare and on the cluster: the same bits"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray_here")
def test_a_failed_cell_is_recorded_and_run_again(matrix, tmp_path, capsys):
    out = tmp_path / "runs"
    assert main(["ablate", str(matrix), *options(out), "--dry-run"]) == 0
    plan = main(["ablate", str(matrix), *options(out, epochs=1), "--seeds", "1"])
    assert plan == 0
    [row] = [row for row in rows(only_folder(out)) if row["arm"] == "two"]
    cell = out / "cells" / row["cell_hash"]
    for path in sorted(cell.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (cell / "checkpoints").write_text("a file where a folder must be")
    assert main(["ablate", str(matrix), *options(out, epochs=1), "--seeds", "1"]) == 1
    assert [row["status"] for row in rows(only_folder(out))] == ["done", "failed"]
    assert json.loads((cell / "record.json").read_text())["error"].strip()
    assert mlflow_runs(out)["two seed 0"][0] == "FAILED"
    assert "failed" in (only_folder(out) / "report.md").read_text()
    (cell / "checkpoints").unlink()
    assert main(["ablate", str(matrix), *options(out, epochs=1), "--seeds", "1"]) == 0
    assert [row["status"] for row in rows(only_folder(out))] == ["done", "done"]
    assert mlflow_runs(out)["two seed 0"][0] == "FINISHED"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray_here")
def test_asha_stops_cells_whose_test_set_stays_unread(tmp_path):
    out = tmp_path / "runs"
    path = tmp_path / "search.yaml"
    path.write_text(
        "name: search\nkind: search\nbase: simulated.yaml\nsettings: {scheduler: constant}\n"
        "grid: {lr: [0.000001, 0.003, 0.000002, 0.01]}\n"
        "seeds: 2\nscheduler: {type: asha, grace_period: 1, reduction_factor: 2}\n"
    )
    assert main(["ablate", str(path), *options(out, epochs=6)]) == 0
    table = rows(only_folder(out, "search"))
    stopped = [row for row in table if row["status"] == "stopped"]
    assert stopped and len(stopped) < len(table)
    runs = mlflow_runs(out)
    for row in table:
        status, metrics, _ = runs[f"{row['arm']} seed {row['seed']}"]
        if row["status"] == "stopped":
            assert row["test_mae"] == "-" and status == "KILLED" and "test_mae" not in metrics
            assert int(row["epochs"]) < 6
        else:
            assert row["status"] == "done" and status == "FINISHED" and float(row["test_mae"]) > 0
    written = {path: path.stat().st_mtime_ns for path in out.glob("cells/*/record.json")}
    assert main(["ablate", str(path), *options(out, epochs=6)]) == 0
    assert {path: path.stat().st_mtime_ns for path in written} == written, "settled under the same scheduler"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_make_ablation_depth_with_two_workers_equals_one(tmp_path):
    """`make ablation-depth WORKERS=2`: torch DDP in a worker group, the same curve as one worker without dropout."""
    root = Path(__file__).parents[2]
    if not (root / ".venv" / ".installed").exists():
        pytest.skip("run through make, which builds .venv")
    outs = {workers: tmp_path / str(workers) for workers in (1, 2)}
    settings = as_settings({**SETTINGS, "dropout": 0, "fusion_dropout": 0})
    arguments = " ".join(["--probe-seconds", "0", *settings])
    running = [
        subprocess.Popen(
            ["make", "ablation-depth", "SEEDS=1", "DATASET=simulated", "PROFILE=quick", f"WORKERS={workers}"]
            + [f"OUT={out}", f"ARGS={arguments}"],
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for workers, out in outs.items()
    ]
    said = [process.communicate(timeout=500)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(said)
    tables = {workers: rows(only_folder(out, "depth")) for workers, out in outs.items()}
    for workers, out in outs.items():
        record = json.loads((out / "cells" / tables[workers][0]["cell_hash"] / "record.json").read_text())
        assert record["machine"]["workers"] == workers
    for one, two in zip(tables[1], tables[2], strict=True):
        assert (one["arm"], one["status"], two["status"]) == (two["arm"], "done", "done")
        assert float(two["test_mae"]) == pytest.approx(float(one["test_mae"]), rel=1e-4)
        assert two["test_windows"] == one["test_windows"]


def test_the_same_matrix_twice_at_once_is_refused(matrix, tmp_path, capsys):
    import fcntl

    out = tmp_path / "runs"
    from ablations.matrix_lock import only_writer
    from altformer.errors import UserError

    out.mkdir()
    with (out / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="being run by another process"), only_writer(out):
            pass
    with only_writer(out):
        assert (out / ".lock").exists()


def test_dry_run_says_what_fits_into_the_budget_over_all_data_sets(tmp_path, capsys, monkeypatch):
    from ablations import estimate
    from experiments.pace import Pace

    pace = Pace(once=3600.0, trained=0.0, scored=0.0)
    monkeypatch.setattr(estimate, "_probed", lambda cells, *rest: {cell.hash: pace for cell in cells})
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    arguments = ["ablate", "depth", "--dataset", "simulated", "--seeds", "2", "--profile", "quick", "--dry-run"]
    assert (
        main([*arguments, "--out", str(tmp_path), "--max-hours", "2.5", "--max-cells", "5", "--scheduler", "none"]) == 0
    )
    printed = capsys.readouterr().out
    assert "1 h 00 min (probe)" in printed
    assert "Expected: about 5 h 00 min until the last cell ends, 10 slot-hours (cells: 10 from a probe)\n" in printed
    assert "Budget of 2.5 hours, 5 cells: about 4 of 10 cells to run fit\n" in printed
    assert re.search(r"Disk: \d+ MB at most, .* free", printed)
    assert "Power: With 2 seeds nothing can be tested" in printed


def test_without_records_and_probes_the_time_is_said_to_be_unknown(tmp_path, capsys):
    arguments = ["ablate", "depth", "--dataset", "simulated", "--profile", "quick", "--dry-run", "--out", str(tmp_path)]
    assert main([*arguments, "--probe-seconds", "0"]) == 0
    assert "Expected: unknown" in capsys.readouterr().out


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("ray_here")
def test_a_budget_of_cells_ends_with_code_3_and_the_same_command_goes_on(matrix, tmp_path, capsys):
    out = tmp_path / "runs"
    arguments = ["ablate", str(matrix), *options(out), "--scheduler", "none", "--max-cells", "3"]
    assert main(arguments) == 3
    printed = capsys.readouterr().out
    assert "The budget of 3 cells is spent: finished cells and checkpoints are kept and 1 cell is left" in printed
    assert [row["status"] for row in rows(only_folder(out))] == ["done"] * 3
    assert main(arguments) == 0
    assert [row["status"] for row in rows(only_folder(out))] == ["done"] * 4
