"""What surrounds a simulated trial: virtual time, nodes that come and go, and what the driver's guard is told."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.scale.courses import Course
from cluster.guard import Guard
from cluster.nodes import Change


class Clock:
    """The module `time` in virtual time: seconds since the simulation began, which is a fixed day."""

    BEGAN = 1_800_000_000.0

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.BEGAN + self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@dataclass
class Trial:
    """What Tune keeps of a trial, as far as our callbacks look at it, and where the simulated one is."""

    trial_id: str
    config: dict[str, Any]
    course: Course
    epoch: int  # that it has ended
    node: str = ""
    stop: str | None = None
    gone: bool = False  # its node is lost, which nobody has noticed yet, or it has left
    began: float = 0.0
    epoch_began: float = 0.0
    last_result: dict[str, Any] | None = None
    pickled_error_file: str | None = None

    @property
    def key(self) -> str:
        key: str = self.config["cell"]["key"]
        return key


@dataclass
class Usage:
    """Seconds of slots: `there` in all, `taken` by trials, and those in which an epoch was trained that counts."""

    there: float = 0.0
    away: float = 0.0  # with a lost node
    taken: float = 0.0
    trained: float = 0.0
    lost: float = 0.0  # spent on an epoch that was lost with its node
    failures: int = 0  # of nodes


class Nodes:
    """What the guard knows of the nodes."""

    leaving: frozenset[str] = frozenset()

    def __init__(self, count: int, gpus: int) -> None:
        self.alive = {f"node-{number:04d}": {"CPU": 2.0 * gpus, "GPU": float(gpus)} for number in range(count)}
        self._seen = set(self.alive)

    @property
    def resources(self) -> list[dict[str, float]]:
        return [*self.alive.values()]

    def others(self, identity: str) -> list[dict[str, float]]:
        return [own for name, own in self.alive.items() if name != identity]

    def look(self) -> Change:
        now, before = set(self.alive), self._seen
        self._seen = now
        return Change(lost={name: name for name in before - now}, came=bool(now - before))

    def is_gone(self, identity: str) -> bool:
        return identity not in self.alive


class SimulatedGuard(Guard):
    """Asks the simulated trials, by their cell's key, instead of the mailbox."""

    def __init__(self, running: Mapping[str, Trial], clock: Clock, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._running, self._clock = running, clock

    def _ask(self, method: str, *arguments: Any) -> Any:
        if method == "moved":
            return dict.fromkeys(self._running, 1 + int(self._clock.now))
        return [(self._running[key].node, 0) for key in arguments if key in self._running]
