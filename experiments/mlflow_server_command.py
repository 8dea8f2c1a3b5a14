"""``altformer mlflow-server``: one MLflow for all nodes of a cluster, which keeps their runs and their files."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from cluster.listening import free_port, is_loopback
from cluster.mlflow_server import (
    ADMIN,
    BACKEND,
    FOLDER,
    PORT,
    Door,
    backend,
    become,
    check_backend,
    check_host,
    check_names,
    make_login,
    own_names,
    server_command,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), help=f"parent of the folder {FOLDER}, which it keeps (default: runs)"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1; any other needs --auth)"
    )
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}")
    parser.add_argument(
        "--name",
        nargs="+",
        action="extend",
        metavar="HOSTNAME",
        help="names and addresses that clients call it by (default: this machine's)",
    )
    parser.add_argument("--auth", action="store_true", help="ask for user and password (basic authentication)")
    parser.epilog = f"Runs are kept in SQLite, or in the Postgres that {BACKEND}=postgresql://... names."


def run(args: argparse.Namespace) -> int:
    """Print how clients reach it and become MLflow's server until Ctrl-C."""
    host = check_host(args.host, args.auth)
    names = check_names(args.name or ([] if is_loopback(host) else own_names()))
    port = free_port(host, args.port, first=PORT)
    location = backend(args.out)
    check_backend(location)
    folder = args.out.absolute() / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    door = Door(host, port, names, make_login(folder / "login") if args.auth else None)
    print(f"MLflow: {door.url} (in a few seconds; Ctrl-C ends it), kept in {location.shown}")
    print(f"It answers to {', '.join(dict.fromkeys(('localhost', *door.called)))}; others go with --name")
    print(f"For every client: export MLFLOW_TRACKING_URI={shlex.quote(door.url)}")
    if door.login is not None:
        print(
            f"and MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD; the first password of {ADMIN} is in "
            f"{door.login.password_file}"
        )
    become(*server_command(location, door))
