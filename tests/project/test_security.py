"""What must hold whoever writes the data, the configuration and the names, and that no secret is written down."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import pickle
import re
import secrets
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from altformer.errors import UserError
from altformer.train import train
from altformer.training.context import BareContext
from cluster.redaction import SECRETS_BY_FORM, redact
from experiments.cell import Machine, make_cell
from experiments.cli import main
from tests.faults.harness import Matrix
from tests.faults.process import ROOT, Process
from tests.project.planted import VARIABLES

THREATS = ROOT / "cluster" / "SECURITY.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def named_tests() -> list[tuple[str, str]]:
    return sorted(set(NAMED.findall(THREATS.read_text())))


@pytest.mark.parametrize(("file", "name"), named_tests())
def test_each_test_that_the_threat_model_names_exists(file: str, name: str) -> None:
    functions = {node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)}
    assert name in functions


def test_every_threat_has_its_test() -> None:
    rows = [line for line in THREATS.read_text().splitlines() if line.startswith("| ") and "may try" not in line]
    threats = [row for row in rows if len(row.strip("| ").split(" | ")) == 3 and "::" in row]
    assert len(named_tests()) > 20 and len(threats) > 10


# Secrets


class Planted:
    """Secrets of several kinds, each unlike anything else."""

    def __init__(self) -> None:
        self.variables = {name: f"plant{number}{secrets.token_hex(12)}" for number, name in enumerate(VARIABLES)}
        self.variables["AWS_ACCESS_KEY_ID"] = "AKIA" + secrets.token_hex(8).upper()
        self.variables["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        self.database = secrets.token_hex(10)
        self.variables["DATABASE_URL"] = f"postgresql://me:{self.database}@host/db"
        self.texts = {
            name: secrets.token_hex(10)
            for name in ("password", "x_token", "api_key", "uri", "bearer", "argument", "blank")
        }
        self.text = (
            f"x_token={self.texts['x_token']} {{'api_key': '{self.texts['api_key']}', 'password': "
            f'"{self.texts["password"]}"}} at https://me:{self.texts["uri"]}@host/x, '
            f"Authorization: Bearer {self.texts['bearer']}"
        )
        self.arguments = [
            "--set",
            f"model.options.x_token={self.texts['argument']}",
            "--password",
            f"with {self.texts['blank']} in it",
            f"--address=ray://me:{self.texts['uri']}@head:10001",
        ]

    @property
    def environment(self) -> dict[str, str]:
        """What a run is started with."""
        planted = {"PLANTED_TEXT": self.text, "PLANTED_ARGUMENTS": json.dumps(self.arguments)}
        return {**self.variables, **planted, "RAY_AUTH_MODE": "token"}

    def found_in(self, content: bytes) -> list[str]:
        """The names of those that stand in it."""
        known = {**self.variables, **self.texts, "DATABASE_URL": self.database}
        return [name for name, value in known.items() if value.encode() in content]


@pytest.mark.slow
@pytest.mark.ray
def test_planted_secrets_are_in_no_file_of_a_run(tmp_path: Path) -> None:
    """In the command line and in the words of a cell that fails; records, logs, MLflow and reports are read."""
    planted = Planted()
    given_away = " ".join([planted.text, *planted.arguments, *planted.variables.values()]).encode()
    assert set(planted.found_in(given_away)) == {*planted.variables, *planted.texts}
    fails = {"model": {"class": "tests.project.planted:SaysSecrets"}}
    matrix = Matrix(tmp_path, arms={"good": {}, "fails": fails}, epochs=1)
    given = ["ablate", str(matrix.file), "--out", str(matrix.out), "--profile", "full", "--probe-seconds", "0"]
    process = Process(given, tmp_path, planted.environment, matrix, program="tests.project.planted")
    try:
        assert process.wait() == 1, process.output
    finally:
        process.close()
    failed, done = matrix.records()["fails", 0], matrix.records()["good", 0]
    assert (failed["status"], done["status"]) == ("failed", "done")
    assert "planted: cannot log in" in failed["error"], "the text with the secrets has arrived"
    assert "x_token=***" in failed["error"] and "https://***@host/x" in failed["error"]
    shown = "--set 'model.options.x_token=***' --password '***' '--address=ray://***@head:10001'"
    assert done["provenance"]["command"].endswith(shown)
    assert any(event["kind"] == "cell_ended" and "planted" in (event["text"] or "") for event in matrix.events())
    files = [path for path in matrix.out.rglob("*") if path.is_file()]
    kinds = {path.name for path in files}
    assert {"record.json", "log.txt", "events.jsonl", "plan.json", "report.md", "report.html", "mlflow.db"} <= kinds
    assert {str(path): found for path in files if (found := planted.found_in(path.read_bytes()))} == {}
    assert planted.found_in(process.output.encode()) == []
    with closing(sqlite3.connect(matrix.out / "mlflow.db")) as database:
        logged = "\n".join(database.iterdump())  # in the file itself a text may be in pieces
    assert "planted: cannot log in" in logged, "the tag of the failed run"
    assert planted.found_in(logged.encode()) == []


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"x_token": "abcdefgh"}, "model.options.x_token"),
        ({"url": "https://me:abcdefgh@host"}, "model.options.url"),
    ],
)
def test_a_configuration_holds_no_secret(options: dict[str, str], field: str, tiny, tmp_path: Path) -> None:
    model = {"type": "own", "class_path": "tests.faults.models:Plain", "options": options}
    config = type(tiny).model_validate({**tiny.model_dump(), "model": model})
    with pytest.raises(UserError, match=rf"{field} holds a secret, .*environment variable") as refused:
        make_cell(config, Machine(), "data", tmp_path)
    assert "abcdefgh" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def tracked_files() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_secret_is_committed() -> None:
    """Neither this machine's Ray token, nor keys by their form, nor files that hold secrets by their name."""
    own = Path.home() / ".ray" / "auth_token"
    token = own.read_bytes().strip() if own.is_file() else b""
    assigned = re.compile(r"(?i)(?:auth_?token|password|secret)[\"']?\s*[:=]\s*[\"']?[0-9a-f]{32,}")
    found = []
    for path in tracked_files():
        content = path.read_bytes()
        text = content.decode(errors="replace")
        if path.name in ("auth_token", "admin-password", "secret-key") or path.suffix in (".pem", ".key"):
            found.append(f"{path}: by its name")
        if (token and token in content) or SECRETS_BY_FORM.search(text) or assigned.search(text):
            found.append(f"{path}: by what is in it")
    assert found == []


