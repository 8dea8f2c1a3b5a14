"""The connection to Ray: one of its own on this machine, or a running cluster."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from cluster.environment import QUIET, variables
from cluster.errors import ClusterError
from cluster.secret_file import close_to_others, make_secret

# Set before Ray is imported for the first time, since it reads some of them then; a user's own value stands.
_DRIVER_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": QUIET["RAY_USAGE_STATS_ENABLED"],
    # Ray would warn that it no longer hides the GPUs from work that asked for none; hide them.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
}

# In every process of ours on the cluster.
_WORKER_ENVIRONMENT = {
    **QUIET,
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    # Relative paths mean the same everywhere.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # What the dashboard answers at /api/train/v2/runs/v1, for cells with several workers; it has no page for that.
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
    # One process less for each trial.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # How often a group's controller looks whether its workers have ended; half a second is its share of a trial's end.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "10",
}

# What Ray prints to stdout although it is not ours to mend (with few CPUs a worker group always causes the first) or is
# told with the cell (the second). That a worker was killed for want of memory is still printed.
_NOT_PRINTED = "PYTHON worker processes have been started on node|A worker died or was killed while"

_TOKEN_FILE = Path(".ray") / "auth_token"


@dataclass
class Connection:
    """A connected Ray; leave it with `disconnect()` or as a context manager.

    `lost`: the cluster is gone, so that Ray cannot be left in an orderly way any more. `kept`: it is lent to one matrix
    after the other, none of which ends it.
    """

    address: str
    local: bool
    dashboard_url: str | None
    nodes: tuple[dict[str, float], ...]
    lost: bool = False
    kept: bool = False

    def answers(self) -> bool:
        """Whether the head of the cluster can be reached."""
        return listens(self.address, 5.0)

    def disconnect(self) -> None:
        """End the connection, and with a local Ray all its processes.

        A handle of an actor that is freed while Ray shuts down ends this process without a word. Those in reference
        cycles are freed by a garbage collection, which may happen in any thread: so collect now, and none meanwhile.
        Nothing happens with a cluster that is lost: Ray would wait for it, or abort.
        """
        if self.lost:
            return
        import ray

        gc.collect()
        gc.disable()
        try:
            ray.shutdown()
        finally:
            gc.enable()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.disconnect()


def connect(
    address: str | None = None,
    *,
    dashboard: bool = True,
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    temp_dir: str | None = None,
) -> Connection:
    """Connect to `address`, else to $RAY_ADDRESS, else start a Ray of our own on this machine.

    A running local cluster is joined only when asked for (`auto`). `num_cpus`, `num_gpus` and `temp_dir` are for a
    Ray of our own. Raises ClusterError if there is no cluster at the address.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    local = address == "local"
    if not local and (num_cpus, num_gpus, temp_dir) != (None, None, None):
        raise ClusterError(f"CPUs, GPUs and directory of the running cluster at {address} cannot be set from here")
    if address not in ("local", "auto"):
        _check_address(address)
    for name, value in _DRIVER_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    authenticate(create_token=local)
    import ray

    _print_less()
    settings: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    if local:
        settings |= {"include_dashboard": dashboard, "dashboard_host": "127.0.0.1", "num_cpus": num_cpus}
        settings |= {"num_gpus": num_gpus, "_temp_dir": temp_dir}
        # Inherited: processes that Ray starts before they are asked for have it, and need not be started again.
        surroundings: AbstractContextManager[None] = _started_with(_worker_environment())
    else:
        settings["runtime_env"] = {"env_vars": _worker_environment()}
        surroundings = contextlib.nullcontext()
    try:
        with surroundings, _sigterm_kept():
            context = ray.init(**settings)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.AuthenticationError) as error:
        where = "on this machine" if local else f"at {address}"
        raise ClusterError(f"cannot use Ray {where}: {error}") from error
    except Exception as error:
        if type(error) is not Exception:  # a bare one is Ray's way to say that its processes were not up within 30 s
            raise
        raise ClusterError(
            f"Ray did not start on this machine: {error} If something else keeps it busy, give the same command again"
        ) from error
    url = getattr(context, "dashboard_url", None)
    return Connection(
        address=str(ray.get_runtime_context().gcs_address),
        local=local,
        dashboard_url=f"http://{url}" if url else None,
        nodes=tuple(dict(node["Resources"]) for node in ray.nodes() if node["Alive"]),
    )


