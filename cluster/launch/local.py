"""A cluster of several nodes on this machine: real ones, each with processes, CPUs and an address of its own.

Nodes have addresses of the loopback range, as machines have different ones: a driver belongs to the first node that has
its address, and that must be the head. Ray itself listens on all addresses of the machine, whatever it is told; who has
not the token is turned away. The dashboard is on the loopback address.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.connection import authenticate
from cluster.environment import QUIET
from cluster.errors import ClusterError
from cluster.launch import local_state
from cluster.launch.local_state import State
from cluster.launch.processes import Session, end
from cluster.launch.waiting import wait_for_nodes
from cluster.preflight import SHARED_MEMORY, check_ray_folder, ray_folder

MOST_NODES = 200
_PORT = 6379
_DASHBOARD_PORT = 8265
_START_SECONDS = 90.0
_STORE_BYTES = (100_000_000, 2_000_000_000)  # at least, at most

_VARIABLES = {
    "RAY_AUTH_MODE": "token",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # `down` need not wait for nodes to be emptied
    **QUIET,
}


@dataclass(frozen=True)
class LocalCluster:
    """A local cluster that runs; `logical_gpus`: its nodes have GPUs for the scheduler only, this machine has none."""

    address: str
    dashboard: str
    nodes: int
    cpus: int
    gpus: int
    logical_gpus: bool


def up(nodes: int, cpus: int | None = None, gpus: int = 0) -> LocalCluster:
    """Start a head and `nodes` nodes of `cpus` CPUs (None: this machine's, shared out) and `gpus` GPUs each.

    The head has neither, so that trials run on the nodes. Returns when all have joined. ClusterError when one runs
    already, the machine lacks what is asked for, or a node does not start; then nothing is left.
    """
    cpus = max(1, (os.cpu_count() or 1) // max(nodes, 1)) if cpus is None else cpus
    _check(nodes, cpus, gpus)
    devices = _devices(nodes, gpus)
    with local_state.locked():
        before = local_state.read()
        if before is not None and before.runs():
            raise ClusterError(
                f"a local cluster runs already at {before.address}: use it with --address auto, or end it with "
                "`altformer cluster down`"
            )
        if before is not None:  # it was killed, or the machine restarted
            local_state.forget(before)
        authenticate(create_token=True)
        cluster = _Starting(nodes)
        try:
            cluster.start_head()
            for number in range(1, nodes + 1):
                cluster.start_node(number, cpus, gpus, devices[number - 1])
            cluster.name()
        except BaseException:
            _end(cluster.state)
            raise
    return LocalCluster(
        cluster.state.address, cluster.state.dashboard, nodes, cpus, gpus, bool(gpus) and not any(devices)
    )


def down() -> str | None:
    """End the local cluster, all its processes, and remove its files; its address, or None when there was none.

    ClusterError when a process does not end.
    """
    if not local_state.state_file().exists():
        return None
    with local_state.locked():
        state = local_state.read()
        if state is None:
            return None
        _end(state)
        return state.address


def _end(state: State) -> None:
    if not end(state.sessions):
        left = sorted(pid for session in state.sessions for pid in session.members())
        raise ClusterError(f"processes of the local cluster do not end: {', '.join(map(str, left))}; try again")
    local_state.forget(state)


class _Starting:
    """A cluster that is being started; what is there of it is remembered before anything else happens."""

    def __init__(self, nodes: int) -> None:
        from ray._private.utils import get_ray_address_file

        folder = local_state.new_folder(ray_folder())
        port, dashboard = free_port(_PORT), free_port(_DASHBOARD_PORT)
        url = f"http://127.0.0.1:{dashboard}"
        self.state = State(f"127.0.0.1:{port}", url, folder, Path(get_ray_address_file(None)))
        local_state.write(self.state)
        self._dashboard_port, self._store = dashboard, _store_bytes(nodes)

    def start_head(self) -> None:
        """Start the head, and wait until it answers."""
        check_ray_folder(self.state.folder)
        port = self.state.address.rpartition(":")[2]
        head = ["--head", f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=0", "--num-gpus=0"]
        head += ["--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={self._dashboard_port}"]
        head += [f"--ray-client-server-port={free_port()}", f"--temp-dir={self.state.folder / 'ray'}"]
        self._start("head", head, {}, 1)

    def start_node(self, number: int, cpus: int, gpus: int, devices: str) -> None:
        """Start a node, and wait until it has joined; `devices` are those of its GPUs, where the machine has them."""
        node = [f"--address={self.state.address}", f"--node-ip-address=127.0.1.{number}"]
        # A folder of its own: each node unpacks a job's files, and would do so over those that another has in use.
        node += [f"--num-cpus={cpus}", f"--num-gpus={gpus}", f"--temp-dir={self.state.folder / f'n{number}'}"]
        self._start(f"node-{number}", node, {"CUDA_VISIBLE_DEVICES": devices} if devices else {}, number + 1)

    def name(self) -> None:
        """Let Ray find the cluster as `auto`, also where others run."""
        self.state.named.parent.mkdir(parents=True, exist_ok=True)
        self.state.named.write_text(self.state.address)

    def _start(
        self, name: str, arguments: Sequence[str], variables: Mapping[str, str], joined: int, tries: int = 2
    ) -> None:
        log = self.state.folder / f"{name}.txt"
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        words += [f"--object-store-memory={self._store}", "--dashboard-agent-listen-port=0", *arguments]
        environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        # A job's `python` is then this one, with what a matrix needs.
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
        with log.open("w") as file:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**environment, **_VARIABLES, **variables},
                start_new_session=True,
            )
        session = Session.of(process.pid)
        self.state = self.state.with_session(session)
        local_state.write(self.state)

        def check() -> None:
            if process.poll() is not None:
                last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
                raise ClusterError(f"the {name.replace('-', ' ')} of the local cluster did not start:\n{last}")

        try:
            wait_for_nodes(self.state.address, joined, _START_SECONDS, check)
        except ClusterError:
            if tries == 1 or process.poll() is None:
                raise
            end([session])  # Ray gives a node 30 s to start, which a busy machine may not have
            self._start(name, arguments, variables, joined, tries - 1)


def free_port(wanted: int = 0) -> int:
    """`wanted` where nothing listens there on any address of this machine, else a port where nothing does."""
    for port in (wanted, 0):
        with socket.socket() as test:
            test.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                test.bind(("", port))
            except OSError:
                continue
            return int(test.getsockname()[1])
    raise ClusterError("no port is free on this machine")


def _check(nodes: int, cpus: int, gpus: int) -> None:
    for option, value, least, most in (
        ("--nodes", nodes, 1, MOST_NODES),
        ("--cpus", cpus, 1, 1024),
        ("--gpus", gpus, 0, 64),
    ):
        if not least <= value <= most:
            raise ClusterError(f"{option} must be from {least} to {most}, got {value}")
    if not sys.platform.startswith("linux"):
        raise ClusterError("a local cluster of several nodes needs Linux, where each has a loopback address of its own")
    mode = os.environ.get("RAY_AUTH_MODE", "token").lower()
    if mode != "token":
        raise ClusterError(
            f"RAY_AUTH_MODE is '{mode}', but Ray's ports can be reached from other machines, so that a cluster is "
            "started with a token only; unset RAY_AUTH_MODE"
        )


def _devices(nodes: int, gpus: int) -> list[str]:
    """CUDA_VISIBLE_DEVICES of each node, no GPU in two of them; empty where the machine has none: they are logical."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    here = [str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]
    if given is not None:
        here = [one for one in given.split(",") if one]
    if not gpus or not here:
        return [""] * nodes
    if nodes * gpus > len(here):
        raise ClusterError(f"{nodes} nodes with {gpus} GPUs each are more than the {len(here)} of this machine")
    return [",".join(here[number * gpus : (number + 1) * gpus]) for number in range(nodes)]


def _store_bytes(nodes: int) -> int:
    """What each node, and the head, may take of shared memory: half of it is shared out."""
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        free = 0
    least, most = _STORE_BYTES
    return min(max(free // (2 * (nodes + 1)), least), most)
