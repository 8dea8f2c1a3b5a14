"""The SLURM script: what it asks for, that it is shell, and what it does on a machine where SLURM is played."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.launch.config import ClusterConfig
from cluster.launch.slurm import LEAVE_SECONDS, slurm
from tests.cluster.launch.configs import CONFIGS
from tests.faults.process import processes_of, running

# `srun`: what follows its own options, in a session of its own, to which `scancel` sends signals.
SRUN = """
import os, pathlib, signal, subprocess, sys, time
asked = []
signal.signal(signal.SIGUSR1, lambda *_: asked.append(True))
(pathlib.Path(__file__).parent / f"step-{os.getpid()}").touch()
task = subprocess.Popen(sys.argv[sys.argv.index("bash"):], start_new_session=True)
while task.poll() is None:
    if asked:
        asked.clear()
        os.killpg(task.pid, signal.SIGTERM)
    time.sleep(0.02)
sys.exit(task.returncode)
"""

SCANCEL = """
import os, pathlib, signal, sys
assert sys.argv[1:] == ["--signal=TERM", "{job}"], "to all steps, and not to the script"
for step in pathlib.Path(__file__).parent.glob("step-*"):
    try:
        os.kill(int(step.name[5:]), signal.SIGUSR1)
    except ProcessLookupError:
        pass
"""

# `altformer` and `ray`: note how they were called, and do what the test has left a file for.
CALLED = """
import json, os, pathlib, signal, sys, time
name, folder = pathlib.Path(sys.argv[0]).name, pathlib.Path({folder!r})
token = pathlib.Path(os.environ["RAY_AUTH_TOKEN_PATH"])
call = [name, *sys.argv[1:]]
variables = {{key: os.environ.get(key) for key in ("RAY_AUTH_MODE", "RAY_USAGE_STATS_ENABLED", "RAY_TMPDIR")}}
note = {{"call": call, "token": token.read_text(), "mode": oct(token.stat().st_mode & 0o777), **variables}}
def say(**more):
    with (folder / "calls").open("a") as file:
        file.write(json.dumps({{**note, **more}}) + "\\n")
def leave(*_):
    say(ended=time.monotonic())
    sys.exit(143 if name == "altformer" else 0)
signal.signal(signal.SIGTERM, leave)
say()
what = name if name == "ray" else sys.argv[1]
code = folder / f"{{what}}.code"
if what == "ray":
    os.makedirs(os.environ["RAY_TMPDIR"], exist_ok=True)
while not code.exists():
    time.sleep(0.05)
if what == "cluster":  # a node that does not come has been begun all the same: a signal to it must not come too early
    begun = int(sys.argv[sys.argv.index("--nodes") + 1]) if code.read_text() == "0" else 1
    while (folder / "calls").read_text().count('"ray", "start"') < begun:
        time.sleep(0.05)
