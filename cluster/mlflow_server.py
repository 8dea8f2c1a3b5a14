"""An MLflow server of ours: where it keeps runs, who reaches it, by which names, with which password."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from cluster.errors import ClusterError
from cluster.listening import address_of, in_address, is_everywhere, is_loopback
from cluster.redaction import redact
from cluster.secret_file import make_secret, write_private
from cluster.tracking.location import DATABASE, SETTINGS, StoreLocation, resolve

FOLDER = "mlflow-server"  # below the output folder: what a server has, and no run on this machine writes to
BACKEND = "MLFLOW_BACKEND"
PORT = 5000
ADMIN = "admin"
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
CONNECT_SECONDS = 10
WORKERS = 4  # processes before a database that takes several writers

_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*")
# Settings of MLflow's that would open a door which is shut here, or send files past the server.
_NOT_PASSED_ON = ("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "MLFLOW_ARTIFACTS_ONLY", "MLFLOW_GUNICORN_OPTS", BACKEND)
# Neither pickled models nor jobs, which run what clients send: whatever the user has set for processes of his own.
_FORCED = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
_DRIVERS = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary"}

_CONFIG = """\
# Made by `altformer mlflow-server --auth`; the password of the first user is in {password}.
[mlflow]
default_permission = EDIT
database_uri = {users}
admin_username = {admin}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
# Checking a password takes longer than the call it comes with; a changed one may count for so long in other processes.
auth_cache_ttl_seconds = 60
"""


@dataclass(frozen=True)
class Login:
    """Basic authentication: the folder, closed to others, with the users, their first one's password, and the keys."""

    folder: Path

    @property
    def password_file(self) -> Path:
        """The password of `admin` as it was at the first start."""
        return self.folder / "admin-password"

    @property
    def environment(self) -> dict[str, str]:
        """What the server's processes must know."""
        return {
            "MLFLOW_AUTH_CONFIG_PATH": str(self.folder / "basic_auth.ini"),
            "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
            "MLFLOW_AUTH_ADMIN_PASSWORD": self.password_file.read_text(),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": (self.folder / "secret-key").read_text(),
        }


@dataclass(frozen=True)
class Door:
    """Where a server listens, the further names and addresses it is called by, and the login it asks for, if any."""

    host: str
    port: int
    names: tuple[str, ...] = ()
    login: Login | None = None

    @property
    def called(self) -> tuple[str, ...]:
        """Its names and addresses but for the loopback ones."""
        own = () if is_everywhere(self.host) else (self.host,)
        return tuple(dict.fromkeys((*self.names, *own)))

    @property
    def allowed_hosts(self) -> list[str]:
        """What a request may name as its host; all else is refused (DNS rebinding).

        Any port will do: it may be a proxy's, or that of an SSH tunnel.
        """
        names = dict.fromkeys(map(in_address, (*LOCAL_NAMES, *self.called)))
        return [form for name in names for form in (name, f"{name.replace('[', '[[]')}:*")]

    @property
    def allowed_origins(self) -> list[str]:
        """Pages whose scripts may change something: our own, also behind a proxy that speaks TLS.

        Loopback ones always may. No pattern, for MLflow takes one for the beginning of an origin.
        """
        hosts = [form for name in self.called if ":" not in name for form in (name, f"{name}:{self.port}")]
        return [f"{scheme}://{host}" for host in hosts for scheme in ("http", "https")]

    @property
    def url(self) -> str:
        """The address for a browser or a client."""
        best = self.names[0] if self.names else "127.0.0.1" if is_everywhere(self.host) else self.host
        return f"http://{in_address(best)}:{self.port}"


def check_host(host: str, has_login: bool) -> str:
    """`host` as an address; ClusterError where it is none, or where others reach it and no password is asked for."""
    address = address_of(host)
    if has_login and address is None:
        raise ClusterError(
            f"--host {host}: give an address of this machine, or 0.0.0.0 for all of them, and its name with --name"
        )
    if not has_login and (address is None or not is_loopback(address)):
        raise ClusterError(
            f"--host {host} can be reached from other machines, and MLflow asks for no password; keep 127.0.0.1 and "
            "reach it with `ssh -L 5000:127.0.0.1:5000 THIS-MACHINE`, or run `altformer mlflow-server --auth`, which "
            "asks for one, with a proxy that speaks TLS before it (docs/mlflow.md)"
        )
    return str(address)


