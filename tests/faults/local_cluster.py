"""A Ray cluster of several nodes on this machine, started as by hand, whose nodes can be killed and come back."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cluster.launch.local import free_port
from cluster.secret_file import make_secret
from tests.faults.models import FOLDER
from tests.faults.process import MARKS, ROOT, processes_of

STORE_BYTES = 100_000_000


def private(folder: Path) -> dict[str, str]:
    """Variables that keep a cluster apart from others: a token of its own, and Ray's files in `folder`."""
    make_secret(folder / "token")
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_TMPDIR": str(folder),
    }


class Node:
    """One `ray start --block`, in a session of its own: the node's processes are those of the session.

    `prefix` is a command that runs another one in its own place.
    """

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], log: Path, prefix: Sequence[str] = ()
    ) -> None:
        command = [*prefix, sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        command += [f"--dashboard-agent-listen-port={free_port()}", f"--object-store-memory={STORE_BYTES}", *arguments]
        with log.open("w") as file:
            self.popen = subprocess.Popen(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        self.log = log
        self.address = ""

    @classmethod
    def started(
        cls,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        prefix: Sequence[str] = (),
        tries: int = 3,
    ) -> Node:
        """A node that has started; Ray gives it 30 s to do so, which a busy machine may not have."""
        node = cls(arguments, environment, log, prefix)
        deadline = time.monotonic() + 120
        while "Ray runtime started" not in log.read_text():
            if node.popen.poll() is not None:
                node.close()
                assert tries > 1, log.read_text()
                return cls.started(arguments, environment, log, prefix, tries - 1)
            if time.monotonic() > deadline:
                node.close()
                raise AssertionError(f"no node within two minutes: {log.read_text()}")
            time.sleep(0.1)
        return node

    def pids_of(self, title: str) -> list[int]:
        """Its processes whose title contains this, the oldest first."""
        return sorted(pid for pid, shown in processes_of(self.popen.pid).items() if title in shown)

    def kill(self, title: str = "raylet/raylet") -> None:
        """kill -9 of its raylet, with which the node is lost."""
        [pid] = self.pids_of(title)
        os.kill(pid, signal.SIGKILL)

    def wait_for(self, title: str, timeout: float = 60.0) -> int:
        """Wait until it has such a process; the oldest one."""
        deadline = time.monotonic() + timeout
        while not (found := self.pids_of(title)):
            assert self.popen.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"no {title}: {self.log.read_text()}"
            time.sleep(0.1)
        return found[0]

    def close(self) -> None:
        """End all its processes."""
        for pid in processes_of(self.popen.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.popen.wait()


class LocalCluster:
    """A head, where drivers run, and the nodes that are added; a context manager.

    `folder` is where models find the marks of faults ($ALTFORMER_FAULTS), that of the matrix to be run.
    """

    def __init__(self, folder: Path, head_cpus: int = 0) -> None:
        self.temp = Path(tempfile.mkdtemp(prefix="rf-", dir="/tmp"))
        marks = folder / MARKS
        marks.mkdir(parents=True, exist_ok=True)
        #: for drivers too
        self.environment = private(self.temp)
        own = {"PYTHONPATH": str(ROOT), FOLDER: str(marks), "OMP_NUM_THREADS": "1"}
        self._begin({**os.environ, **self.environment, **own}, head_cpus, ["--include-dashboard=false"])

    def _begin(self, environment: Mapping[str, str], cpus: int, options: Sequence[str]) -> None:
        """Start the head with these options of `ray start`."""
        self.address = f"127.0.0.1:{free_port()}"
        self.nodes: list[Node] = []
        self._environment, self._started = environment, 0
        port = self.address.rpartition(":")[2]
        head = ["--head", f"--port={port}", "--node-ip-address=127.0.0.1", f"--num-cpus={cpus}"]
        self.head = self._start([*head, f"--temp-dir={self.temp}", *options])

    def add(self, cpus: int) -> Node:
        """A further node; returns when the cluster has it.

        Each has an address of its own, as machines have: a driver belongs to the first node with its address, and that
        must be the head.
        """
        own = f"127.0.1.{self._started}"
        options = [f"--node-ip-address={own}", f"--num-cpus={cpus}", *self._options_of_next()]
        node = self._start([f"--address={self.address}", *options])
        node.address = own
        self.nodes.append(node)
        return node

    def drain(self, node: Node) -> None:
        """Tell the cluster that a node is going to be taken away, as a provider's notice does."""
        code = (
            "import ray, sys; ray.init(sys.argv[1], log_to_driver=False); "
            "print([node['NodeID'] for node in ray.nodes() if node['NodeManagerAddress'] == sys.argv[2]][0])"
        )
        environment = {**os.environ, **self.environment}
        asked = [sys.executable, "-c", code, self.address, node.address]
        found = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True).stdout.split()[-1]
        command = ["drain-node", "--address", self.address, "--node-id", found]
        command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "taken back"]
        command += ["--deadline-remaining-seconds", "120"]
        subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", *command], env=environment, capture_output=True, check=True
        )

    def _options_of_next(self) -> list[str]:
        """Further options of the node that is started next."""
        return []

    def _start(self, arguments: Sequence[str]) -> Node:
        log = self.temp / f"node-{self._started}.txt"
        self._started += 1
        return Node.started(arguments, self._environment, log)

    def close(self) -> None:
        """End all nodes, and remove their files."""
        for node in [*self.nodes, self.head]:
            node.close()
        shutil.rmtree(self.temp, ignore_errors=True)

    def __enter__(self) -> LocalCluster:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()
