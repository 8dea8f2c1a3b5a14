"""The commands as a user types them: train, evaluate, and what goes wrong."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from experiments.cli import COMMANDS, main
from tests.small import SMALL, as_options

SETTINGS = as_options({**SMALL, "steps_per_epoch": 3, "threads": 1, "device": "cpu"})


@pytest.fixture
def out(tmp_path):
    return tmp_path / "runs"


def train(out, *arguments):
    return main(["train", "--cfg", "simulated", *SETTINGS, "--epochs", "2", "--out", str(out), *arguments])


def record_named(out, name):
    return json.loads((out / "experiments" / f"{name}.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "section", "expected"),
    [
        (["--lr", "0.001", "--epochs", "1"], "training", {"lr": 0.001, "epochs": 1}),
        (["--temporal_depth_1", "1", "--spatial_depth_1=1"], "model", {"temporal_depth_1": 1, "spatial_depth_1": 1}),
        (["--fusion_type", "concat"], "model", {"fusion_type": "concat"}),
        (["--embed_dim", "16"], "model", {"embed_dim": 16}),
        (["--training.weight_decay", "3e-4"], "training", {"weight_decay": 3e-4}),
        (["--set", "scheduler={type: OneCycleLR, max_lr: 0.002}"], "training", {}),
    ],
)
def test_the_guides_forms_train_and_are_found_by_name(out, capsys, arguments, section, expected):
    assert train(out, *arguments, "--experiment_name", "lr_search_0.001") == 0
    record = record_named(out, "lr_search_0.001")
    assert record["status"] == "done" and expected.items() <= record["config"][section].items()
    printed = capsys.readouterr().out
    assert f"{record['test']['all']['mae']:.4f}" in printed and "15 min" in printed
    assert "not comparable with published numbers" in printed


def test_the_same_command_finds_the_run_finished(out, capsys):
    train(out)
    first = record_named(out, "simulated")
    capsys.readouterr()
    assert train(out) == 0
    assert "this very run is finished" in capsys.readouterr().out
    assert record_named(out, "simulated") == first
    assert train(out, "--again") == 0
    again = record_named(out, "simulated")
    assert again["test"] == first["test"] and again["provenance"]["started"] >= first["provenance"]["started"]


def test_a_run_that_another_process_trains_is_not_begun_anew(out, capsys):
    assert train(out) == 0
    [cell] = (out / "cells").iterdir()
    before = (cell / "record.json").read_bytes()
    with (cell / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert train(out, "--again") == 2
    assert "another process trains this very run now" in capsys.readouterr().err
    assert (cell / "record.json").read_bytes() == before


def test_a_full_disk_is_one_message_and_code_1(out, capsys, monkeypatch):
    def no_space(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("altformer.files.os.fsync", no_space)
    assert train(out) == 1
    error = capsys.readouterr().err
    assert error.startswith("altformer: disk full: no space left in ") and "Traceback" not in error


def test_names_never_become_paths(out):
    assert train(out, "--experiment_name", "../../up <b>", "--epochs", "1") == 0
    assert [path.name for path in (out / "experiments").iterdir()] == ["up-b.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lrr", "1"], "unknown field 'lrr'; did you mean 'lr'"),
        (["--lr"], "--lr needs a value"),
        (["stray"], "unexpected argument 'stray'"),
        (["--epochs", "0"], "training.epochs: must be greater than or equal to 1, got 0"),
        (["--threads", "0"], "--threads must be at least 1, got 0"),
        (["--device", "gpu"], "unknown device 'gpu'; did you mean"),
        (["--profile", "ful"], "unknown profile 'ful'; did you mean 'full'"),
        (["--cfg", "nowhere.yaml"], "unknown experiment file 'nowhere.yaml'"),
        (["--set", "lr"], "--set takes path=value, got 'lr'"),
        (["--patch_len", "5"], "patch_len must divide input_len"),
    ],
)
def test_mistakes_are_one_message_and_code_2(out, capsys, arguments, message):
    assert train(out, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not list(out.glob("cells/*/record.json"))


def test_evaluate_prints_one_json_object(capsys):
    assert main(["evaluate", "--baseline", "copy-last", "--dataset", "simulated", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result.keys() == {"dataset", "split", "windows", "metrics", "mae_unmasked"}
    assert result["dataset"] == "simulated" and result["split"] == "test" and result["windows"] > 1000
    assert result["metrics"].keys() == {"3", "6", "12", "all"}
    assert result["metrics"]["all"].keys() == {"mae", "rmse", "mape"}


def test_evaluate_metr_la_as_published(metr_la_dir, capsys):
    assert main(["evaluate", "--baseline", "copy-last", "--dataset", "METR-LA", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["windows"] == 6850
    assert [round(value, 4) for value in result["metrics"]["12"].values()] == [6.7952, 14.2086, 16.7140]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "usage: altformer"),
        (["--help"], 0, "ablate"),
        (["--help"], 0, "To begin: altformer init"),
        (["trian"], 2, "did you mean 'train'"),
        (["evaluate", "--baseline", "copylast"], 2, "did you mean 'copy-last'"),
        (["evaluate", "--baseline", "copy-last", "--dataset", "METRLA"], 2, "did you mean 'METR-LA'"),
        (["ablate", "depth", "--sceduler", "none"], 2, "unknown option '--sceduler'; did you mean '--scheduler'"),
        (["ablate", "depth", "--max-cell=3"], 2, "did you mean '--max-cells'"),
        (
            ["ablate", "depth", "--max-hours", "soon"],
            2,
            "altformer: --max-hours takes a number, got 'soon'; `alt",
        ),
        (["ablate", "depth", "--seeds", "3.5"], 2, "altformer: --seeds takes a whole number, got '3.5'; `altformer"),
        (["ablate", "depth", "--dataset", "simulatd", "--set", "sensors=8"], 2, "did you mean 'simulated'"),
        (["compare", "a"], 2, "`altformer compare --help` lists the options"),
        (["compare", "a", "b", "c"], 2, "'c' is one argument too many"),
    ],
)
def test_the_command_line_itself(capsys, arguments, code, message):
    assert main(arguments) == code
    printed = capsys.readouterr()
    assert message in printed.out + printed.err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*name.split(), "--help"])
    assert caught.value.code == 0 and "usage: altformer" in capsys.readouterr().out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_training_goes_on_to_the_same_bits(out, tmp_path, number, code):
    # a job in the background of a script ignores SIGINT, and so would what these tests start there
    start = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    start += "from experiments.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", start, "train", "--cfg", "simulated", *SETTINGS, "--epochs", "6"]
    command += ["--steps_per_epoch", "30"]
    process = subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not list(out.glob("cells/*/checkpoints/epoch-0002")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code and "the same command goes on" in error and "Traceback" not in error
    assert not list(out.glob("cells/*/record.json"))
    for folder in (out, tmp_path / "undisturbed"):
        done = subprocess.run([*command, "--out", str(folder)], capture_output=True, text=True, env=os.environ)
        assert done.returncode == 0, done.stderr
    resumed, undisturbed = (record_named(folder, "simulated") for folder in (out, tmp_path / "undisturbed"))
    assert resumed["test"] == undisturbed["test"] and resumed["val"] == undisturbed["val"]


@pytest.mark.slow
def test_a_bare_run_is_logged_to_mlflow_when_asked(out):
    from mlflow import MlflowClient

    assert train(out, "--mlflow", "--experiment_name", "logged") == 0
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    [run] = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    record = record_named(out, "logged")
    assert (run.info.run_name, run.info.status) == ("logged", "FINISHED")
    assert run.data.params["training.lr"] == str(record["config"]["training"]["lr"])
    assert run.data.metrics["test_mae"] == pytest.approx(record["test"]["all"]["mae"])
    history = client.get_metric_history(run.info.run_id, "val_mae")
    assert [point.step for point in history] == [1, 2]
    artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    files = {"config.yaml", "record.json", "environment.txt", "forecast_sample.npz", "test_errors.npz"}
    assert files | {"best_checkpoint"} <= artifacts
