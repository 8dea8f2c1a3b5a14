"""What a user's or a job manager's signals do to a matrix, in a process of its own under a shell as `make` has it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

SCRIPT = """
import signal, sys, time
from pathlib import Path
from cluster.connection import connect
from cluster.held import leftovers
from cluster.resources import Resources
from cluster.runner import run_cells
from cluster.scheduler import NoScheduler
from cluster.work import Listener, Work

def train(payload, shared, context):
    for epoch in range(1, 31):
        time.sleep(payload["seconds"] if epoch > 1 else 0.1)
        context.report({"epoch": epoch, "val_mae": 1.0})
        if epoch == payload.get("epochs") or context.should_stop():
            break
    return {"epochs": epoch}

class Say(Listener):
    def cell_epoch(self, work, metrics):
        print("epoch", work.name, metrics["epoch"], flush=True)
    def cell_ended(self, work, ended):
        print("ended", work.name, ended.status, ended.result, flush=True)
    def interrupted(self, name, seconds):
        print("interrupted", name, seconds, flush=True)

if __name__ == "__main__":
    seconds, grace, folder = float(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    works = [Work("first", "first", {"seconds": 0.1, "epochs": 2})]
    works += [Work(f"key{n}", f"cell{n}", {"seconds": seconds}, epochs=30) for n in range(5)]
    with connect("local", num_cpus=2, temp_dir=folder, dashboard=False) as connection:
        outcome = run_cells(works, train, None, resources=Resources(), scheduler=NoScheduler(),
                            connection=connection, storage=Path(folder) / "out", listeners=[Say()],
                            grace_seconds=grace)
        print("left", len(outcome.left), "held", leftovers(), flush=True)
    sys.exit(128 + signal.Signals[outcome.interrupted] if outcome.interrupted else 0)
"""


class Matrix:
    """The script under a shell in a session of its own; signals go to the shell's process group."""

    def __init__(self, tmp_path, seconds, grace):
        self.folder = tempfile.mkdtemp(prefix="ray-i", dir="/tmp")
        script, self.out = tmp_path / "matrix.py", tmp_path / "out.txt"
        script.write_text(SCRIPT)
        command = f"trap : INT TERM; {sys.executable} {script} {seconds} {grace} {self.folder}; echo exit $?"
        environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
        with self.out.open("w") as out:
            self.shell = subprocess.Popen(
                ["sh", "-c", command], stdout=out, stderr=subprocess.STDOUT, start_new_session=True, env=environment
            )

    def wait_for(self, pattern, seconds=90):
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.text(), re.MULTILINE):
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.1)

    def text(self):
        return self.out.read_text()

    def send(self, number):
        os.killpg(self.shell.pid, number)

    def processes(self):
        """Command lines of processes that belong to this matrix's Ray."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue
                if self.folder in line:
                    found.append(line)
        return found

    def close(self):
        if self.shell.poll() is None:
            os.killpg(self.shell.pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def matrix(tmp_path):
    started = []

    def start(seconds, grace):
        started.append(Matrix(tmp_path, seconds, grace))
        return started[0]

    yield start
    for each in started:
        each.close()


def assert_nothing_runs(matrix):
    deadline = time.monotonic() + 10
    while matrix.processes():
        assert time.monotonic() < deadline, matrix.processes()
        time.sleep(0.2)


def test_the_first_signal_lets_running_cells_end_their_epoch(matrix):
    here = matrix(seconds=0.5, grace=30)
    here.wait_for("^ended first done")
    here.wait_for("^epoch cell1 2")
    here.send(signal.SIGINT)
    here.wait_for("^exit ")
    text = here.text()
    assert "interrupted SIGINT 30.0" in text
    ended = re.findall(r"^ended (\w+) (\w+) (.*)$", text, re.MULTILINE)
    running = [(name, status, result) for name, status, result in ended if name != "first"]
    assert [status for _, status, _ in running] == ["interrupted", "interrupted"]
    for name, _, result in running:
        last = re.findall(rf"^epoch {name} (\d+)$", text, re.MULTILINE)[-1]
        assert result == f"{{'epochs': {last}}}"
    assert "left 5 held []" in text
    assert text.endswith("exit 130\n")
    assert_nothing_runs(here)


def test_cells_that_take_longer_than_the_grace_are_given_up(matrix):
    here = matrix(seconds=300, grace=2)
    here.wait_for("^epoch cell1 1")
    sent = time.monotonic()
    here.send(signal.SIGTERM)
    here.wait_for("^exit ", seconds=40)
    assert time.monotonic() - sent < 30
    text = here.text()
    assert re.findall(r"^ended cell\d (\w+) (.*)$", text, re.MULTILINE) == [("interrupted", "None")] * 2
    assert "left 5 held []" in text
    assert text.endswith("exit 143\n")
    assert_nothing_runs(here)


def test_a_second_signal_ends_at_once(matrix):
    here = matrix(seconds=300, grace=300)
    here.wait_for("^epoch cell1 1")
    here.send(signal.SIGTERM)
    here.wait_for("^interrupted SIGTERM")
    time.sleep(0.7)
    sent = time.monotonic()
    here.send(signal.SIGTERM)
    here.wait_for("^exit ", seconds=20)
    assert time.monotonic() - sent < 10
    assert here.text().endswith("exit 143\n")
    assert_nothing_runs(here)
