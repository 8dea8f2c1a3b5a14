"""`altformer mlflow-server` in a process, the networks it is reached through, and a real Postgres behind it."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.launch.local import free_port
from tests.faults.process import ROOT, processes_of

PATIENCE = 120.0

# Asks one thing of a server and prints status and body; run as a process, since a test cannot change its network.
ASK = """
import base64, json, os, sys, urllib.error, urllib.request
asked = json.loads(os.environ["ASKED"])
request = urllib.request.Request(asked["url"], asked["body"] and asked["body"].encode(), asked["headers"])
try:
    with urllib.request.urlopen(request, timeout=20) as answer:
        print(json.dumps([answer.status, answer.read().decode(errors="replace")]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, error.read().decode(errors="replace")]))
except OSError as error:
    print(json.dumps([0, str(error)]))
"""


@dataclass(frozen=True)
class Answer:
    """HTTP status (0: none came) and body."""

    status: int
    body: str


class Started:
    """A process in a session of its own, with all that it starts; what it prints goes to a file."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        usual = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        self._log = log
        with log.open("w") as file:
            self._process = subprocess.Popen(
                command,
                env={**kept, **usual, **environment},
                cwd=log.parent,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")

    @property
    def titles(self) -> list[str]:
        """The command lines of its processes."""
        return list(processes_of(self._process.pid).values())

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""
        return self._process.poll()

    def wait(self, seconds: float) -> int:
        """Its exit code; fails with its output when it takes longer."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds:g} s:\n{self.output}") from None

    def close(self) -> None:
        """End all its processes, in an orderly way if they do."""
        for number in (signal.SIGINT, signal.SIGKILL):
            for pid in processes_of(self._process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(30)
                return


class Machine:
    """Where processes run: this machine as it is, or a network namespace of it with an address of its own."""

    def __init__(self, space: str | None = None) -> None:
        self._prefix = ["ip", "netns", "exec", space] if space else []

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Started:
        """A Python with these arguments."""
        return Started([*self._prefix, sys.executable, *arguments], environment, log)

    def ask(self, url: str, login: tuple[str, str] | None = None, body: Any = None, **headers: str) -> Answer:
        """The answer of a server as it is seen from here."""
        if login is not None:
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
        if body is not None:
            headers["Content-Type"] = "application/json"
        asked = {"url": url, "headers": headers, "body": None if body is None else json.dumps(body)}
        done = subprocess.run(
            [*self._prefix, sys.executable, "-c", ASK],
            env={**os.environ, "ASKED": json.dumps(asked)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return Answer(*json.loads(done.stdout))


class Server:
    """`altformer mlflow-server` with these options; a context manager that ends all its processes."""

    def __init__(
        self, out: Path, *options: str, machine: Machine | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.machine, self.port = machine or Machine(), free_port()
        self.folder, self.url = out / "mlflow-server", f"http://127.0.0.1:{self.port}"
        arguments = ["-m", "experiments.cli", "mlflow-server", "--out", str(out), "--port", str(self.port), *options]
        self.process = self.machine.start(arguments, environment or {}, out.parent / f"server-{self.port}.txt")

    @property
    def told(self) -> str:
        """All that anybody on the machine can see of it: what it prints, and its command lines."""
        return "\n".join([self.process.output, *self.process.titles])

    def __enter__(self) -> Server:
        until = time.monotonic() + PATIENCE
        try:
            while self.machine.ask(f"{self.url}/health").body != "OK":
                assert self.process.poll() is None, self.process.output
                assert time.monotonic() < until, f"the server does not answer:\n{self.process.output}"
                time.sleep(0.5)
        except BaseException:
            self.process.close()
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        self.process.close()


@dataclass(frozen=True)
class Network:
    """A server's machine and two clients', each of which knows the server by another address."""

    server: Machine
    clients: tuple[Machine, Machine]
    addresses: tuple[str, str]


@contextmanager
def two_networks() -> Iterator[Network]:
    """Three machines as far as the kernel can make them; skips the test, with the reason, where it may not."""
    spaces = [f"afm{os.getpid()}-{name}" for name in ("s", "a", "b")]
    addresses = ("10.232.1.1", "10.232.2.1")
    with ExitStack() as made:
        for space in spaces:
            _ip("netns", "add", space)
            made.callback(_ip, "netns", "del", space)
            _ip("-n", space, "link", "set", "lo", "up")
        for number, (space, address) in enumerate(zip(spaces[1:], addresses, strict=True)):
            ends = [f"m{number}s{os.getpid() % 100000}", f"m{number}c{os.getpid() % 100000}"]
            _ip("link", "add", ends[0], "netns", spaces[0], "type", "veth", "peer", "name", ends[1], "netns", space)
            for where, end, own in zip((spaces[0], space), ends, (address, f"{address[:-1]}2"), strict=True):
                _ip("-n", where, "addr", "add", f"{own}/24", "dev", end)
                _ip("-n", where, "link", "set", end, "up")
        server, *clients = map(Machine, spaces)
        yield Network(server, (clients[0], clients[1]), addresses)


def _ip(*arguments: str) -> None:
    try:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip()
        pytest.skip(f"machines with networks of their own cannot be made here: {said}")


@contextmanager
def postgres() -> Iterator[str]:
    """The address, with a password, of a real Postgres of its own; skips the test where none is installed."""
    found = [*sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    if not found:
        pytest.skip("Postgres is not installed (apt-get install postgresql)")
    programs, folder, port = found[-1].parent, Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp")), free_port()
    password = secrets.token_urlsafe(12)
    (folder / "password").write_text(password)
    as_owner = []
    if os.getuid() == 0:  # as which it does not run
        as_owner = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres", "postgres")
    process = None
    try:
        made = ["--pgdata", str(folder / "data"), "--username", "mlflow", "--pwfile", str(folder / "password")]
        initdb = [*as_owner, str(programs / "initdb"), *made, "--auth", "scram-sha-256", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, timeout=120, cwd="/")
        settings = [f"port={port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", "fsync=off"]
        command = [*as_owner, str(programs / "postgres"), "-D", str(folder / "data")]
        command += [option for setting in settings for option in ("-c", setting)]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
        ready = [str(programs / "pg_isready"), "--host=127.0.0.1", f"--port={port}"]
        until = time.monotonic() + 60
        while subprocess.run(ready, capture_output=True, timeout=30).returncode:
            assert process.poll() is None and time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.2)
        yield f"postgresql://mlflow:{password}@127.0.0.1:{port}/postgres"
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)
            process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)
