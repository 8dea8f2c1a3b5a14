"""An MLflow server's door: who is let in, by which names, with what in its command and its environment."""

from __future__ import annotations

import configparser
import os
import stat
import sys
from pathlib import Path

import pytest

from cluster.errors import ClusterError
from cluster.mlflow_server import (
    Door,
    backend,
    check_backend,
    check_host,
    check_names,
    make_login,
    own_names,
    server_command,
)
from cluster.tracking.location import StoreLocation, resolve

SECRET = "pl4nted-S3cret"
OTHERS = ["0.0.0.0", "::", "192.168.1.5", "example.org", "127.0.0.1.example.org", "", "1"]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("has_login", [True, False])
@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("::1", "::1")])
def test_loopback_needs_no_login(host: str, address: str, has_login: bool) -> None:
    assert check_host(host, has_login) == address


@pytest.mark.parametrize("host", OTHERS)
def test_what_others_reach_is_refused_without_a_login_and_the_way_out_said(host: str) -> None:
    with pytest.raises(ClusterError, match=r"asks for no password.*ssh -L.*altformer mlflow-server --auth.*TLS"):
        check_host(host, has_login=False)


def test_with_a_login_any_address_is_listened_on_but_no_name() -> None:
    assert [check_host(host, has_login=True) for host in ("0.0.0.0", "::", "10.0.0.5")] == ["0.0.0.0", "::", "10.0.0.5"]
    with pytest.raises(ClusterError, match=r"--host example\.org: give an address .*--name"):
        check_host("example.org", has_login=True)


def test_names_of_hosts() -> None:
    assert check_names(["node-1", "mlflow.example.org", "10.0.0.5", "node-1"]) == (
        "node-1",
        "mlflow.example.org",
        "10.0.0.5",
    )
    assert all(check_names([name]) for name in own_names())


@pytest.mark.parametrize(
    "name", ["*", "*.example.org", "a,b", "http://a", "a:5000", "", "a b", "-a", "a/b", "[::1]", "a.", "?"]
)
def test_what_is_no_name_of_a_host(name: str) -> None:
    with pytest.raises(ClusterError, match="neither a host's name nor an IPv4 address"):
        check_names([name])


@pytest.mark.parametrize(
    ("door", "allowed", "refused"),
    [
        (
            Door("127.0.0.1", 5000),
            ["localhost", "localhost:5001", "127.0.0.1:5000", "[::1]:5000"],
            ["evil", "10.0.0.5"],
        ),
        (Door("127.0.1.1", 5000), ["127.0.1.1:5000", "127.0.1.1"], ["127.0.1.10:5000", "127.0.1.1.evil:5000"]),
        (
            Door("0.0.0.0", 5000, ("n1", "10.0.0.5")),
            ["n1", "n1:443", "10.0.0.5:5000"],
            ["0.0.0.0:5000", "n1.evil", "n2"],
        ),
        (Door("fd00::5", 5000, ("n1",)), ["[fd00::5]:5000", "n1:5000"], ["[fd00::6]:5000", "f:5000", "evil.n1"]),
    ],
)
def test_it_answers_to_its_names_only_as_mlflow_reads_them(door: Door, allowed: list[str], refused: list[str]) -> None:
    from mlflow.server.security_utils import is_allowed_host_header

    hosts = ",".join(door.allowed_hosts).split(",")
    assert [host for host in allowed if not is_allowed_host_header(hosts, host)] == []
    assert [host for host in refused if is_allowed_host_header(hosts, host)] == []


def test_its_own_pages_may_change_something_and_no_others() -> None:
    from mlflow.server.security_utils import should_block_cors_request

    origins = Door("0.0.0.0", 5000, ("n1",)).allowed_origins
    own = ["http://n1:5000", "https://n1", "http://localhost:5000"]
    others = ["http://evil", "http://n1.evil", "http://n1:5000.evil", "https://n10"]
    assert [origin for origin in own if should_block_cors_request(origin, "POST", origins)] == []
    assert [origin for origin in others if not should_block_cors_request(origin, "POST", origins)] == []
    assert not [origin for origin in origins if set(origin) & set("*[]?\\^$")], "flask-cors takes these for patterns"


@pytest.mark.parametrize(
    ("door", "url"),
    [
        (Door("127.0.0.1", 5000), "http://127.0.0.1:5000"),
        (Door("0.0.0.0", 5001, ("n1", "n2")), "http://n1:5001"),
        (Door("0.0.0.0", 5001), "http://127.0.0.1:5001"),
        (Door("::1", 5000), "http://[::1]:5000"),
    ],
)
def test_its_address(door: Door, url: str) -> None:
    assert door.url == url