sys.exit(int(code.read_text()))
"""


class Played:
    """A job of two nodes; `codes` says with what a program ends at once, the others wait for a signal."""

    def __init__(self, folder: Path, **codes: int) -> None:
        self.folder = folder
        self.config = ClusterConfig(storage=str(folder / "storage"), ablate=("depth", "--set", "a=b c"), cpus=3, gpus=2)
        bin_folder = folder / "storage" / ".venv" / "bin"
        bin_folder.mkdir(parents=True)
        self.job = 900_000_000 + os.getpid()
        python = f"#!{sys.executable}\n"
        called = python + CALLED.format(folder=str(folder))
        programs = {"srun": python + SRUN, "altformer": called, "ray": called}
        programs["scancel"] = python + SCANCEL.format(job=self.job)
        programs |= {"scontrol": "#!/bin/sh\necho n1\necho n2\n", "python": "#!/bin/sh\necho 10.1.2.3\n"}
        for name, text in programs.items():
            (bin_folder / name).write_text(text)
            (bin_folder / name).chmod(0o755)
        for name, code in codes.items():
            (folder / f"{name}.code").write_text(str(code))
        [(name, text)] = slurm(self.config).items()
        script = folder / name
        script.write_text(text)
        given = {"JOB_ID": self.job, "JOB_NUM_NODES": 2, "JOB_NODELIST": "n[1-2]", "CPUS_PER_TASK": 3}
        self.process = subprocess.Popen(
            ["bash", str(script)],
            env={**os.environ, **{f"SLURM_{key}": str(value) for key, value in given.items()}},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def calls(self, *start: str) -> list[dict[str, object]]:
        file = self.folder / "calls"
        found = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [call for call in found if call["call"][: len(start)] == list(start)]

    def wait_for(self, *start: str) -> None:
        until = time.monotonic() + 30
        while not self.calls(*start):
            assert time.monotonic() < until and self.process.poll() is None, self.process.communicate(timeout=5)
            time.sleep(0.05)

    def end(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=60)
        return self.process.returncode, output


@pytest.fixture
def play(tmp_path: Path) -> Iterator[type[Played]]:
    jobs: list[Played] = []

    def start(**codes: int) -> Played:
        jobs.append(Played(tmp_path, **codes))
        return jobs[-1]

    yield start
    for job in jobs:
        for pid in [*processes_of(job.process.pid), *(pid for pid, title in running() if str(job.folder) in title)]:
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(f"/tmp/altformer-{job.job}", ignore_errors=True)


def assert_nothing_is_left(job: Played) -> None:
    assert processes_of(job.process.pid) == {}
    left = [title for _, title in running() if str(job.folder) in title]
    assert left == [], "steps have sessions of their own"
    assert list((job.folder / "storage").glob(".ray-token*")) == []
    assert not Path(f"/tmp/altformer-{job.job}").exists()


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_matrix_runs_on_a_cluster_of_all_nodes_and_its_code_is_the_jobs(play, code: int) -> None:
    job = play(cluster=0, ablate=code)
    ended, output = job.end()
    assert ended == code, output
    port = 20000 + job.job % 4000
    started = [call["call"] for call in job.calls("ray", "start") if "ended" not in call]
    head, node = sorted(started, key=lambda words: "--head" not in words)
    common = ["--num-cpus=3", "--num-gpus=2", "--block", "--disable-usage-stats"]
    assert all(word in words for word in common for words in (head, node))
    assert {"--head", f"--port={port}", "--node-ip-address=10.1.2.3", "--dashboard-host=127.0.0.1"} <= set(head)
    assert {f"--dashboard-port={port + 4000}", f"--ray-client-server-port={port + 8000}"} <= set(head)
    assert f"--address=10.1.2.3:{port}" in node and "--head" not in node
    [matrix] = job.calls("altformer", "ablate")
    expected = ["depth", "--set", "a=b c", "--address", f"10.1.2.3:{port}", "--out", f"{job.folder}/storage/runs"]
    assert matrix["call"][2:] == expected
    waited = [call["call"][call["call"].index("--nodes") + 1] for call in job.calls("altformer", "cluster", "wait")]
    assert waited == ["1", "2"], "for the head before the others, for all before the matrix"
    assert_nothing_is_left(job)


def test_every_process_has_the_jobs_own_token_which_nobody_else_can_read(play) -> None:
    job = play(cluster=0, ablate=0)
    job.end()
    calls = job.calls()
    assert len(calls) >= 5
    assert len({call["token"] for call in calls}) == 1 and re.fullmatch(r"[0-9a-f]{64}", calls[0]["token"])
    assert {call["mode"] for call in calls} == {"0o600"}
    assert {(call["RAY_AUTH_MODE"], call["RAY_USAGE_STATS_ENABLED"]) for call in calls} == {("token", "0")}
    assert {call["RAY_TMPDIR"] for call in calls} == {f"/tmp/altformer-{job.job}"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_matrix_which_leaves_before_the_cluster_ends(play, number: int) -> None:
    job = play(cluster=0)
    job.wait_for("altformer", "ablate")
    job.process.send_signal(number)
    code, output = job.end()
    assert code == 143, output
    [left] = [call["ended"] for call in job.calls("altformer", "ablate") if "ended" in call]
    nodes = [call["ended"] for call in job.calls("ray", "start") if "ended" in call]
    assert len(nodes) == 2 and all(left < ended for ended in nodes)
    assert_nothing_is_left(job)


def test_a_signal_while_it_waits_for_nodes_starts_no_matrix(play) -> None:
    job = play(ablate=0)
    job.wait_for("altformer", "cluster", "wait")
    job.process.terminate()
    assert job.end()[0] == 143
    assert job.calls("altformer", "ablate") == []
    assert_nothing_is_left(job)


def test_a_node_that_does_not_come_ends_the_job(play) -> None:
    job = play(cluster=2, ablate=0)
    assert job.end()[0] == 2
    assert job.calls("altformer", "ablate") == []
    assert_nothing_is_left(job)


@pytest.mark.parametrize("name", CONFIGS)
def test_it_is_shell(name: str, tmp_path: Path) -> None:
    [text] = slurm(CONFIGS[name]).values()
    script = tmp_path / "script"
    script.write_text(text)
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    if shutil.which("shellcheck"):  # single quotes are meant: for another shell, or so that nothing is expanded
        done = subprocess.run(["shellcheck", "-e", "SC2016", str(script)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout


def test_what_it_asks_slurm_for() -> None:
    [text] = slurm(CONFIGS["full"]).values()
    asked = dict(re.findall(r"^#SBATCH --([a-z-]+)=(.*)$", text, re.MULTILINE))
    expected = {"nodes": "4", "cpus-per-task": "48", "gpus-per-node": "8", "mem": "512G", "time": "72:00:00"}
    assert expected.items() <= asked.items()
    assert (asked["partition"], asked["account"]) == ("gpu-long", "proj_42")
    assert asked["signal"] == f"B:TERM@{LEAVE_SECONDS}", "to the script, which passes it on to the matrix only"
    without = slurm(CONFIGS["default"].model_copy(update={"gpus": 0}))["altformer.sbatch"]
    assert "--gpus-per-node" not in without and "--num-gpus=0" in without
