"""A cluster that takes jobs, and a project of a user's with the sources of altformer in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from cluster.launch.local import free_port
from tests.faults.local_cluster import LocalCluster, private
from tests.faults.process import ROOT, Process
from tests.small import SMALL_DATA

PACKAGES = ("altformer", "cluster", "experiments", "ablations")
STEPS = 4  # of training in an epoch

# Notes in each process where it is built which sources that process uses, in which folder, and what lies there.
OWN_MODEL = """
import json, os, time
from pathlib import Path
import altformer, experiments
from torch import nn

class Own(nn.Module):
    def __init__(self, shape, pause=0.0):
        super().__init__()
        self.pause = pause
        self.linear = nn.Linear(shape.input_len, shape.output_len)
        lies = sorted(path.relative_to(Path.cwd()).as_posix() for path in Path.cwd().rglob("*"))
        noted = {"sources": [altformer.__file__, experiments.__file__, __file__], "cwd": str(Path.cwd()), "lies": lies}
        Path(os.environ["NOTES"], f"{os.getpid()}.json").write_text(json.dumps(noted))

    def forward(self, reading, observed, time_of_day, day_of_week):
        if self.training and not Path(os.environ["NOTES"], "hurry").exists():
            time.sleep(self.pause)
        return self.linear(reading.transpose(1, 2)).transpose(1, 2)
"""


class JobsHead(LocalCluster):
    """The head of a cluster on this machine, without CPUs, with its dashboard on loopback and an access token.

    Its nodes have temporary folders of their own, as machines have: where they share one, Ray removes the files of a
    job from it and unpacks them anew for each node, while the job reads them.
    """

    def __init__(self) -> None:
        self.temp = Path(tempfile.mkdtemp(prefix="rj-", dir="/tmp"))
        dashboard = free_port()
        self.jobs = f"http://127.0.0.1:{dashboard}"
        #: for who submits
        self.environment = {name: value for name, value in private(self.temp).items() if name != "RAY_TMPDIR"}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RAY_ADDRESS")}
        options = ["--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
        self._begin({**inherited, **self.environment, "PATH": path, "OMP_NUM_THREADS": "1"}, 0, options)

    def _options_of_next(self) -> list[str]:
        return [f"--temp-dir={self.temp / f'n{self._started}'}"]


class Project:
    """The folder of a user with a matrix of two cells, their own model, data, secrets, and the sources of altformer.

    `out` is the shared storage beside it, `notes` what each process notes that builds the model.
    """

    def __init__(self, folder: Path, head: JobsHead, epochs: int, epoch_seconds: float = 0.0) -> None:
        self.folder, self.head = folder / "project", head
        self.out, self.notes = folder / "shared runs", folder / "notes"
        self.notes.mkdir(parents=True)
        for package in PACKAGES:
            without = shutil.ignore_patterns("__pycache__", "results")
            shutil.copytree(ROOT / package, self.folder / package, ignore=without)
        shutil.copy(ROOT / "pyproject.toml", self.folder)
        self.commit = self._committed()
        for name in ("data/traffic.npz", "runs/mlflow.db", ".env", ".git/config", "server.key"):
            (self.folder / name).parent.mkdir(exist_ok=True)
            with (self.folder / name).open("a") as file:
                file.write("# planted-secret\n")
        (self.folder / ".gitignore").write_text("output-*.txt\n")  # of our own commands, which are run there
        (self.folder / "own.py").write_text(OWN_MODEL)
        (self.folder / "matrices").mkdir()
        experiment = {"base": "simulated.yaml", "model": {"class": "own:Own", "pause": epoch_seconds / STEPS}}
        (self.folder / "matrices" / "own-experiment.yaml").write_text(yaml.safe_dump(experiment))
        matrix = {
            "name": "small",
            "base": "own-experiment.yaml",
            "arms": {"low": {"lr": 1e-3}, "high": {"lr": 3e-3}},
            "baseline": "low",
            "seeds": 1,
            "scheduler": "none",
            "settings": {**SMALL_DATA, "batch_size": 8, "steps_per_epoch": STEPS, "epochs": epochs},
        }
        (self.folder / "matrices" / "small.yaml").write_text(yaml.safe_dump(matrix))

    def _committed(self) -> str:
        """Its commit; what is added afterwards are changes."""
        git = ["git", "-C", str(self.folder), "-c", "user.name=me", "-c", "user.email=me@example.org"]
        for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "begin"]):
            subprocess.run([*git, *arguments], check=True)
        return subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()

    def hurry(self) -> None:
        """Let its cells sleep no more."""
        (self.notes / "hurry").touch()

    def submit(self, *options: str) -> Process:
        """`altformer submit` of the matrix."""
        common = ["--out", str(self.out), "--profile", "full", "--probe-seconds", "0", "--no-mlflow"]
        environment = ["--env", f"NOTES={self.notes}", "--env", "OMP_NUM_THREADS=1"]
        return self.run("submit", "matrices/small.yaml", *common, *environment, *options)

    def run(self, *arguments: str, env: dict[str, str] | None = None) -> Process:
        """One command of ours that is pointed to the cluster, from the project's folder.

        The shell's own RAY_ADDRESS, of a cluster that is not there, is no matter.
        """
        address = ["--address", self.head.jobs]
        surroundings = {**self.head.environment, "RAY_ADDRESS": "127.0.0.1:1", **(env or {})}
        return Process([*arguments, *address], self.folder, surroundings)

    def records(self) -> list[dict[str, Any]]:
        """The records there are."""
        return [json.loads(path.read_text()) for path in sorted(self.out.glob("cells/*/record.json"))]

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The events of this kind, of all runs; the last line may be half a line."""
        found = []
        for path in self.out.glob("small-*/events.jsonl"):
            for line in path.read_text().splitlines():
                with suppress(ValueError):
                    found.append(json.loads(line))
        return [event for event in found if event["kind"] == kind]

    def noted(self) -> list[dict[str, Any]]:
        """What the processes that built the model have noted."""
        return [json.loads(path.read_text()) for path in self.notes.glob("*.json")]


def wait_until(what: str, true: Any, seconds: float = 90.0) -> None:
    """Wait for something outside our processes."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)


def job_of(text: str, words: Sequence[str] = ("Submitted:",)) -> str:
    """The id that a submission has printed."""
    [line] = [line for line in text.splitlines() if line.startswith(words[0])]
    return line.split()[-1]
