"""Which store an address means, and which addresses are refused."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.errors import ClusterError
from cluster.tracking.journal import orphans
from cluster.tracking.location import WriteLock, artifact_uri, resolve
from cluster.tracking.tracker import Tracker
from cluster.tracking.writer import replay
from cluster.work import Ended, Work


@pytest.fixture(autouse=True)
def no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_the_default_lies_in_the_output_folder_whatever_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    location = resolve(Path("runs"))
    assert location.uri == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert location.database == tmp_path / "runs" / "mlflow.db"
    assert location.spool == tmp_path / "runs" / "mlflow-spool"
    assert artifact_uri(location, "altformer") == f"file://{tmp_path}/runs/mlartifacts/altformer"
    assert location.server is None


@pytest.mark.parametrize(
    ("uri", "resolved", "artifacts"),
    [
        ("http://host:5000", "http://host:5000", None),
        ("https://host/prefix/", "https://host/prefix/", None),
        ("sqlite:////srv/m.db", "sqlite:////srv/m.db", "/srv/mlartifacts"),
        ("sqlite:///m.db", "sqlite:///{cwd}/m.db", "{cwd}/mlartifacts"),
        ("sqlite:///m.db?timeout=9", "sqlite:///{cwd}/m.db?timeout=9", "{cwd}/mlartifacts"),
        ("postgresql+psycopg2://u:p@host/db", "postgresql+psycopg2://u:p@host/db", "{cwd}/runs/mlartifacts"),
    ],
)
@pytest.mark.parametrize("by", ["argument", "environment"])
def test_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, resolved: str, artifacts: str | None, by: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if by == "environment":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    location = resolve(Path("runs"), uri if by == "argument" else None)
    assert location.uri == resolved.format(cwd=tmp_path)
    assert location.artifacts == (Path(artifacts.format(cwd=tmp_path)) if artifacts else None)


@pytest.mark.parametrize(
    "uri",
    ["mlruns", "/abs/mlruns", "file:///abs/mlruns", "sqlite://", "sqlite:///:memory:", "http://", "ftp://h", "x:y"],
)
def test_addresses_that_are_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises(ClusterError, match="sqlite:////absolute"):
        resolve(tmp_path, uri)


@pytest.mark.parametrize("name", ["what?", "per%20cent"])
def test_folders_that_no_sqlite_address_can_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ClusterError, match="in its name"):
        resolve(tmp_path / name)


def test_passwords_are_not_shown() -> None:
    location = resolve(Path("runs"), "https://user:s3cret@host:5000/x")
    assert location.shown == "https://***@host:5000/x" == location.server
    assert "s3cret" not in location.identity
    assert resolve(Path("runs"), "https://user:other@host:5000/x").identity != location.identity
    with pytest.raises(ClusterError) as refused:
        resolve(Path("runs"), "ftp://user:s3cret@host")
    assert "s3cret" not in str(refused.value)


def test_one_writer_at_a_time_on_sqlite(tmp_path: Path) -> None:
    location = resolve(tmp_path / "new")
    first, second = WriteLock(location), WriteLock(location)
    assert first.acquire()
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    code = (
        "import sys; from pathlib import Path; from cluster.tracking.location import WriteLock, resolve;"
        "print(WriteLock(resolve(Path(sys.argv[1]))).acquire())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "new")]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout == "False\n"
    second.release()
    second.release()
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout == "True\n"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(fcntl, "flock", _failing(number))
    with pytest.raises(
        ClusterError, match=f"^{tmp_path}: its file system does not support file locks .* another --out"
    ):
        WriteLock(resolve(tmp_path)).acquire()


def test_any_other_failure_of_a_lock_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", _failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        WriteLock(resolve(tmp_path)).acquire()


def test_recording_where_there_are_no_locks_says_so_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = resolve(tmp_path)
    location.spool.mkdir()
    (location.spool / "of-another-session.jsonl").write_text("{}\n")
    monkeypatch.setattr(fcntl, "flock", _failing(errno.ENOLCK))
    track = Tracker(location, None)
    track.cell_started(Work("a", "a", {}))
    track.cell_ended(Work("a", "a", {}), Ended("done"))
    assert not track.close(60)
    assert f"{tmp_path}: its file system does not support file locks" in str(track.problem)
    assert "records are in no file" in str(track.problem)
    assert list(orphans(location.spool)) == []
    replayed = replay(location)
    assert (replayed.replayed, len(replayed.left)) == (0, 1)
    assert "does not support file locks" in str(replayed.problem)


def _failing(number: int) -> Callable[..., None]:
    def flock(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    return flock


def test_stores_with_a_server_need_no_lock(tmp_path: Path) -> None:
    location = resolve(tmp_path, "http://host:5000")
    assert WriteLock(location).acquire()
    assert WriteLock(location).acquire()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["with blank", "ümlaut", "ha#sh", "a&b=c"])
def test_folders_with_awkward_names(tmp_path: Path, name: str) -> None:
    """MLflow finds the database and the artifacts where we say they are."""
    from sqlalchemy.engine import make_url

    location = resolve(tmp_path / name)
    assert make_url(location.uri).database == str(tmp_path / name / "mlflow.db")
    from mlflow.utils.file_utils import local_file_uri_to_path

    assert local_file_uri_to_path(str(artifact_uri(location, "e"))) == str(tmp_path / name / "mlartifacts" / "e")
