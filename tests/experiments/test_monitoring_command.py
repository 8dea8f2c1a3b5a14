"""`altformer monitoring`: a real Prometheus beside a real Ray, while a small matrix runs and loses a process."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.dashboards import running_dashboards
from cluster.metrics import STATUSES
from cluster.monitoring import grafana, prometheus
from experiments.cli import main
from tests.cluster.monitoring.queries import ask, expressions
from tests.faults.harness import Matrix
from tests.faults.local_cluster import LocalCluster, free_port
from tests.faults.process import Process, running

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="needs Prometheus: apt-get install prometheus"
)
DASHBOARD: dict[str, Any] = json.loads(grafana.DASHBOARD.read_text())
QUOTED = 'quick "and" \\short'
ARMS = {
    "long": {"lr": 1e-3, "epochs": 900},  # until it is interrupted
    QUOTED: {"lr": 3e-3, "epochs": 4},
    "nan": {"model": {"class": "tests.faults.models:NanAtStep", "step": 3}},
}
EMPTY_WITHOUT_GPUS = re.compile(r"ray_(node_g|component_gpu|altformer_gpu)")
WITHIN = 150.0  # Ray reports every 10 s and Prometheus asks every 10 s


def address_of(matrix: Process) -> str:
    """The address of the Ray that a matrix runs on, found by its dashboard."""
    url = matrix.wait_for(r"Ray dashboard: (http\S+)")[1]
    [found] = [cluster for cluster, there in running_dashboards().items() if there == url]
    return found


class Answers:
    """What a Prometheus knows, by the tags that a panel's query groups by."""

    def __init__(self, address: str) -> None:
        self.address = address

    def of(self, title: str, *tags: str, query: int = 0) -> dict[str, float]:
        """The panel's values now, by these tags."""
        [panel] = [panel for panel in DASHBOARD["panels"] if panel["title"] == title]
        series = ask(self.address, panel["targets"][query]["expr"])
        return {" ".join(each["metric"][tag] for tag in tags): float(each["value"][1]) for each in series}

    def wait(self, true: Callable[[], bool], what: str) -> bool:
        """Wait until something is so."""
        deadline = time.monotonic() + WITHIN
        while not (found := true()):
            assert time.monotonic() < deadline, f"not within {WITHIN:g} s: {what}"
            time.sleep(0.5)
        return found


@needs_prometheus
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_panel_shows_what_a_running_matrix_does(tmp_path: Path, close: Callable[[Process], Process]) -> None:
    matrix = Matrix(tmp_path, arms=ARMS, epochs=5, epoch_seconds=1.2, name="watched")
    run = close(matrix.start("--no-mlflow"))
    run.wait_for_event("cell_epoch", 240, epoch=2, name="long seed 0")
    port = free_port()
    monitor = close(Process(["monitoring", "--address", address_of(run), "--port", str(port)], tmp_path, {}))
    answers = Answers(monitor.wait_for(r"Prometheus: (http://127\.0\.0\.1:\d+) ")[1])

    # While cells run: who they are, and what they do.
    assert answers.wait(lambda: set(answers.of("Cells by status", "status")) == set(STATUSES), "all statuses are told")
    assert answers.wait(lambda: "long" in answers.of("Validation by arm (latest, mean over seeds)", "arm"), "the arm")
    assert answers.of("Validation by arm (latest, mean over seeds)", "metric").keys() == {"val_mae"}
    assert answers.of("Queue and slots", query=2) == {"": 2.0}
    assert answers.of("Training samples per second", "arm", "seed", query=1)["long 0"] > 0
    assert answers.of("Seconds per epoch", "arm")["long"] == pytest.approx(1.2, abs=1.0)
    assert 0 < answers.of("Epochs of running and paused cells", "arm", "seed")["long 0"] < 1

    # Processes that are lost are retries: at least that of the cell that goes on to the end.
    assert set(answers.of("Retries by fault", "fault").values()) == {0.0}
    for trial in run.pids_of("ray::Trial"):
        run.kill(trial)
    assert answers.wait(lambda: answers.of("Retries by fault", "fault").get("died", 0.0) >= 1.0, "the retry")

    # Cells that have ended: their speeds are gone, what they found stays, and a diverged one has found nothing.
    counts = "Cells by status"
    ended = {"done": 1.0, "diverged": 1.0, "running": 1.0}
    assert answers.wait(lambda: ended.items() <= answers.of(counts, "status").items(), "two have ended, one runs")
    speeds = "Training samples per second"
    assert answers.wait(lambda: set(answers.of(speeds, "arm", query=1)) == {"long"}, "only one has a speed")
    assert set(answers.of("Validation by arm (latest, mean over seeds)", "arm")) == {"long", QUOTED}

    # Every query has an answer; those for GPUs may have none here.
    for expression in expressions(DASHBOARD):
        found = ask(answers.address, expression)
        assert found or EMPTY_WITHOUT_GPUS.search(expression), expression

    # When the run is over nothing of it is told any more.
    run.kill(number=signal.SIGTERM)
    assert run.wait() == 143, run.output
    assert answers.wait(lambda: answers.of(counts, "status") == {}, "nothing is told after the end")
    monitor.kill(number=signal.SIGINT)
    assert monitor.wait(30) == 0, monitor.output
    assert "Prometheus has ended" in monitor.output
    assert "Traceback" not in monitor.output
    assert prometheus_at(port) == []


