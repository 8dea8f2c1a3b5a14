"""Sessions of processes: all of one's own are ended, and never anybody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.launch.processes import Session, end

# A leader that, told to end, ends what it has started; a child that hears nothing; one that has left for a session.
ORDERLY = "sleep 100 & trap 'kill $!; exit' TERM; wait"
DEAF = "bash -c 'trap \"\" TERM; while true; do sleep 0.1; done' & sleep 100"
LEFT = "setsid sleep 100 & exec sleep 100"


@pytest.fixture
def start() -> Iterator[object]:
    started: list[subprocess.Popen[bytes]] = []

    def process(script: str) -> Session:
        started.append(subprocess.Popen(["bash", "-c", script], start_new_session=True))
        session = Session.of(started[-1].pid)
        time.sleep(0.3)  # until it has children
        return session

    yield process
    for one in started:
        one.kill()
        one.wait()


@pytest.mark.parametrize(("script", "count"), [(ORDERLY, 2), (DEAF, 3), (LEFT, 1)], ids=["orderly", "deaf", "left"])
def test_all_processes_of_a_session_end(start, script: str, count: int) -> None:
    session = start(script)
    assert len(session.members()) >= count
    below = children(session.pid)
    assert end([session], gently=1.0)
    assert session.members() == set()
    assert not [pid for pid in below if lives(pid)]


def test_they_are_found_when_their_leader_is_dead(start) -> None:
    session = start("sleep 100 & sleep 100")
    os.kill(session.pid, signal.SIGKILL)
    time.sleep(0.2)
    assert session.members(), "its child lives on in the session"
    assert end([session], gently=1.0)
    assert session.members() == set()


@pytest.mark.parametrize("change", [{"started": 1}, {"boot": "another"}])
def test_others_with_the_same_number_are_left_alone(start, change: dict[str, object]) -> None:
    session = start(ORDERLY)
    stale = replace(session, **change)
    assert stale.members() == set()
    assert end([stale], gently=0.2)
    assert len(session.members()) == 2


def test_it_is_written_and_read(start) -> None:
    session = start(ORDERLY)
    assert Session.read(session.written()) == session
    with pytest.raises(ValueError, match="not a session"):
        Session.read({"pid": "1"})
    with pytest.raises(ProcessLookupError):
        Session.of(2**22 + 1)


def children(pid: int) -> list[int]:
    shown = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(line) for line in shown.split()]


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
