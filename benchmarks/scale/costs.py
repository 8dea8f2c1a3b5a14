"""What parts of a simulated driver cost: processor time of the calling thread by part, and memory of the process."""

from __future__ import annotations

import os
import resource
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any


class Costs:
    """Processor seconds of this thread by part; what runs within a part but belongs to another is not counted twice."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = 0.0

    def part(self, name: str) -> _Part:
        """A context: what is done within it is done by this part."""
        return _Part(self, name)

    def enter(self, name: str) -> None:
        """From now on this part works."""
        now = time.thread_time()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._open.append(name)
        self._since = now

    def leave(self) -> None:
        """Whoever worked before does so again."""
        now = time.thread_time()
        self.seconds[self._open.pop()] += now - self._since
        self._since = now


class _Part:
    __slots__ = ("_costs", "_name")

    def __init__(self, costs: Costs, name: str) -> None:
        self._costs, self._name = costs, name

    def __enter__(self) -> None:
        self._costs.enter(self._name)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._costs.leave()


class Timed:
    """A listener whose methods count as a part of their own."""

    def __init__(self, listener: object, costs: Costs, name: str) -> None:
        self._listener, self._costs, self._name = listener, costs, name

    def __getattr__(self, method: str) -> Callable[..., None]:
        own = getattr(self._listener, method)

        def timed(*arguments: Any) -> None:
            with self._costs.part(self._name):
                own(*arguments)

        return timed


class Stages:
    """Wall and processor seconds, and memory at the end, of what is done one after the other in this process."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def ended(self, name: str) -> None:
        """What was done since the stage before was this one."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.found[name] = {"wall": wall - self._wall, "cpu": cpu - self._cpu, "MB": resident_megabytes()}
        self._wall, self._cpu = wall, cpu


def resident_megabytes() -> float:
    """What this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak_megabytes() -> float:
    """The most that this process has had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
