"""`altformer mlflow-server`: what it refuses, and real clients on several machines that log through it at once."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from experiments.cli import main
from tests.experiments.conftest import SETTINGS
from tests.experiments.served_mlflow import PATIENCE, Answer, Machine, Network, Server, Started, postgres, two_networks
from tests.faults.harness import Matrix
from tests.small import as_options

SEARCH = "/api/2.0/mlflow/experiments/search?max_results=10"
FILES = {"config.yaml", "record.json", "environment.txt", "log.txt"}  # of every cell


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_BACKEND"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_nothing_listens_where_others_reach_it_without_a_password(host: str, tmp_path: Path, capsys: Any) -> None:
    assert main(["mlflow-server", "--out", str(tmp_path), "--host", host]) == 2
    said = capsys.readouterr().err
    assert "asks for no password" in said and "--auth" in said and "ssh -L" in said
    assert list(tmp_path.iterdir()) == []


def test_it_says_how_clients_reach_it_and_no_password(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr("experiments.mlflow_server_command.become", lambda command, environment: None)
    given = [
        "--host",
        "0.0.0.0",
        "--port",
        "18600",
        "--name",
        "node1",
        "--name",
        "10.0.0.5",
        "mlflow.example.org",
        "--auth",
    ]
    main(["mlflow-server", "--out", str(tmp_path), *given])
    said = capsys.readouterr().out
    assert "answers to localhost, node1, 10.0.0.5, mlflow.example.org;" in said
    assert "export MLFLOW_TRACKING_URI=http://node1:18600" in said
    password = tmp_path / "mlflow-server" / "login" / "admin-password"
    assert str(password) in said and password.read_text() not in said


@pytest.mark.slow
def test_who_is_let_in(tmp_path: Path) -> None:
    """On loopback, with a login: what a stranger gets, what a user, and what a request by another name."""
    with Server(tmp_path / "runs", "--auth") as server:
        here = server.machine
        admin = ("admin", (server.folder / "login" / "admin-password").read_text())
        closed = [
            SEARCH,
            "/api/2.0/mlflow-artifacts/artifacts?path=",
            "/",
            "/get-artifact",
            "/graphql",
            "/api/2.0/mlflow/users/get",
        ]
        assert {path: here.ask(server.url + path).status for path in closed} == dict.fromkeys(closed, 401)
        for wrong in ("password1234", "", "admin"):  # the first was MLflow's own for years
            assert here.ask(server.url + SEARCH, ("admin", wrong)).status == 401
        assert here.ask(server.url + SEARCH, admin).status == 200
        assert here.ask(server.url + SEARCH, admin, Host="evil.example.org").status == 403
        assert here.ask(server.url + SEARCH, admin, Host=f"localhost:{server.port + 1}").status == 200
        body = {"name": "x"}
        create = server.url + "/api/2.0/mlflow/experiments/create"
        assert here.ask(create, admin, body, Origin="http://evil.example.org").status == 403
        assert here.ask(create, admin, body, Origin=server.url).status == 200
        users = [(name, secrets.token_urlsafe(12)) for name in ("a", "b")]
        for name, password in users:
            user = {"username": name, "password": password}
            assert here.ask(f"{server.url}/api/2.0/mlflow/users/create", admin, user).status == 200
        assert_users_log_together_and_delete_their_own(server, *users)
        said = server.told
        assert admin[1] not in said and (server.folder / "login" / "secret-key").read_text() not in said


def assert_users_log_together_and_delete_their_own(server: Server, a: tuple[str, str], b: tuple[str, str]) -> None:
    """What `a` has made, `b` may add to, but not delete; nor may `b` make users."""

    def ask(user: tuple[str, str], call: str, **body: Any) -> Answer:
        return server.machine.ask(f"{server.url}/api/2.0/mlflow/{call}", user, body)

    made = ask(a, "experiments/create", name="of a")
    experiment = json.loads(made.body)["experiment_id"]
    run = json.loads(ask(b, "runs/create", experiment_id=experiment).body)["run"]["info"]["run_id"]
    assert ask(b, "runs/log-parameter", run_id=run, key="lr", value="1").status == 200
    assert ask(b, "runs/delete", run_id=run).status == 403
    assert ask(b, "experiments/delete", experiment_id=experiment).status == 403
    assert ask(b, "users/create", username="c", password="a long password").status == 403
    assert ask(a, "experiments/delete", experiment_id=experiment).status == 200


def train(machine: Machine, folder: Path, uri: str, environment: dict[str, str], seeds: range) -> Started:
    """Trainings one after the other that are logged at `uri`; the process that does them."""
    common = ["train", "--cfg", "simulated", "--mlflow", "--device", "cpu", "--threads", "1"]
    folder.mkdir()
    code = ["from experiments.cli import main"]
    for seed in seeds:
        given = [
            *common,
            "--experiment_name",
            f"seed{seed}",
            "--out",
            str(folder / "runs"),
            *as_options(SETTINGS),
        ]
        code.append(f"assert main({[*given, '--seed', str(seed)]!r}) == 0")
    (folder / "client.py").write_text("\n".join(code))
    return machine.start(
        [str(folder / "client.py")], {**environment, "MLFLOW_TRACKING_URI": uri}, folder / "output.txt"
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_clients_on_two_machines_log_through_it_at_once(tmp_path: Path) -> None:
    """Over a network, by an address that each knows, as users that are no administrators."""
    with two_networks() as network:
        places = ["--host", "0.0.0.0", "--name", *network.addresses]
        with Server(tmp_path / "runs", "--auth", *places, machine=network.server) as server:
            admin = ("admin", (server.folder / "login" / "admin-password").read_text())
            clients, passwords = [], []
            uris = [f"http://{address}:{server.port}" for address in network.addresses]
            assert_strangers_are_refused(network, uris, server.port)
            for number, (machine, uri) in enumerate(zip(network.clients, uris, strict=True)):
                user = {"username": f"trainer{number}", "password": secrets.token_urlsafe(12)}
                made = server.machine.ask(f"{server.url}/api/2.0/mlflow/users/create", admin, user)
                assert made.status == 200, made
                passwords.append(user["password"])
                login = {f"MLFLOW_TRACKING_{key.upper()}": value for key, value in user.items()}
                seeds = range(2 * number, 2 * number + 2)
                clients.append(train(machine, tmp_path / f"client{number}", uri, login, seeds))
            try:
                for client in clients:
                    assert client.wait(PATIENCE * 2) == 0, client.output
                    assert "MLflow at" not in client.output, "that something was not logged"
            finally:
                for client in clients:
                    client.close()
            told = server.told + "".join(client.output for client in clients)
            assert not [password for password in passwords if password in told]
        with closing(sqlite3.connect(server.folder / "mlflow.db")) as database:
            assert_each_run_once(database, [f"seed{seed}" for seed in range(4)], server.folder / "mlartifacts")


def assert_strangers_are_refused(network: Network, uris: list[str], port: int) -> None:
    """Without a password, and by a name that the server has not been given."""
    for machine, uri in zip(network.clients, uris, strict=True):
        assert machine.ask(uri + SEARCH).status == 401
        assert machine.ask(uri + SEARCH, Host=f"unknown:{port}").status == 403


def assert_each_run_once(database: Any, names: list[str], artifacts: Path) -> None:
    """Every run is there once and complete, with every epoch's metrics once and its files on the server's disk once."""
    runs = database.execute("select run_uuid, name, status from runs where lifecycle_stage = 'active'").fetchall()
    assert sorted((name, status) for _, name, status in runs) == [(name, "FINISHED") for name in names]
    for run, name, _ in runs:
        points = database.execute("select key, step from metrics where run_uuid = ?", (run,)).fetchall()
        assert max(Counter(points).values()) == 1, name
        assert [step for key, step in sorted(points) if key == "val_mae"] == list(range(1, SETTINGS["epochs"] + 1))
        [folder] = artifacts.glob(f"*/{run}/artifacts")
        kept = Counter(path.name for path in folder.rglob("*") if path.is_file())
        assert {file: kept[file] for file in FILES} == dict.fromkeys(FILES, 1), name
        assert list(folder.glob("best_checkpoint/model.safetensors")), name
    assert database.execute("select count(*) from experiments where name = 'altformer'").fetchone() == (1,)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_matrix_is_kept_in_a_real_postgres(tmp_path: Path) -> None:
    import psycopg

    matrix = Matrix(tmp_path, seeds=1, epochs=2)
    with postgres() as address, Server(tmp_path / "served", environment={"MLFLOW_BACKEND": address}) as server:
        password = address.split(":")[2].split("@")[0]
        process = matrix.start(env={"MLFLOW_TRACKING_URI": server.url}, mlflow=True)
        try:
            assert process.wait() == 0, process.output
            assert "MLflow at" not in process.output, process.output
        finally:
            process.close()
        with psycopg.connect(address) as database:
            rows = database.execute("select name, status from runs where lifecycle_stage = 'active'").fetchall()
            points = database.execute("select run_uuid, key, step from metrics where key = 'val_mae'").fetchall()
        assert sorted(status for _, status in rows) == ["FINISHED"] * 3, "the matrix and its two cells"
        assert len(points) == len(set(points)) == 4, "two epochs of two cells"
        assert len([*server.folder.glob("mlartifacts/*/*/artifacts/record.json")]) == 2
        assert len([*server.folder.glob("mlartifacts/*/*/artifacts/report.html")]) == 1
        assert not [*server.folder.glob("*.db")]
        assert password not in server.told + process.output
        told = [path.read_bytes() for path in [*server.folder.rglob("*"), *matrix.out.rglob("*")] if path.is_file()]
        assert not [text for text in told if password.encode() in text]


@pytest.mark.slow
def test_a_wrong_password_for_postgres_is_one_sentence(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    with postgres() as address:
        right = address.split(":")[2].split("@")[0]
        monkeypatch.setenv("MLFLOW_BACKEND", address.replace(right, "wr0ng-password"))
        assert main(["mlflow-server", "--out", str(tmp_path), "--port", "18601"]) == 2
    said = capsys.readouterr().err
    assert "password authentication failed" in said and "Traceback" not in said
    assert "wr0ng-password" not in said and len(said.splitlines()) == 1
    assert not (tmp_path / "mlflow-server").exists()
