"""A Ray cluster whose nodes are machines as far as the kernel can make them: own network, own mounts, one processor."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from cluster.launch.local import free_port
from tests.faults.local_cluster import Node, private
from tests.faults.process import ROOT

Over = Mapping[Path, Path | None]  # what lies over a path on a node alone: a folder or file, or None: an empty folder


def skip_without_namespaces() -> None:
    """Skip the test, with the reason, where this process may not make networks and mounts."""
    name = f"afp{os.getpid()}"
    for command in (["ip", "netns", "add", name], ["ip", "netns", "del", name], ["unshare", "--mount", "true"]):
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.SubprocessError) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip()
            pytest.skip(f"nodes cannot be given a network and mounts of their own here: {said}")


class Machines:
    """A head on this machine, where drivers run, and nodes with a network of their own; a context manager.

    All are on a bridge, and find each other by address alone: the name of every one stands for 127.0.0.1, as in many a
    machine's /etc/hosts.
    """

    def __init__(self, head_cpus: int = 0) -> None:
        skip_without_namespaces()
        self.temp = Path(tempfile.mkdtemp(prefix="rn-", dir="/tmp"))
        self._subnet = f"10.231.{os.getpid() % 250}"
        self._bridge = f"afb{os.getpid()}"
        self._spaces: list[str] = []
        self._nodes: dict[str, Node] = {}
        #: for drivers too
        self.environment = private(self.temp)
        port = free_port()
        self.address = f"{self._subnet}.1:{port}"
        try:
            self._make_bridge()
            self._start(
                [],
                ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self.temp}"],
                f"{self._subnet}.1",
                head_cpus,
                0,
            )
        except BaseException:
            self.close()
            raise

    def add(self, cpus: int, *, gpus: int = 0, over: Over | None = None) -> str:
        """A further node with an address and mounts of its own; returns the address when the cluster has it."""
        number = len(self._spaces) + 2
        space, end, address = (
            f"af{os.getpid()}-{number}",
            f"afv{os.getpid() % 100000}-{number}",
            f"{self._subnet}.{number}",
        )
        self._spaces.append(space)
        for command in (
            f"ip netns add {space}",
            f"ip link add {end} type veth peer name eth0 netns {space}",
            f"ip link set {end} master {self._bridge} up",
            f"ip -n {space} addr add {address}/24 dev eth0",
            f"ip -n {space} link set eth0 up",
            f"ip -n {space} link set lo up",
        ):
            subprocess.run(command.split(), check=True, capture_output=True)
        mounts = [
            shlex.join(
                ["mount", "-t", "tmpfs", "tmpfs", str(at)] if what is None else ["mount", "--bind", str(what), str(at)]
            )
            for at, what in (over or {}).items()
        ]
        script = " && ".join([*mounts, 'exec "$@"'])
        prefix = ["ip", "netns", "exec", space, "unshare", "--mount", "sh", "-c", script, "sh"]
        self._start(prefix, [f"--address={self.address}"], address, cpus, gpus)
        return address

    def halt(self, address: str) -> None:
        """Let a node's raylet do nothing any more, as on a machine that is stuck."""
        [raylet] = self._nodes[address].pids_of("raylet/raylet")
        os.kill(raylet, signal.SIGSTOP)

    def close(self) -> None:
        """End all nodes, and take their networks and files away."""
        for node in self._nodes.values():
            node.close()
        for space in self._spaces:
            subprocess.run(["ip", "netns", "del", space], capture_output=True)
        subprocess.run(["ip", "link", "del", self._bridge], capture_output=True)
        shutil.rmtree(self.temp, ignore_errors=True)

    def __enter__(self) -> Machines:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def _make_bridge(self) -> None:
        for command in (
            f"ip link add {self._bridge} type bridge",
            f"ip addr add {self._subnet}.1/24 dev {self._bridge}",
            f"ip link set {self._bridge} up",
        ):
            subprocess.run(command.split(), check=True, capture_output=True)

    def _start(self, prefix: Sequence[str], arguments: Sequence[str], address: str, cpus: int, gpus: int) -> None:
        log = self.temp / f"node-{len(self._nodes)}.txt"
        own = [f"--node-ip-address={address}", f"--num-cpus={cpus}", f"--num-gpus={gpus}"]
        environment = {**os.environ, **self.environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self._nodes[address] = Node.started([*own, *arguments], environment, log, prefix)
