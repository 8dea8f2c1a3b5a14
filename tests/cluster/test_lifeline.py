"""The head of the cluster dies: the run must end by itself, in time, and with a sentence."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from cluster.lifeline import ClusterLostError, call_while


def test_a_head_that_is_silent_for_long_ends_the_waiting_whatever_is_waited_for():
    began = time.monotonic()
    with pytest.raises(ClusterLostError, match="the same command goes on"):
        call_while(lambda: False, lambda: time.sleep(60), lost_seconds=1)
    assert time.monotonic() - began < 30


def test_a_head_that_comes_back_in_time_is_no_trouble():
    began, done = time.monotonic(), []
    answers = lambda: not 0.5 < time.monotonic() - began < 1.7  # noqa: E731
    call_while(answers, lambda: (time.sleep(4), done.append("done")), lost_seconds=3)
    assert done == ["done"]


def test_what_the_function_raises_comes_out():
    with pytest.raises(ValueError, match="mine"):
        call_while(lambda: True, lambda: int("mine"))


SCRIPT = """
import os, sys, time
from pathlib import Path
from cluster.connection import connect
from cluster.resources import Resources
from cluster.runner import run_cells
from cluster.scheduler import NoScheduler
from cluster.work import Listener, Work

def train(payload, shared, context):
    for epoch in range(1, 300):
        time.sleep(0.5)
        context.report({"epoch": epoch, "val_mae": 1.0})
        if context.should_stop():
            break
    return {"epochs": epoch}

class Say(Listener):
    def cell_epoch(self, work, metrics):
        print("epoch", work.name, metrics["epoch"], flush=True)
    def cell_ended(self, work, ended):
        print("ended", work.name, ended.status, flush=True)

if __name__ == "__main__":
    folder = sys.argv[1]
    works = [Work(f"key{n}", f"cell{n}", {}, epochs=300) for n in range(3)]
    connection = connect("local", num_cpus=2, temp_dir=folder, dashboard=False)
    outcome = run_cells(works, train, None, resources=Resources(), scheduler=NoScheduler(),
                        connection=connection, storage=Path(folder) / "out", listeners=[Say()])
    print("halted", outcome.cluster_lost, outcome.halted, len(outcome.left), flush=True)
    os._exit(1)
"""


class Run:
    """The script, with a Ray of its own, in a process."""

    def __init__(self, tmp_path, name):
        self.folder = tempfile.mkdtemp(prefix="ray-l", dir="/tmp")
        script, self._out = tmp_path / "matrix.py", tmp_path / f"{name}.txt"
        script.write_text(SCRIPT)
        with self._out.open("w") as file:
            self.popen = subprocess.Popen(
                [sys.executable, str(script), self.folder],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": str(Path.cwd())},
            )

    def text(self):
        return self._out.read_text()

    def kill(self, name):
        for pid in processes(self.folder, name):
            os.kill(pid, signal.SIGKILL)

    def close(self):
        self.popen.kill()
        self.kill("")
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.mark.ray
def test_a_dead_head_ends_the_run_within_seventy_seconds(tmp_path):
    """Alone, and with the node that the driver is on; at the same time, since it is a matter of waiting."""
    killed = {"head": ("gcs_server",), "machine": ("gcs_server", "raylet")}
    runs = {name: Run(tmp_path, name) for name in killed}
    try:
        for run in runs.values():
            wait_for(lambda run=run: run.text().count("epoch") >= 3, 120)
        for name, run in runs.items():
            for each in killed[name]:
                run.kill(each)
        began = time.monotonic()
        for run in runs.values():
            code = run.popen.wait(timeout=90)
            assert time.monotonic() - began < 70
            assert "halted True the cluster's head does not answer" in run.text()
            assert "ended cell0 interrupted" in run.text()
            assert code == 1
            wait_for(lambda run=run: not processes(run.folder, ""), 30)
    finally:
        for run in runs.values():
            run.close()


def processes(folder, name):
    """Processes of the Ray in this folder whose program has this name."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            program = line.split("\0")[0]
            if folder in line and "matrix.py" not in line and name in program:
                found.append(int(entry.name))
    return found


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
