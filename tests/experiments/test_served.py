"""Cells in MLflow's model registry: what comes out is what the forecaster says, wherever it is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from altformer.forecast import load_forecaster
from experiments.cli import main
from experiments.runs import find_run


@pytest.fixture
def readings(seeds):
    rng = np.random.default_rng(0)
    facts = load_forecaster(seeds[0].folder).facts
    times = pd.date_range("2024-01-01", periods=20, freq=f"{facts.step_minutes}min")
    return pd.DataFrame(rng.normal(50, 5, (20, len(facts.sensor_ids))).round(1), times, list(facts.sensor_ids))


def promote(out, run, name="mine", *more):
    return main(["promote", run, "--name", name, "--out", str(out), *more])


def uri(out):
    return f"sqlite:///{out.resolve() / 'mlflow.db'}"


def versions(out, name="mine"):
    from mlflow import MlflowClient

    return {int(one.version): one for one in MlflowClient(uri(out)).search_model_versions(f"name = '{name}'")}


@pytest.mark.slow
def test_a_promoted_cell_forecasts_as_it_does_here(own_out, seeds, readings, tmp_path, capsys):
    assert promote(own_out, "seed0", "mine", "--alias", "champion") == 0
    printed = capsys.readouterr().out
    assert "version 1 of mine" in printed and "models:/mine@champion" in printed
    run = find_run("seed0", own_out)
    tags = versions(own_out)[1].tags
    assert tags["cell_hash"] == run.hash and tags["data_hash"] == run.record["data_hash"]
    assert float(tags["test_mae"]) == run.record["test"]["all"]["mae"]

    assert promote(own_out, run.hash[:8]) == 0
    assert "version 1 of mine already" in capsys.readouterr().out and set(versions(own_out)) == {1}
    assert promote(own_out, "seed1") == 0 and promote(own_out, "seed0", "other") == 0
    assert set(versions(own_out)) == {1, 2} and set(versions(own_out, "other")) == {1}

    expected = load_forecaster(run.folder).forecast(readings)
    code = (
        "import sys, mlflow, pandas as pd\n"
        "mlflow.set_tracking_uri(sys.argv[1])\n"
        "model = mlflow.pyfunc.load_model('models:/mine/1')\n"
        "readings = pd.read_pickle('readings.pkl')\n"
        "by_index, by_column = model.predict(readings), model.predict(readings.rename_axis('time').reset_index())\n"
        "by_index.to_pickle('forecast.pkl')\n"
        "pd.testing.assert_frame_equal(by_column.set_index('time'), by_index, check_names=False, check_freq=False)\n"
        "import altformer; print(altformer.__file__)\n"
        "try: model.predict(readings.iloc[:, 1:])\n"
        "except Exception as error: print(error)\n"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    readings.to_pickle(elsewhere / "readings.pkl")
    done = subprocess.run(
        [sys.executable, "-c", code, uri(own_out)], cwd=elsewhere, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert "mlartifacts" in done.stdout.splitlines()[0], "by the sources that went along"
    assert "missing sensor" in done.stdout
    pd.testing.assert_frame_equal(
        pd.read_pickle(elsewhere / "forecast.pkl"), expected, check_exact=True, check_freq=False
    )


@pytest.mark.slow
def test_no_pickle_goes_along(own_out):
    assert promote(own_out, "seed0") == 0
    [model] = own_out.rglob("MLmodel")
    files = {path.relative_to(model.parent).as_posix() for path in model.parent.rglob("*") if path.is_file()}
    assert not [name for name in files if name.endswith((".pkl", ".pt", ".pickle", ".pyc"))]
    assert {"served_model.py", "artifacts/" + checkpoint(files) + "/model.safetensors"} <= files
    assert {name.rpartition("/")[2] for name in files if "artifacts/" in name} == {
        "config.json",
        "data.json",
        "model.safetensors",
        "sums.json",
    }
    assert "torch==" in (model.parent / "requirements.txt").read_text()


def checkpoint(files):
    [name] = {name.split("/")[1] for name in files if name.startswith("artifacts/")}
    return name


def damage_weights(out):
    folder = find_run("seed0", out).folder
    for path in folder.rglob("sums.json"):  # of every checkpoint: none that is whole is left to fall back on
        path.write_text("{}")


def make_diverged(out):
    path = find_run("seed0", out).folder / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "diverged"}))


def remove_record(out):
    (find_run("seed0", out).folder / "record.json").unlink()


@pytest.mark.parametrize(
    ("run", "name", "damage", "message"),
    [
        ("seed0", "a/b", None, "letters, digits"),
        ("seed0", "a:b", None, "letters, digits"),
        ("seed0", "", None, "letters, digits"),
        ("seed0", "..", None, "letters, digits"),
        ("seed0", "it's", None, "letters, digits"),
        ("sed0", "mine", None, "did you mean 'seed0'"),
        ("seed0", "mine", damage_weights, "no whole checkpoint"),
        ("seed0", "mine", make_diverged, "diverged, not done"),
        ("seed0", "mine", remove_record, "no record.json"),
    ],
)
def test_mistakes_are_named_and_nothing_is_registered(run, name, damage, message, own_out, capsys):
    if damage is not None:
        damage(own_out)
    assert promote(own_out, run, name) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (own_out / "mlartifacts").exists() and not (own_out / "mlflow.db").exists()


def test_the_name_of_a_folder_out_of_reach_is_said(tmp_path: Path, capsys):
    assert promote(tmp_path / "nowhere", "abcdef") == 2
    assert "unknown run 'abcdef'" in capsys.readouterr().err