@contextlib.contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Keep these loggers from the user's terminal: what matters there is said by listeners."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def listens(address: str, seconds: float = 5.0) -> bool:
    """Whether something accepts connections at `host:port`."""
    try:
        parts = urlsplit(f"//{address}")
        with socket.create_connection((str(parts.hostname), parts.port or 0), timeout=seconds):
            return True
    except (OSError, ValueError):
        return False


def _check_address(address: str) -> None:
    """Refuse at once what Ray would try for minutes, retrying on the user's terminal."""
    if address.startswith("ray://"):
        raise ClusterError(
            f"{address} is an address for Ray Client, through which a matrix cannot be run; run on a machine of the "
            "cluster with its own address (`host:6379`, or `auto` there)"
        )
    if not listens(address):
        raise ClusterError(
            f"no Ray cluster answers at {address}; the address is `host:port` of the head node (usually port 6379), "
            "`auto` for a cluster running on this machine, or `local` for a Ray of our own"
        )


@contextlib.contextmanager
def _started_with(environment: Mapping[str, str]) -> Iterator[None]:
    """How Ray's own processes are started on this machine."""
    with variables(environment), _ray_in_its_own_group():
        yield


@contextlib.contextmanager
def _ray_in_its_own_group() -> Iterator[None]:
    """Start Ray's processes in a process group of their own, without moving there ourselves.

    They inherit ours otherwise, and a SIGTERM to the group (`timeout`, a shell's `kill %1`, a job manager) would take
    the cluster away before the trials have left. SIGINT they block themselves. A group's leader, as a command typed
    at a prompt is, cannot go and come back; then they share its group.
    """
    before = os.getpgrp()
    moved = before != os.getpid()
    if moved:
        os.setpgid(0, 0)
    try:
        yield
    finally:
        if moved:
            with contextlib.suppress(OSError):  # the group is gone: nobody can send to it any more
                os.setpgid(0, before)


@contextlib.contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Keep who handles SIGTERM: Ray would end this process with exit code 15, without a word."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _worker_environment() -> dict[str, str]:
    return {name: os.environ.get(name, value) for name, value in _WORKER_ENVIRONMENT.items()}


def _print_less() -> None:
    """What RAY_DEDUP_LOGS_SKIP_REGEX does, but also when Ray has been imported before; the user's own stands."""
    from ray._private import ray_logging

    for printed in (ray_logging.stdout_deduplicator, ray_logging.stderr_deduplicator):
        printed.skip_re = printed.skip_re or re.compile(_NOT_PRINTED)


def authenticate(create_token: bool) -> None:
    """Settle RAY_AUTH_MODE explicitly: `token` unless the user says otherwise; a new token is readable by us only."""
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / _TOKEN_FILE)
    there = bool(os.environ.get("RAY_AUTH_TOKEN")) or token.is_file()
    close_to_others(token)
    if "RAY_AUTH_MODE" not in os.environ:
        if not there and not create_token:
            return  # a cluster without a token known here: Ray says whether it wants one
        os.environ["RAY_AUTH_MODE"] = "token"
    if os.environ["RAY_AUTH_MODE"].lower() == "token" and not there and create_token:
        try:
            make_secret(token)
        except OSError as error:
            raise ClusterError(
                f"cannot write Ray's access token ({error}); set RAY_AUTH_TOKEN_PATH to a file that can be written, or "
                "RAY_AUTH_MODE=disabled on a machine without other users"
            ) from error
    if "ray" in sys.modules:
        # Ray has read its settings at import; this is what it does itself when it switches the mode on.
        from ray._raylet import Config  # type: ignore[attr-defined]

        Config.initialize("")
