"""The local cluster: real nodes, on which a matrix runs, and no trace of them afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from cluster.errors import ClusterError
from cluster.launch import local, local_state
from cluster.launch.local import down, free_port, up
from cluster.launch.processes import Session, boot
from tests.faults.process import ROOT, running


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of its own, whose token and state are not the user's; short, since Ray's sockets lie below."""
    folder = Path(tempfile.mkdtemp(prefix="up-", dir="/tmp"))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS", "RAY_AUTH_MODE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("RAY_TMPDIR", str(folder / "t"))
    (folder / "t").mkdir()
    yield folder
    down()
    shutil.rmtree(folder, ignore_errors=True)


class Commands:
    """`altformer` in processes of its own, as a user runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "experiments.cli", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=240,
        )


def ours(home: Path) -> list[str]:
    """Command lines of living processes that name the home's folder, as all of Ray's own do."""
    return [title for _, title in running() if str(home) in title]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_matrix_runs_on_its_nodes_and_nothing_is_left(home: Path) -> None:
    run = Commands(home)
    started = run("cluster", "up", "--nodes", "2", "--cpus", "1")
    assert started.returncode == 0, started.stdout + started.stderr
    assert "2 nodes with 1 CPUs each" in started.stdout and "ADDRESS=auto" in started.stdout
    state = local_state.read()
    assert state is not None and state.dashboard in started.stdout
    assert_private(home)
    assert listeners(state.dashboard.rpartition(":")[2]) == {"127.0.0.1"}

    matrix = run("ablate", "depth", "--dataset", "simulated", "--seeds", "1", "--address", "auto", "--out", "runs",
                 "--no-mlflow", "--set", "epochs=1", "--set", "steps_per_epoch=2", "--max-cells", "3")  # fmt: skip
    assert matrix.returncode in (0, 3), matrix.stdout + matrix.stderr
    assert "2 at once" in matrix.stdout
    assert len(list((home / "runs" / "cells").glob("*/record.json"))) == 3, matrix.stdout
    [path] = (home / "runs").glob("*/events.jsonl")
    kinds = [event["kind"] for event in events(path) if event["kind"] in ("cell_started", "cell_ended")]
    assert kinds[:2] == ["cell_started", "cell_started"], "the head has no CPU and each node one: both have trained"

    again = run("cluster", "up", "--nodes", "1")
    assert again.returncode == 2 and "runs already" in again.stderr and "cluster down" in again.stderr
    ended = run("cluster", "down")
    assert ended.returncode == 0 and state.address in ended.stdout
    assert_no_trace(home, state)
    assert run("cluster", "down").stdout == "No local cluster runs.\n"


def events(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_private(home: Path) -> None:
    for path in (local_state.state_file(), home / ".ray" / "auth_token"):
        assert path.stat().st_mode & 0o777 == 0o600, path
    assert "auth_token" not in local_state.state_file().read_text()
    state = local_state.read()
    assert state is not None and state.folder.stat().st_mode & 0o777 == 0o700
    token = (home / ".ray" / "auth_token").read_text()
    assert not [title for _, title in running() if token in title], "the token is on no command line"


def listeners(port: str) -> set[str]:
    """Addresses of this machine that something listens on, at a port."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        address, state = line.split()[1], line.split()[3]
        if state == "0A" and int(address.partition(":")[2], 16) == int(port):
            number = int(address.partition(":")[0], 16)
            found.add(".".join(str(number >> shift & 255) for shift in (0, 8, 16, 24)))
    return found