def prometheus_at(port: int) -> list[str]:
    return [title for _, title in running() if f"--web.listen-address=127.0.0.1:{port}" in title]


@needs_prometheus
@pytest.mark.ray
@pytest.mark.slow
def test_a_cluster_without_a_dashboard_is_refused_and_it_is_said_why(
    tmp_path: Path, close: Callable[[Process], Process]
) -> None:
    with LocalCluster(tmp_path) as cluster:
        monitor = close(Process(["monitoring", "--address", cluster.address], tmp_path, cluster.environment))
        assert monitor.wait(60) == 2, monitor.output
    assert re.search(r"altformer: the Ray cluster at \S+ has no file .*must have a dashboard", monitor.output)
    assert "Traceback" not in monitor.output


@needs_prometheus
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_no_prometheus_is_left_behind(tmp_path: Path, close: Callable[[Process], Process], number: int) -> None:
    port = free_port()
    program = tmp_path / "watch.py"
    program.write_text(
        "import sys, pathlib\n"
        "import experiments.monitoring_command as command\n"
        "from experiments.cli import main\n"
        "command.discovery_file = lambda address: pathlib.Path('/nowhere/discovery.json')\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    monitor = close(
        Process(
            ["monitoring", "--port", str(port)],
            tmp_path,
            {"PYTHONPATH": f"{tmp_path}", "TMPDIR": f"{tmp_path}"},
            None,
            "watch",
        )
    )
    monitor.wait_for(r"Prometheus: ")
    assert len(prometheus_at(port)) == 1
    monitor.kill(number=number)
    assert monitor.wait(30) == (0 if number == signal.SIGTERM else -number)
    deadline = time.monotonic() + 10
    while prometheus_at(port) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert prometheus_at(port) == []


def test_without_prometheus_it_is_one_sentence_and_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["monitoring"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("altformer: there is no program `prometheus`")
    assert "apt-get install prometheus" in printed.err


def test_without_a_cluster_nothing_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prometheus, "program", lambda: sys.executable)
    assert main(["monitoring", "--address", "127.0.0.1:1"]) == 2
    assert "does not answer" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["0", "70000"])
def test_a_port_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], port: str
) -> None:
    monkeypatch.setattr(prometheus, "program", lambda: sys.executable)
    monkeypatch.setattr("experiments.monitoring_command.discovery_file", lambda address: Path("/nowhere"))
    assert main(["monitoring", "--port", port]) == 2
    assert "between 1 and 65535" in capsys.readouterr().err


def test_prometheus_that_ends_by_itself_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Ended:
        def __enter__(self) -> Ended:
            return self

        def __exit__(self, *failure: object) -> None:
            pass

        def wait(self) -> int:
            return 2

    monkeypatch.setattr(prometheus, "program", lambda: sys.executable)
    monkeypatch.setattr(prometheus, "running", lambda *arguments: Ended())
    monkeypatch.setattr("experiments.monitoring_command.discovery_file", lambda address: Path("/nowhere"))
    assert main(["monitoring"]) == 1
    assert "ended by itself, with exit code 2" in capsys.readouterr().err
