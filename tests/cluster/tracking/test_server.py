"""A matrix recorded through a real MLflow server on this machine."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.tracking.location import StoreLocation, resolve
from cluster.tracking.no_tracker import MatrixRun
from cluster.tracking.tracker import Tracker
from cluster.tracking.values import clean_key
from cluster.work import Ended, Outcome, Work

pytestmark = pytest.mark.slow
PATIENCE = 120.0


class Server:
    """`mlflow server` over the test's database, to be started and killed at will; its address stays."""

    def __init__(self, store: StoreLocation) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.store = store
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", self.store.uri, "--artifacts-destination", str(self.store.artifacts)]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                if self.get("/health") == b"OK":
                    return
            except OSError:
                time.sleep(0.2)
        raise TimeoutError("the server does not answer")

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.uri + path, timeout=10) as answer:
            return bytes(answer.read())

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None


@pytest.fixture
def server(location: StoreLocation) -> Iterator[Server]:
    server = Server(location)
    server.start()
    yield server
    server.stop()


def test_a_matrix_through_a_server_that_dies_and_comes_back(server: Server, database: Any, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 0")
    awkward = {"<b>&_../x": "<b>&_../x", "empty": "", "long": "ü" * 5000, "quote": 'it\'s "so"\n= 1'}
    cell = Work("k", "a <b> seed 0", {}, {**{f"p{k}": "ü" * 5000 for k in range(120)}, **awkward}, awkward)
    track = Tracker(
        resolve(tmp_path, server.uri),
        MatrixRun("depth", "depth", tags={"note": "x"}),
        cell_artifacts=lambda *args: [(tmp_path / "config.yaml", "in/folder")],
    )
    track.matrix_started([cell], 1)
    track.cell_started(cell)
    track.cell_epoch(cell, {"epoch": 1, "val_mae": 3.0, "nan": math.nan, "inf": math.inf})
    assert track.flush(PATIENCE)
    server.stop()
    for epoch in range(2, 500):
        began = time.perf_counter()
        track.cell_epoch(cell, {"epoch": epoch, "val_mae": 1.0, "a": 1.0, "b": 2.0})
        assert time.perf_counter() - began < 1.0
    assert not track.flush(PATIENCE)
    assert server.uri in str(track.problem)
    server.start()
    track.cell_ended(cell, Ended("stopped", {"test_mae": 2.0}))
    track.matrix_ended(Outcome({}, (), None, 1, 0.0))
    assert track.close(PATIENCE)
    assert track.problem is None

    name = "a <b> seed 0"
    assert database.runs() == {"depth": "FINISHED", name: "KILLED"}
    points = database.points(name)
    assert [step for step, _ in points["val_mae"]] == list(range(1, 500))
    assert [step for step, _ in points["a"]] == list(range(2, 500))
    assert math.isnan(points["nan"][0][1])
    assert points["inf"] == [(1, sys.float_info.max)]
    assert points["test_mae"] == [(0, 2.0)]
    expected = {clean_key(key): value for key, value in {**cell.params, **awkward}.items()}
    assert database.params(name) == expected
    assert database.tags(name).items() >= {clean_key(key): value for key, value in awkward.items()}.items()
    url = track.url("k")
    assert url is not None
    assert url.startswith(f"{server.uri}/#/experiments/")
    assert url.endswith(f"/runs/{database.run_id(name)}")
    artifact = f"/get-artifact?path=in/folder/config.yaml&run_uuid={database.run_id(name)}"
    assert server.get(artifact) == b"seed: 0"
