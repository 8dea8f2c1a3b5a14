"""A real MLflow server on this machine, and a gate in front of it that is open, slow or shut as a test says.

The gate speaks HTTP: shut, it refuses connections and drops those it has, as a server does that has died.
"""

from __future__ import annotations

import http.client
import os
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cluster.launch.local import free_port

PATIENCE = 180.0
Points = dict[str, list[tuple[int, float]]]


class Server:
    """`mlflow server` over a database of its own."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "server.db"
        self.port = free_port()
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.database}"]
        command += ["--artifacts-destination", str(folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet, start_new_session=True)

    def wait(self) -> None:
        """Until it answers."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=10) as answer:
                    if answer.read() == b"OK":
                        return
            except OSError:
                time.sleep(0.2)
        raise TimeoutError("the MLflow server does not answer")

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(60)

    def runs(self, matrix: str) -> dict[str, tuple[str, Points]]:
        """By name the status of each run of a matrix, and the (step, value) of all points of each metric.

        Fails when a run is there twice, or one that belongs to no matrix.
        """
        rows = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30)
        try:
            runs = rows.execute(
                "select r.run_uuid, r.name, r.status, t.value from runs r "
                "left join tags t on t.run_uuid = r.run_uuid and t.key = 'matrix' where r.lifecycle_stage = 'active'"
            ).fetchall()
            points = rows.execute("select run_uuid, key, step, value from metrics order by step").fetchall()
        finally:
            rows.close()
        assert all(of for *_, of in runs), f"a run that belongs to no matrix: {runs}"
        names = {run: name for run, name, _, of in runs if of == matrix}
        assert len(set(names.values())) == len(names), f"a run is there twice: {sorted(names.values())}"
        found: dict[str, tuple[str, Points]] = {name: (status, {}) for run, name, status, _ in runs if run in names}
        for run, key, step, value in points:
            if run in names:
                found[names[run]][1].setdefault(key, []).append((step, value))
        return found


class Gate:
    """What clients of the server talk to: `open`, `slow` by so many seconds a call, or `shut`."""

    def __init__(self, server: Server) -> None:
        self._behind = server.port
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.delay = 0.0
        self.calls = 0
        self.is_open = False
        self._listening: ThreadingHTTPServer | None = None

    def open(self, delay: float = 0.0) -> None:
        """Let calls through, each after `delay` seconds."""
        self.delay, self.is_open = delay, True
        if self._listening is None:
            self._listening = _Listening(("127.0.0.1", self.port), _handler(self))
            threading.Thread(target=self._listening.serve_forever, args=(0.05,), daemon=True).start()

    def shut(self) -> None:
        """Refuse connections."""
        self.is_open = False
        if self._listening is not None:
            self._listening.shutdown()
            self._listening.server_close()
            self._listening = None

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any, bytes]:
        """One call to the server itself."""
        self.calls += 1
        connection = http.client.HTTPConnection("127.0.0.1", self._behind, timeout=60)
        try:
            connection.request(method, path, body, {**headers, "Host": f"127.0.0.1:{self._behind}"})
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


class _Listening(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True


def _handler(gate: Gate) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            time.sleep(gate.delay)
            if not gate.is_open:
                self.close_connection = True
                return
            kept = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
            status, headers, content = gate.forward(self.command, self.path, kept, body)
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler._pass)
    return Handler
