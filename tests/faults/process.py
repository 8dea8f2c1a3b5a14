"""A command of ours in processes that a test may kill, and what of them is left."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.faults.models import FOLDER

if TYPE_CHECKING:
    from tests.faults.harness import Matrix

ROOT = Path(__file__).parents[2]
MARKS = "marks"  # the folder below a matrix's own that $ALTFORMER_FAULTS names
AGENTS = frozenset({"ray::DashboardAgent", "ray::RuntimeEnvAgent"})


class Process:
    """One `altformer` command in a session of its own, with every process that it starts.

    Its Ray keeps its files in a folder of this process, and its models find $ALTFORMER_FAULTS. Standard output and
    error go to one file. `program` is the module that is run, where a test has one of its own around `altformer`.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        env: Mapping[str, str],
        matrix: Matrix | None = None,
        program: str = "experiments.cli",
    ) -> None:
        self.matrix, self.started = matrix, time.time()
        self.temp = Path(tempfile.mkdtemp(prefix="rf-", dir="/tmp"))
        self._written = folder / f"output-{uuid.uuid4().hex[:8]}.txt"
        marks = folder / MARKS
        marks.mkdir(parents=True, exist_ok=True)
        own = {"PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(self.temp), FOLDER: str(marks), "OMP_NUM_THREADS": "1"}
        self.environment = {**os.environ, **own, "PYTHONUNBUFFERED": "1", "COLUMNS": "120", **env}
        with self._written.open("w") as file:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", program, *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=folder,
                env=self.environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The driver."""
        return self.popen.pid

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._written.read_text(errors="replace")

    def wait(self, timeout: float = 180.0) -> int:
        """Its exit code (negative: the signal that ended it); fails with its output when it takes longer."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout:g} s:\n{self.output}") from None

    def wait_until(self, what: str, true: Callable[[], Any], timeout: float = 90.0) -> Any:
        """Wait for something to become true, and return it; fails when the process ends before, or after `timeout`."""
        deadline = time.monotonic() + timeout
        while not (found := true()):
            over = self.popen.poll() is not None
            if over and (found := true()):
                break
            assert not over, f"ended with {self.popen.returncode} before {what}:\n{self.output}"
            assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}\n{self.output}"
            time.sleep(0.05)
        return found

    def wait_for(self, pattern: str, timeout: float = 90.0) -> re.Match[str]:
        """Wait until it has printed something."""
        found: re.Match[str] = self.wait_until(
            f"the output has {pattern!r}", lambda: re.search(pattern, self.output, re.MULTILINE), timeout
        )
        return found

    def wait_for_event(self, kind: str, timeout: float = 90.0, **fields: Any) -> dict[str, Any]:
        """Wait for an event of its matrix's events.jsonl since it was started, and return it."""
        matrix = self.matrix
        assert matrix is not None
        found: list[dict[str, Any]] = self.wait_until(
            f"event {kind} {fields or ''}",
            lambda: [event for event in matrix.events(kind, **fields) if event["t"] >= self.started],
            timeout,
        )
        return found[0]

    def kill(self, pid: int | None = None, number: int = signal.SIGKILL) -> None:
        """Send a signal to one of its processes (None: the driver)."""
        os.kill(self.pid if pid is None else pid, number)

    def processes(self) -> dict[int, str]:
        """Titles of the living processes of its session by pid, the driver's too."""
        return processes_of(self.pid)

    def pids_of(self, title: str) -> list[int]:
        """Its processes whose title contains this, as `ray::Trial` or `raylet`, the oldest first."""
        return sorted(pid for pid, shown in self.processes().items() if title in shown and pid != self.pid)

    def orphans(self, timeout: float = 20.0, agents: bool = False) -> dict[int, str]:
        """After its end: what of it still lives when it has had `timeout` seconds to end.

        Without `agents` those two of Ray's are left out that hold nothing and end by themselves, but only after they
        have tried for a minute to tell a head that is gone of it.
        """
        deadline = time.monotonic() + timeout
        while True:
            left = {pid: title for pid, title in self.processes().items() if agents or title not in AGENTS}
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.1)

    def close(self) -> None:
        """End whatever of it still lives, and remove its Ray's files."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.popen.wait()
        shutil.rmtree(self.temp, ignore_errors=True)


def running() -> Iterator[tuple[int, str]]:
    """All processes of this machine that are no zombies, with their command line or title."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if title:  # zombies and the kernel's threads have none
                    yield int(entry.name), title


def processes_of(session: int) -> dict[int, str]:
    """Titles by pid of the living processes of a session, which is named by the pid of its first process."""
    return {pid: title for pid, title in running() if _session(pid) == session}


def _session(pid: int) -> int | None:
    with suppress(OSError):
        return os.getsid(pid)
    return None