def check_names(names: Iterable[str]) -> tuple[str, ...]:
    """Names and IPv4 addresses by which clients call a server; ClusterError for patterns, ports and whole addresses."""
    for name in (checked := tuple(dict.fromkeys(names))):
        if not _NAME.fullmatch(name):
            raise ClusterError(
                f"--name {name!r} is neither a host's name nor an IPv4 address; write it without http:// and port, "
                "as in --name mlflow.example.org 10.0.0.5"
            )
    return checked


def own_names() -> tuple[str, ...]:
    """The names of this machine."""
    return tuple(name for name in dict.fromkeys((socket.gethostname(), socket.getfqdn())) if _NAME.fullmatch(name))


def make_login(folder: Path) -> Login:
    """The login whose secrets lie in `folder`, made at the first start; ClusterError where that cannot be."""
    if importlib.util.find_spec("flask_wtf") is None:
        raise ClusterError("--auth needs a package that is not installed: pip install 'Flask-WTF'")
    folder = folder.absolute()
    login = Login(folder)
    users = resolve(folder, f"sqlite:///{folder / 'users.db'}").uri
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        for name in (login.password_file.name, "secret-key"):
            make_secret(folder / name)
        text = _CONFIG.format(password=login.password_file, users=users, admin=ADMIN)
        write_private(folder / "basic_auth.ini", text)
    except OSError as error:
        raise ClusterError(f"cannot keep the server's login: {error}; name another folder with --out") from None
    return login


def backend(out: Path) -> StoreLocation:
    """The store behind a server: the Postgres that $MLFLOW_BACKEND names, else SQLite in `out`.

    It is not the database of the runs on this machine: those keep files by paths of this machine, which clients
    elsewhere would take for their own.
    """
    folder = out.absolute() / FOLDER
    given = os.environ.get(BACKEND, "").strip()
    if given and urlsplit(given).scheme.partition("+")[0] != "postgresql":
        shown = StoreLocation(given, folder).shown
        raise ClusterError(
            f"{BACKEND}={shown!r}: a server keeps its runs in SQLite, without {BACKEND}, or in Postgres, "
            "with postgresql://, user and password, host and database"
        )
    return resolve(folder, given or f"sqlite:///{folder / DATABASE}")


def check_backend(location: StoreLocation) -> None:
    """ClusterError where a Postgres does not answer, does not know us, or has no driver here."""
    if location.database is not None:
        return
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        engine = create_engine(location.uri, connect_args={"connect_timeout": CONNECT_SECONDS})
        engine.connect().close()
        engine.dispose()
    except ImportError:
        driver = make_url(location.uri).get_dialect().driver
        package = _DRIVERS.get(driver, driver)
        raise ClusterError(f"Postgres needs a driver that is not installed: pip install '{package}'") from None
    except SQLAlchemyError as error:
        said = redact(str(getattr(error, "orig", None) or error)).strip().splitlines() or [type(error).__name__]
        raise ClusterError(f"{BACKEND}: cannot use {location.shown}: {said[-1]}") from None


def server_command(location: StoreLocation, door: Door) -> tuple[list[str], dict[str, str]]:
    """Command and environment of the server; whatever is secret, as the store's address, is in the latter only."""
    workers = 1 if location.database is not None else WORKERS
    command = [sys.executable, "-m", "mlflow", "server", "--host", door.host, "--port", str(door.port)]
    command += ["--workers", str(workers), "--uvicorn-opts", "--log-level warning"]
    command += ["--serve-artifacts", "--artifacts-destination", str(location.artifacts)]
    command += ["--default-artifact-root", "mlflow-artifacts:/"]
    command += ["--allowed-hosts", ",".join(door.allowed_hosts)]
    command += ["--cors-allowed-origins", ",".join(door.allowed_origins)]
    if door.login is not None:
        command += ["--app-name", "basic-auth"]
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
    login = door.login.environment if door.login is not None else {}
    return command, {
        "PYTHONWARNINGS": "ignore",
        **SETTINGS,
        **kept,
        **_FORCED,
        "MLFLOW_BACKEND_STORE_URI": location.uri,
        "MLFLOW_REGISTRY_STORE_URI": location.uri,
        **login,
    }


def become(command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Go on as the server, so that signals reach it and nothing of ours stays behind."""
    sys.stdout.flush()
    os.execve(command[0], list(command), environment)
