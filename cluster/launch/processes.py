"""Processes that outlive the command that started them: found again later, and never taken for others.

What is started leads a session of its own, and all that it starts stays in that session. The session's number is the
leader's process id, which the system gives to no other process while one of the session is left; the leader's start
time and the boot tell a session that was given the same number later from ours.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_PROC = Path("/proc")
_LOOK_SECONDS = 0.1
_TYPES = {"pid": int, "started": int, "boot": str}


@dataclass(frozen=True)
class Session:
    """A session: its leader's process id, when that started (clock ticks since boot), and which boot that was."""

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Session:
        """The session that a living process leads; ProcessLookupError when it has ended."""
        status = _status(pid)
        if status is None:
            raise ProcessLookupError(pid)
        return cls(pid, status.started, boot())

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Session:
        """A session that was written down with `written`; ValueError when it is none."""
        if not all(isinstance(value.get(name), kind) for name, kind in _TYPES.items()):
            raise ValueError("not a session")
        return cls(**{name: value[name] for name in _TYPES})

    def written(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    def members(self) -> set[int]:
        """Process ids of its living processes; empty when the session is gone, whoever has its number now."""
        if self.boot != boot():
            return set()
        leader = _status(self.pid)
        if leader is not None and leader.started != self.started:
            return set()
        return {pid for pid, status in _statuses().items() if status.session == self.pid and not status.ended}


@dataclass(frozen=True)
class _Status:
    parent: int
    session: int
    started: int
    ended: bool


def boot() -> str:
    """An identity of this run of the system."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def end(sessions: Iterable[Session], gently: float = 10.0, forcibly: float = 10.0) -> bool:
    """End all processes of sessions, and those that they have started elsewhere; whether all are gone.

    The leaders are asked with SIGTERM, and end their own in order, and so are those that have left their sessions;
    what is left after `gently` seconds is killed.
    """
    ours = list(sessions)
    strangers = _started_by(ours)  # before their parents are gone
    for pid in [*(session.pid for session in ours if session.pid in session.members()), *strangers]:
        _send(pid, signal.SIGTERM)
    if _gone(ours, strangers, gently):
        return True
    for pid in _left(ours, strangers):
        _send(pid, signal.SIGKILL)
    return _gone(ours, strangers, forcibly)


def _gone(sessions: list[Session], strangers: Mapping[int, int], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while _left(sessions, strangers):
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def _left(sessions: list[Session], strangers: Mapping[int, int]) -> set[int]:
    """What of them lives."""
    left = {pid for session in sessions for pid in session.members()}
    for pid, started in strangers.items():
        status = _status(pid)
        if status is not None and status.started == started and not status.ended:
            left.add(pid)
    return left


def _started_by(sessions: list[Session]) -> dict[int, int]:
    """Processes below those of the sessions that have left them, such as a job's: start times by process id."""
    statuses = _statuses()
    inside = {pid for session in sessions for pid in session.members()}
    found: dict[int, int] = {}
    grown = True
    while grown:
        new = {pid for pid, one in statuses.items() if one.parent in inside | found.keys()} - inside - found.keys()
        found |= {pid: statuses[pid].started for pid in new}
        grown = bool(new)
    return found


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _statuses() -> dict[int, _Status]:
    pids = (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit())
    return {pid: status for pid in pids if (status := _status(pid)) is not None}


def _status(pid: int) -> _Status | None:
    """What the system says of a process (proc(5): state, ppid, session, starttime); None when there is none."""
    try:
        # the name stands in brackets and may hold anything, so count from behind it
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return _Status(int(fields[1]), int(fields[3]), int(fields[19]), fields[0] in "ZX")