def assert_no_trace(home: Path, state: local_state.State) -> None:
    assert ours(home) == []
    assert not any(session.members() for session in state.sessions)
    assert not state.folder.exists()
    assert [path.name for path in (home / ".ray").iterdir()] == ["auth_token"], "the user's token stays"
    assert not state.named.exists()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_without_the_token_nobody_is_let_in_and_a_killed_one_is_no_obstacle(home: Path, tmp_path: Path) -> None:
    run = Commands(home)
    started = run("cluster", "up", "--nodes", "1", "--cpus", "1")
    assert started.returncode == 0, started.stderr
    state = local_state.read()
    assert state is not None
    other = tmp_path / "other"
    other.write_text("0" * 64)
    other.chmod(0o600)
    code = "import ray; ray.init('auto', log_to_driver=False); print(len(ray.nodes()))"
    tried = {"ours": {}, "another": {"RAY_AUTH_TOKEN_PATH": str(other)}, "none": {"RAY_AUTH_MODE": "disabled"}}
    answers = {}
    for name, variables in tried.items():
        env = {**os.environ, "RAY_AUTH_MODE": "token", **variables}
        words = [sys.executable, "-c", code]
        answers[name] = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120)
    assert answers["ours"].stdout.strip() == "2", answers["ours"].stderr
    assert "uthenticat" in answers["another"].stderr and not answers["another"].stdout
    assert answers["none"].returncode != 0 and not answers["none"].stdout
    wait = ["cluster", "wait", "--address", state.address, "--nodes", "2", "--seconds", "60"]
    assert run(*wait).returncode == 0
    refused = run(*wait, RAY_AUTH_TOKEN_PATH=str(other))
    assert refused.returncode == 2 and "another token than the one known here" in refused.stderr
    assert requests.get(f"{state.dashboard}/api/jobs/", timeout=10).status_code == 401

    while alive := [pid for session in state.sessions for pid in session.members()]:
        for pid in alive:  # which is not gone at once, and may have been starting others
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    again = run("cluster", "up", "--nodes", "1", "--cpus", "1")
    assert again.returncode == 0, again.stderr
    now = local_state.read()
    assert now is not None and not state.folder.exists()
    assert run("cluster", "down").returncode == 0
    assert_no_trace(home, now)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_head_that_does_not_start_leaves_nothing(home: Path) -> None:
    """Here since it is told of a token that is not there."""
    code = "from cluster.launch import local; local._VARIABLES['RAY_AUTH_TOKEN_PATH'] = '/absent'; local.up(1, cpus=1)"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=200)
    assert "ClusterError" in done.stderr and "the head of the local cluster did not start" in done.stderr
    assert ours(home) == []
    assert local_state.read() is None and list((home / "t").glob("afcluster-*")) == []


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        ((0, 1, 0), {}, "--nodes must be from 1 to 200, got 0"),
        ((201, 1, 0), {}, "--nodes must be from 1 to 200, got 201"),
        ((2, 0, 0), {}, "--cpus must be from 1"),
        ((2, 1, -1), {}, "--gpus must be from 0"),
        ((2, 1, 0), {"RAY_AUTH_MODE": "disabled"}, "RAY_AUTH_MODE is 'disabled'.*unset RAY_AUTH_MODE"),
        ((2, 1, 2), {"CUDA_VISIBLE_DEVICES": "0,1,2"}, "2 nodes with 2 GPUs each are more than the 3"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(home: Path, monkeypatch, arguments, variables, said) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ClusterError, match=said):
        up(*arguments)
    assert not local_state.state_file().exists() and ours(home) == []


@pytest.mark.parametrize(
    ("given", "nodes", "gpus", "expected"),
    [("0,1,2,3", 2, 2, ["0,1", "2,3"]), ("5,7", 2, 1, ["5", "7"]), ("", 2, 1, ["", ""]), ("0,1", 2, 0, ["", ""])],
)
def test_no_two_nodes_have_the_same_gpu(monkeypatch, given, nodes, gpus, expected) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert local._devices(nodes, gpus) == expected


def test_two_commands_at_once_do_not_meet(home: Path) -> None:
    with local_state.locked(), pytest.raises(ClusterError, match="at work"):
        up(1, cpus=1)
    assert list((home / ".ray").iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"address": 1}', "\xff"])
def test_a_state_that_is_none_is_said_to_be_one(home: Path, text: str) -> None:
    local_state.state_file().parent.mkdir()
    local_state.state_file().write_text(text)
    with pytest.raises(ClusterError, match="cannot be understood"):
        down()
    local_state.state_file().unlink()


def test_nothing_but_its_own_folder_is_removed(home: Path, tmp_path: Path) -> None:
    """Whatever the state says; and the address that Ray was told stays where it is another cluster's."""
    precious, named = tmp_path / "precious", tmp_path / "ray_current_cluster"
    precious.mkdir()
    named.write_text("10.0.0.9:6379")
    gone = Session(2**22 + 1, 1, boot())
    local_state.state_file().parent.mkdir()
    local_state.write(local_state.State("127.0.0.1:1", "http://127.0.0.1:2", precious, named, (gone,)))
    assert down() == "127.0.0.1:1"
    assert precious.exists() and named.exists() and not local_state.state_file().exists()


def test_a_port_that_is_taken_is_not_given_twice() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port
