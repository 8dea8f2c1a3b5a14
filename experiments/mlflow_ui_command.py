"""``altformer mlflow-ui``: the pages on which runs are compared, on this machine only."""

from __future__ import annotations

import argparse
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from altformer.errors import UserError
from cluster.listening import free_port
from cluster.mlflow_server import PORT, Door, become, check_host, server_command
from cluster.tracking.location import EXPERIMENT, StoreLocation, WriteLock, resolve

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
    if args.port is None and door.port != PORT:
        print(f"Something else listens on port {PORT} (another folder's runs?), so it is port {door.port}.")
    print(f"MLflow: {door.url} (once it has started, 5 to 30 seconds; Ctrl-C ends it)")
    if location.database is not None and (number := _experiment(location.database)):
        print(
            f"The runs: {door.url}/#/experiments/{number}/runs (or Experiments, {EXPERIMENT}; + shows a matrix's cells)"
        )
    become(*server_command(location, door))


def _experiment(database: Path) -> str | None:
    """The number that MLflow's pages have for our experiment; None where that cannot be read."""
    query = "SELECT experiment_id FROM experiments WHERE name = ?"
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
            found = connection.execute(query, (EXPERIMENT,)).fetchone()
    except sqlite3.Error:
        return None
    return str(found[0]) if found else None


def _wait_for_schema(location: StoreLocation) -> None:
    """A run that has just begun may still be creating the tables, which the server would do at the same time."""
    lock = WriteLock(location)
    until = time.monotonic() + LONGEST_WAIT
    while not lock.acquire() and time.monotonic() < until:
        time.sleep(0.1)
    lock.release()
