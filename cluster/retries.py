"""Which faults are tried again, how often, and what is said where they are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pydantic

from cluster.faults import signature
from cluster.work import Fault, FaultKind, Work

# A machine that goes is not the cell's doing, unless the cell takes one after another with it before an epoch is done.
_NODES_PER_EPOCH = 10

# So many equal failures in a row, and nothing else, are the fault of what the cells share.
_ALIKE = 3

# Another attempt beyond the first would only repeat them.
_ONCE: tuple[FaultKind, ...] = ("memory", "hang")
_NEVER: tuple[FaultKind, ...] = ("error", "disk")


class Retries(pydantic.BaseModel, frozen=True, extra="forbid"):
    """How often cells whose process has died, hung or lacked memory are tried again, from their last checkpoint.

    What the train function raises is not tried again: it would raise it again. A lost node counts for neither limit.
    """

    per_cell: int = pydantic.Field(default=3, ge=0)
    per_matrix: int = pydantic.Field(default=20, ge=0)


@dataclass(frozen=True)
class Again:
    """How a cell is tried again: with twice the memory's share of a device, on another node than the one named."""

    double: bool = False
    avoid: str | None = None


class Attempts:
    """The faults of a matrix so far, and whether another attempt is worth it."""

    def __init__(self, limits: Retries) -> None:
        self._limits = limits
        self._faults: dict[str, Counter[FaultKind]] = {}
        self._nodes: Counter[str] = Counter()  # that a cell has lost since it got further

    def reported(self, key: str) -> None:
        """The cell has got further."""
        self._nodes.pop(key, None)

    def retries(self, key: str) -> int:
        """How often the cell has been tried again."""
        return self._faults.get(key, Counter()).total()

    def after(self, key: str, fault: Fault, node: str | None = None) -> Again | None:
        """How to try again after a fault on a node, which counts then; None if not any more."""
        own = self._faults.setdefault(key, Counter())
        if fault.kind in _NEVER or not self._allowed(key, own, fault.kind):
            return None
        own[fault.kind] += 1
        self._nodes[key] += fault.kind == "node"
        return Again(double=own["memory"] > 0, avoid=node if fault.kind == "hang" else None)

    def _allowed(self, key: str, own: Counter[FaultKind], kind: FaultKind) -> bool:
        if kind == "node":
            return self._nodes[key] < _NODES_PER_EPOCH
        if kind in _ONCE and own[kind]:
            return False
        everywhere = sum((faults.total() - faults["node"] for faults in self._faults.values()), 0)
        return own.total() - own["node"] < self._limits.per_cell and everywhere < self._limits.per_matrix

    def why_not(self, key: str, fault: Fault, doubled: bool = False) -> str:
        """What to say below the text of a fault that ends its cell; nothing for what the train function raised.

        `doubled`: it has had twice the memory's share of a device.
        """
        own = self._faults.get(key, Counter())
        tried = f" after {own.total()} other attempt{'s' * (own.total() != 1)}" if own.total() else ""
        if fault.kind == "memory":
            twice = ", the last with twice the share of its device" if doubled else ""
            return (
                f"out of memory{tried}{twice}: more training.gradient_accumulation_steps keep the batch size "
                "and take less memory, as do fewer trials per device (--gpus-per-worker, --cpus-per-worker)"
            )
        if fault.kind == "hang":
            return f"it hung{tried}; its log.txt ends where it stood"
        if fault.kind == "disk":
            return "disk full: free some space and give the same command again"
        if fault.kind == "node":
            return f"{_NODES_PER_EPOCH + 1} nodes were lost under it before an epoch was done{tried}; no further one"
        if fault.kind == "died":
            limit = f"at most {self._limits.per_cell} per cell and {self._limits.per_matrix} per matrix"
            return f"its process has died{tried}; no further one ({limit}: retries, --retries)"
        return ""


class Suspicion:
    """Whether all cells fail of one cause: three equal failures, in more than one arm, and no cell that got further.

    Then nothing new is started until a running cell shows that it can be done, and nothing any more if none does.
    """

    def __init__(self, works: Sequence[Work]) -> None:
        self._arms = len({work.arm for work in works})
        self._epochs: dict[str, int] = {}
        self._failures: dict[str, dict[str, Work]] = {}
        self._fine = False
        self.summary = ""  # of the last fault of those that have failed alike

    def reported(self, key: str, epoch: int) -> None:
        """A cell has got so far."""
        self._epochs[key] = max(epoch, self._epochs.get(key, 0))

    def ended(self, work: Work, fault: Fault | None) -> None:
        """A cell has ended, well or with a fault."""
        if fault is None:
            self._fine = True
        else:
            alike = self._failures.setdefault(signature(fault), {})
            alike[work.key] = work
            if len(alike) >= _ALIKE:
                self.summary = fault.summary

    @property
    def failing(self) -> int:
        """How many cells have failed alike, where that is all there is to see; else 0."""
        if self._fine:
            return 0
        for failed in self._failures.values():
            arms = {work.arm for work in failed.values()}
            if len(failed) >= _ALIKE and len(arms) >= min(2, self._arms):
                reached = max(self._epochs.get(key, 0) for key in failed)
                if all(epoch <= reached for key, epoch in self._epochs.items() if key not in failed):
                    return len(failed)
        return 0