def test_no_secret_is_on_the_command_line_and_no_door_is_opened_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ALLOW_PICKLE_DESERIALIZATION", "SERVER_ENABLE_JOB_EXECUTION", "SERVER_DISABLE_SECURITY_MIDDLEWARE"):
        monkeypatch.setenv(f"MLFLOW_{name}", "true")
    monkeypatch.setenv("MLFLOW_BACKEND", f"postgresql://user:{SECRET}@host/db")
    login = make_login(tmp_path / "login")
    password = login.password_file.read_text()
    command, environment = server_command(backend(tmp_path), Door("0.0.0.0", 5000, ("n1",), login))
    line = " ".join(command)
    assert SECRET not in line and password not in line
    assert "--app-name basic-auth" in line and "--serve-artifacts" in line
    assert line.startswith(f"{sys.executable} -m mlflow server --host 0.0.0.0 --port 5000 ")
    assert environment["MLFLOW_BACKEND_STORE_URI"] == f"postgresql://user:{SECRET}@host/db"
    assert environment["MLFLOW_AUTH_ADMIN_PASSWORD"] == password
    assert environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE" not in environment


def test_without_a_login_there_is_none(tmp_path: Path) -> None:
    command, environment = server_command(resolve(tmp_path), Door("127.0.0.1", 5000))
    assert "--app-name" not in command
    assert not [name for name in environment if name.startswith("MLFLOW_AUTH")]


def test_the_login_is_closed_to_others_and_stays(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        login = make_login(tmp_path / "login")
    finally:
        os.umask(before)
    files = sorted(login.folder.iterdir())
    assert [path.name for path in files] == ["admin-password", "basic_auth.ini", "secret-key"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE(login.folder.stat().st_mode) == 0o700
    first = login.environment
    assert len({first["MLFLOW_AUTH_ADMIN_PASSWORD"], first["MLFLOW_FLASK_SERVER_SECRET_KEY"]}) == 2
    assert make_login(tmp_path / "login").environment == first
    assert (
        make_login(tmp_path / "another").environment["MLFLOW_AUTH_ADMIN_PASSWORD"]
        != first["MLFLOW_AUTH_ADMIN_PASSWORD"]
    )
    config = configparser.ConfigParser()
    config.read(first["MLFLOW_AUTH_CONFIG_PATH"])
    assert config["mlflow"]["database_uri"] == f"sqlite:///{login.folder / 'users.db'}"
    assert "admin_password" not in config["mlflow"]


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ClusterError, match=r"cannot keep the server's login.*--out"):
        make_login(tmp_path / "file" / "login")


def test_the_package_for_a_login_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ClusterError, match=r"--auth needs a package .*pip install 'Flask-WTF'"):
        make_login(tmp_path)


def test_runs_are_kept_apart_from_those_of_this_machine(tmp_path: Path) -> None:
    own = backend(tmp_path)
    assert own.database == tmp_path / "mlflow-server" / "mlflow.db"
    assert own.artifacts == tmp_path / "mlflow-server" / "mlartifacts"
    assert own.database != resolve(tmp_path).database


def test_the_postgres_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_BACKEND", f" postgresql://user:{SECRET}@host/db ")
    found = backend(tmp_path)
    assert (found.uri, found.database) == (f"postgresql://user:{SECRET}@host/db", None)
    assert found.artifacts == tmp_path / "mlflow-server" / "mlartifacts"


@pytest.mark.parametrize(
    "given", ["http://user:{}@host", "mysql://user:{}@host/db", "/some/folder", "postgres://u:{}@h/d"]
)
def test_other_backends_are_refused_without_their_password(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_BACKEND", given.format(SECRET))
    with pytest.raises(ClusterError, match=r"MLFLOW_BACKEND=.*postgresql://, user and password") as refused:
        backend(tmp_path)
    assert SECRET not in str(refused.value)


def test_a_postgres_that_does_not_answer_is_said_without_its_password(tmp_path: Path) -> None:
    location = StoreLocation(f"postgresql+psycopg://user:{SECRET}@127.0.0.1:1/db", tmp_path)
    with pytest.raises(ClusterError, match=r"MLFLOW_BACKEND: cannot use postgresql\+psycopg://\*\*\*@127") as refused:
        check_backend(location)
    assert SECRET not in str(refused.value)


def test_a_driver_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ClusterError, match=r"pip install 'psycopg\[binary\]'"):
        check_backend(StoreLocation("postgresql+psycopg://user@host/db", tmp_path))
