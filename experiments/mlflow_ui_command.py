"""``altformer mlflow-ui``: the pages on which runs are compared, on this machine only."""

from __future__ import annotations

import argparse
import ipaddress
import os
import socket
import sys
import time
from pathlib import Path

from altformer.errors import UserError
from cluster.tracking_location import SETTINGS, StoreLocation, WriteLock, resolve

FIRST_PORT = 5000
PORTS_TRIED = 100
LONGEST_WAIT = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--out", type=Path, default=Path("runs"), help="the folder with the runs (default: runs)")
    parser.add_argument("--host", default="127.0.0.1", help="address of this machine to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help=f"default: {FIRST_PORT}, or the next that is free")


def run(args: argparse.Namespace) -> int:
    """Print the address and become MLflow's server until Ctrl-C; 0 at once where a server runs already."""
    host = loopback(args.host)
    location = resolve(args.out)
    if location.server is not None:
        print(f"MLflow: {location.server} (MLFLOW_TRACKING_URI is set to that server)")
        return 0
    if location.database is not None:
        if not location.database.is_file():
            raise UserError(
                f"there is no MLflow database at {location.database} yet: the first `altformer ablate ...` or "
                "`altformer train --mlflow ...` makes it; name another folder with --out"
            )
        _wait_for_schema(location)
    port = free_port(host, args.port)
    address = f"[{host}]" if ":" in host else host
    print(f"MLflow: http://{address}:{port} (in a few seconds; Ctrl-C ends it)", flush=True)
    command, environment = server_command(location, host, port)
    os.execve(command[0], command, environment)


def loopback(host: str) -> str:
    """`host` as an address that only this machine reaches; UserError for any other: the pages ask for no password."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise UserError(
            f"--host {host} can be reached from other machines, and MLflow's pages ask for no password: keep 127.0.0.1 "
            "and reach it with `ssh -L 5000:127.0.0.1:5000 THIS-MACHINE`, or run a server with authentication "
            "(`mlflow server --app-name basic-auth ...`) and set MLFLOW_TRACKING_URI to it"
        )
    return str(address)


def free_port(host: str, wanted: int | None) -> int:
    """`wanted` if nothing listens there, else UserError; without `wanted`, the first free port from 5000 on."""
    for port in [wanted] if wanted is not None else range(FIRST_PORT, FIRST_PORT + PORTS_TRIED):
        if not 0 < port < 65536:
            raise UserError(f"--port must be between 1 and 65535, not {port}")
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as test:
            test.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                test.bind((host, port))
            except PermissionError:
                raise UserError(f"--port {port} is reserved for the administrator; take one from 1024 on") from None
            except OSError:
                continue
            return port
    if wanted is not None:
        raise UserError(f"port {wanted} is in use; without --port a free one is found")
    raise UserError(
        f"the ports from {FIRST_PORT} to {FIRST_PORT + PORTS_TRIED - 1} are all in use; name one with --port"
    )


def server_command(location: StoreLocation, host: str, port: int) -> tuple[list[str], dict[str, str]]:
    """Command and environment of the server; the store's address, which may hold a password, is in the latter."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--artifacts-destination", str(location.artifacts), "--uvicorn-opts", "--log-level warning"]
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore", **SETTINGS}
    return command, {**settings, **os.environ, "MLFLOW_BACKEND_STORE_URI": location.uri}


def _wait_for_schema(location: StoreLocation) -> None:
    """A run that has just begun may still be creating the tables, which the server would do at the same time."""
    lock = WriteLock(location)
    until = time.monotonic() + LONGEST_WAIT
    while not lock.acquire() and time.monotonic() < until:
        time.sleep(0.1)
    lock.release()
