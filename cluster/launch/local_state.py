"""What is remembered of the local cluster while it runs: in a file that only its owner can read or write."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cluster.errors import ClusterError
from cluster.file_lock import open_locked
from cluster.launch.processes import Session

_FOLDER = "afcluster-"  # short, since the paths of sockets below it may not be long
_TEXTS = ("address", "dashboard", "folder", "named")


@dataclass(frozen=True)
class State:
    """A local cluster: its address and dashboard, its folder, its processes by session.

    `named` is the file in which Ray finds the address of `auto`.
    """

    address: str
    dashboard: str
    folder: Path
    named: Path
    sessions: tuple[Session, ...] = field(default=())

    def runs(self) -> bool:
        """Whether any process of it lives."""
        return any(session.members() for session in self.sessions)

    def with_session(self, session: Session) -> State:
        """The same with one more."""
        return replace(self, sessions=(*self.sessions, session))


def state_file() -> Path:
    """Where it is remembered: one cluster for each user, beside the token with which it is used."""
    return Path.home() / ".ray" / "altformer-cluster.json"


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Let no other command start or end the cluster meanwhile; ClusterError when one does already."""
    path = state_file().with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = open_locked(path)
    if file is None:
        raise ClusterError("another `altformer cluster up` or `down` is at work; wait until it has ended")
    with file:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def new_folder(parent: Path) -> Path:
    """A new folder for a cluster's files, its owner's only."""
    try:
        return Path(tempfile.mkdtemp(prefix=_FOLDER, dir=parent))
    except OSError as error:
        raise ClusterError(
            f"cannot make a folder for the cluster in {parent}: {error.strerror}; set RAY_TMPDIR to one with room"
        ) from None


def read() -> State | None:
    """The cluster that was started last and not ended; ClusterError where the file is not one of ours."""
    path = state_file()
    try:
        value: dict[str, Any] = json.loads(path.read_text())
        if not all(isinstance(value.get(name), str) for name in _TEXTS):
            raise ValueError("no cluster")
        sessions = tuple(Session.read(one) for one in value["sessions"])
        return State(value["address"], value["dashboard"], Path(value["folder"]), Path(value["named"]), sessions)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ClusterError(
            f"{path} cannot be understood: {error}; end the `ray start` processes of the local cluster by hand, then "
            "remove the file"
        ) from None


def write(state: State) -> None:
    """Remember it, whole or not at all."""
    path = state_file()
    value = {name: str(getattr(state, name)) for name in _TEXTS}
    content = json.dumps({**value, "sessions": [one.written() for one in state.sessions]}, indent=1)
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content + "\n")
    temporary.replace(path)


def forget(state: State) -> None:
    """Remove the cluster's folder, the address that Ray was told, and what is remembered."""
    with contextlib.suppress(OSError):
        if state.named.read_text().strip() == state.address:  # else a later cluster is named there
            state.named.unlink()
    folder = state.folder
    if folder.name.startswith(_FOLDER) and not folder.is_symlink():  # whatever the file says, nothing else is removed
        shutil.rmtree(folder, ignore_errors=True)
    state_file().unlink(missing_ok=True)
