"""What is settled before Ray is asked: addresses, the token, and what is imported when."""

import os
import socket
import stat
import subprocess
import sys
import time

import pytest

from cluster.connection import connect, listens
from cluster.errors import ClusterError


@pytest.fixture
def closed_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening: nobody else is given it, and nobody answers
        yield taken.getsockname()[1]


def test_listens():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert listens(f"127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.parametrize("address", ["", "127.0.0.1", "127.0.0.1:port", "127.0.0.1:99999", "no host:1"])
def test_what_is_no_address_does_not_listen(address):
    assert not listens(address)


@pytest.mark.parametrize("given", ["argument", "environment"])
def test_an_address_where_nothing_answers_is_refused_at_once(closed_port, monkeypatch, given):
    address = f"127.0.0.1:{closed_port}"
    monkeypatch.setenv("RAY_ADDRESS", address if given == "environment" else "local")
    began = time.monotonic()
    with pytest.raises(ClusterError, match=f"no Ray cluster answers at {address}"):
        connect(address if given == "argument" else None)
    assert time.monotonic() - began < 8


def test_ray_client_is_refused_with_the_way_to_do_it():
    with pytest.raises(ClusterError, match=r"Ray Client.*`host:6379`"):
        connect("ray://127.0.0.1:10001")


def test_a_running_clusters_size_cannot_be_set():
    with pytest.raises(ClusterError, match=r"running cluster at 10\.0\.0\.1:6379 cannot be set"):
        connect("10.0.0.1:6379", num_cpus=2)


@pytest.mark.parametrize(("error", "refused"), [(Exception, True), (MemoryError, False)])
def test_a_ray_that_does_not_come_up_in_time_is_no_traceback(error, refused, monkeypatch, tmp_path):
    def init(**settings):
        raise error("The current node timed out during startup.")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("ray.init", init)
    with pytest.raises(ClusterError if refused else error, match="timed out during startup"):
        connect("local")


def python(code, home, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=kept | {"HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SETTLE = (
    "import os\nfrom cluster.connection import authenticate\n"
    "authenticate(create_token={create})\nprint(os.environ.get('RAY_AUTH_MODE'))"
)


@pytest.mark.parametrize(
    ("create", "environment", "mode", "written"),
    [
        (True, {}, "token", True),
        (False, {}, "None", False),  # a cluster whose token is not known here
        (False, {"RAY_AUTH_TOKEN": "secret"}, "token", False),
        (True, {"RAY_AUTH_MODE": "disabled"}, "disabled", False),
    ],
)
def test_authentication_is_settled_explicitly(tmp_path, create, environment, mode, written):
    assert python(SETTLE.format(create=create), tmp_path, **environment) == mode
    token = tmp_path / ".ray" / "auth_token"
    assert token.exists() == written
    if written:
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert len(token.read_text()) == 64


def test_a_token_that_is_there_is_kept(tmp_path):
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("mine")
    assert python(SETTLE.format(create=True), tmp_path) == "token"
    assert (tmp_path / ".ray" / "auth_token").read_text() == "mine"


def test_a_token_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / ".ray").write_text("a file where the folder should be")
    code = (
        "from cluster.connection import authenticate\nfrom cluster.errors import ClusterError\n"
        "try:\n    authenticate(create_token=True)\nexcept ClusterError as error:\n    print(error)"
    )
    assert "cannot write Ray's access token" in python(code, tmp_path)


def test_a_plan_needs_neither_ray_nor_torch(tmp_path):
    code = (
        "import sys, cluster.work, cluster.resources, cluster.progress, cluster.connection\n"
        "print(sorted({'ray', 'torch', 'mlflow'} & set(sys.modules)))"
    )
    assert python(code, tmp_path) == "[]"