def test_rays_token_is_never_printed(tmp_path: Path) -> None:
    code = (
        "from cluster.connection import authenticate; authenticate(create_token=True); authenticate(create_token=True)"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = kept | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    token = tmp_path / ".ray" / "auth_token"
    assert done.returncode == 0 and token.stat().st_mode & 0o777 == 0o600
    token.chmod(0o644)  # as `ray get-auth-token --generate` leaves it
    again = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert "could be read by other users" in again.stderr and token.stat().st_mode & 0o777 == 0o600
    assert token.read_text() not in done.stdout + done.stderr + again.stdout + again.stderr


def raised_texts() -> list[tuple[str, str]]:
    """Every text in a raise statement of ours, with X for what is put into it."""
    found = []
    for package in ("altformer", "cluster", "experiments", "ablations"):
        for path in sorted((ROOT / package).rglob("*.py")):
            raised = [
                node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Raise) and node.exc
            ]
            for node in (part for one in raised for part in ast.walk(one)):
                if isinstance(node, ast.JoinedStr):
                    parts = [str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values]
                    found.append((f"{path.name}:{node.lineno}", "".join(parts)))
    return found


def test_no_message_of_ours_is_taken_for_a_secret() -> None:
    texts = raised_texts()
    assert len(texts) > 300
    assert [(place, text) for place, text in texts if redact(text, {}) != text] == []


# Code where data is expected


class Hostile:
    """Pickled, it makes a file when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


class LeavesAfterOneEpoch(BareContext):
    """So that a checkpoint is there to go on from."""

    left = False

    def report(self, metrics):
        self.left = True

    def should_stop(self):
        return "interrupted" if self.left else None


def test_a_hostile_checkpoint_whose_sums_are_right_runs_nothing(tiny, traffic, tmp_path: Path) -> None:
    config = tiny.model_copy(update={"training": tiny.training.model_copy(update={"steps_per_epoch": 1, "epochs": 2})})
    train(config, traffic, LeavesAfterOneEpoch(), tmp_path / "run")
    [folder] = (tmp_path / "run" / "checkpoints").glob("epoch-*")
    content = pickle.dumps(Hostile(tmp_path / "it-ran"), protocol=2)
    (folder / "state.pt").write_bytes(content)
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    (folder / "sums.json").write_text(json.dumps({name: value for name, value in sums.items() if name != "sums.json"}))
    with pytest.raises(pickle.UnpicklingError, match=r"(?i)weights.only"):
        train(config, traffic, BareContext(), tmp_path / "run")
    assert not (tmp_path / "it-ran").exists()
    pickle.loads(content)
    assert (tmp_path / "it-ran").exists(), "it would have"


PICKLED = """
import sys
from pathlib import Path
import mlflow

class Harmless(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input

mlflow.pyfunc.save_model(sys.argv[1], python_model=Harmless())
from cluster.tracking.location import resolve
from cluster.tracking.runs import connect
connect(resolve(Path(sys.argv[2]), ""))
try:
    mlflow.pyfunc.load_model(sys.argv[1])
except mlflow.exceptions.MlflowException as error:
    print("refused:", error)
"""


@pytest.mark.slow
def test_a_pickled_model_is_not_loaded(tmp_path: Path) -> None:
    """Wherever AltFormer has to do with MLflow; what it promotes itself has no pickle in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, "-c", PICKLED, str(tmp_path / "model"), str(tmp_path / "runs")],
        env=kept | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert list((tmp_path / "model").rglob("*.pkl")), "it was pickled"
    assert "refused:" in done.stdout and "MLFLOW_ALLOW_PICKLE_DESERIALIZATION" in done.stdout, done.stderr


@pytest.mark.parametrize("command", ["mlflow-ui", "mlflow-server"])
@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::"])
def test_no_server_of_ours_listens_where_others_reach_it_without_a_password(
    command: str, host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mlflow.db").touch()
    assert main([command, "--out", str(tmp_path), "--host", host]) == 2
    assert "altformer mlflow-server --auth" in capsys.readouterr().err
