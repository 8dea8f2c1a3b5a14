"""`altformer mlflow-ui`: what it refuses, and that the pages come."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from cluster.tracking.location import resolve
from cluster.tracking.tracker import Tracker
from cluster.work import Ended, Work
from experiments.cli import main


@pytest.fixture(autouse=True)
def no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_without_a_database_it_says_how_one_comes_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mlflow-ui", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / "mlflow.db") in said
    assert "altformer ablate" in said
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_runs_already_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:s3cret@host:5000")
    assert main(["mlflow-ui", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "http://***@host:5000" in said
    assert "s3cret" not in said


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "127.0.0.1.example.org", "", "1"])
def test_hosts_that_others_reach_are_refused(host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mlflow.db").touch()
    assert main(["mlflow-ui", "--out", str(tmp_path), "--host", host]) == 2
    said = capsys.readouterr().err
    assert "ssh -L" in said
    assert "altformer mlflow-server --auth" in said


@pytest.mark.parametrize(("name", "shown"), [("altformer", True), ("another", False), (None, False)])
def test_the_runs_have_their_own_address(
    name: str | None, shown: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "my runs"
    out.mkdir()
    with closing(sqlite3.connect(out / "mlflow.db")) as database:
        if name is not None:
            database.execute("CREATE TABLE experiments (experiment_id INTEGER, name TEXT)")
            database.execute("INSERT INTO experiments VALUES (7, ?)", (name,))
            database.commit()
    monkeypatch.setattr("experiments.mlflow_ui_command.become", lambda *command: None)
    main(["mlflow-ui", "--out", str(out)])
    said = capsys.readouterr().out
    assert "MLflow: http://127.0.0.1" in said
    assert ("/#/experiments/7/runs" in said) == shown


@pytest.mark.slow
def test_the_pages_come_and_end_with_ctrl_c(tmp_path: Path) -> None:
    out = tmp_path / "my runs"
    (tmp_path / "config.yaml").write_text("seed: 0")
    work = Work("k", "alone", {}, {"lr": 1}, {})
    with Tracker(resolve(out), None, cell_artifacts=lambda *args: [(tmp_path / "config.yaml", "")]) as tracker:
        tracker.cell_started(work)
        tracker.cell_ended(work, Ended("done"))
        assert tracker.close(120)
    command = [sys.executable, "-m", "experiments.cli", "mlflow-ui", "--out", str(out)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    try:
        assert server.stdout is not None
        said = server.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert address, said
        assert f"{address[0]}/#/experiments/1/runs" in server.stdout.readline()
        page = _when_there(address[0] + "/").decode()
        assert "<title>MLflow</title>" in page
        artifact = f"{address[0]}/get-artifact?path=config.yaml&run_uuid={tracker.run_id('k')}"
        assert _when_there(artifact) == b"seed: 0"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)
    with pytest.raises(OSError):
        urllib.request.urlopen(address[0], timeout=2)


def _when_there(url: str) -> bytes:
    until = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return bytes(answer.read())
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.3)
