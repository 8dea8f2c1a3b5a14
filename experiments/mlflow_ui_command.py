"""``altformer mlflow-ui``: the pages on which runs are compared, on this machine only."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from altformer.errors import UserError
from cluster.listening import free_port
from cluster.mlflow_server import PORT, Door, become, check_host, server_command
from cluster.tracking.location import StoreLocation, WriteLock, resolve

LONGEST_WAIT = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--out", type=Path, default=Path("runs"), help="the folder with the runs (default: runs)")
    parser.add_argument("--host", default="127.0.0.1", help="address of this machine to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help=f"default: {PORT}, or the next that is free")


def run(args: argparse.Namespace) -> int:
    """Print the address and become MLflow's server until Ctrl-C; 0 at once where a server runs already."""
    host = check_host(args.host, has_login=False)
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
    door = Door(host, free_port(host, args.port, first=PORT))
    print(f"MLflow: {door.url} (in a few seconds; Ctrl-C ends it)")
    become(*server_command(location, door))


def _wait_for_schema(location: StoreLocation) -> None:
    """A run that has just begun may still be creating the tables, which the server would do at the same time."""
    lock = WriteLock(location)
    until = time.monotonic() + LONGEST_WAIT
    while not lock.acquire() and time.monotonic() < until:
        time.sleep(0.1)
    lock.release()
