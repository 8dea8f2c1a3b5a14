"""Looks, while cells run, for what nobody reports: cells that hang, nodes that come, go or are about to go."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.hangs import Patience, Stillness
from cluster.held import release_orphaned_groups
from cluster.mailbox import Place
from cluster.nodes import Nodes
from cluster.queue import Queue
from cluster.resources import Resources, fits_on_one
from cluster.work import PREEMPTED, Fault, Work

_LOOK_SECONDS = 2.0
_ANSWER_SECONDS = 10.0

# A driver that was suspended itself, or an answer that was long in coming, says nothing about the cells.
_MOST_SECONDS = 10.0

_END_AGAIN_SECONDS = 30.0

# Without a node that holds a trial: for another to come, from an autoscaler or by hand.
_NO_NODE_SECONDS = 120.0


class Told(Protocol):
    """Who is told what happens."""

    def tell(self, method: str, *arguments: Any) -> None:
        """Tell the listeners."""

    def halt(self, why: str) -> None:
        """End the run."""


class Guard:
    """One run's; ``mailbox`` is asked what moves, and ``queue`` told how many slots there are."""

    def __init__(
        self,
        works: Mapping[str, Work],
        mailbox: Any,
        queue: Queue,
        nodes: Nodes,
        resources: Resources,
        patience: Patience,
        matrix: Told,
    ) -> None:
        self.mailbox = mailbox
        self._works, self._queue, self._resources = works, queue, resources
        self._matrix = matrix
        self._nodes = nodes
        self._still = Stillness(patience)
        self._hung: dict[str, Fault] = {}
        self._ended_at: dict[str, float] = {}
        self._begun: set[str] = set()
        self._looked = time.monotonic()
        self._without: float | None = None  # since when no trial fits

    def started(self, work: Work) -> None:
        """A cell has a slot."""
        self._hung.pop(work.key, None)
        self._begun.add(work.key)
        self._still.started(work.key, work.arm)

    def reported(self, work: Work) -> None:
        """A cell has ended an epoch."""
        self._still.reported(work.key)

    def left(self, work: Work) -> None:
        """A cell has no slot any more."""
        self._begun.discard(work.key)
        self._still.ended(work.key)

    def look(self) -> None:
        """Look around, if it is time to."""
        elapsed = time.monotonic() - self._looked
        if elapsed < _LOOK_SECONDS:
            return
        self._looked += elapsed
        self._look_at_nodes()
        if self._resources.workers > 1:
            release_orphaned_groups()
        moved = self._ask("moved")
        if moved is not None:
            for key, seconds in self._still.look(moved, min(elapsed, _MOST_SECONDS)).items():
                self._end(key, seconds)

    def fault_of(self, work: Work, fault: Fault) -> tuple[Fault, str | None]:
        """A fault in the light of what is known here: a cell that was ended for hanging, a node that has gone.

        Also the node of the trial's process, if known and if a trial fits on the others.
        """
        places: list[Place] = self._ask("places", work.key) or []
        node = places[0][0] if places and self._resources.slots(self._nodes.others(places[0][0])) else None
        if work.key in self._hung:
            return self._hung[work.key], node
        if fault.kind == "died" and any(self._nodes.is_gone(each) for each in {place[0] for place in places}):
            return Fault("node", fault.text), node
        return fault, node

    def _ask(self, method: str, *arguments: Any) -> Any:
        """The mailbox's answer, None without one; should the mailbox be gone, nothing can go on."""
        try:
            return ray.get(getattr(self.mailbox, method).remote(*arguments), timeout=_ANSWER_SECONDS)
        except ray.exceptions.RayActorError:
            self._matrix.halt("the process through which driver and trials agree has died; the same command goes on")
        except ray.exceptions.RayError:
            pass  # busy: asked again
        return None

    def _look_at_nodes(self) -> None:
        change = self._nodes.look()
        for name in change.lost.values():
            self._matrix.tell("notice", f"lost: {name}; its cells go on elsewhere")
        for name in change.leaving.values():
            self._matrix.tell("notice", f"{name} is going to be taken away: cells leave it with a checkpoint")
        for identity in self._nodes.leaving:  # again and again: a process there may just have been given another cell
            self._ask("leave_node", identity, PREEMPTED)
        slots = self._resources.slots(self._nodes.resources)
        if slots != self._queue.slots:
            self._matrix.tell("notice", f"{slots} cells at once from now on, after {self._queue.slots}")
            self._matrix.tell("slots_changed", slots)
            self._queue.slots = slots
        if change.lost or change.came:
            self._queue.double_bundle = self._resources.double_bundle(self._nodes.resources)
        if slots and not self._queue.without_room(self._begun, self._fits):
            self._without = None
        elif self._without is None:
            self._without = time.monotonic()
        elif time.monotonic() - self._without > _NO_NODE_SECONDS:
            self._matrix.halt("no node is left that one trial fits on")

    def _fits(self, bundle: Mapping[str, float] | None, avoid: str) -> bool:
        """Whether a trial fits on one of the nodes but the one to avoid: as any other, or with a bundle of its own."""
        nodes = self._nodes.others(avoid)
        return fits_on_one(bundle, nodes) if bundle else self._resources.slots(nodes) > 0

    def _end(self, key: str, seconds: float) -> None:
        """End all processes of a cell that hangs; also such as are stopped, which no message reaches.

        Again after a while, should they still be there: it may not have reached them.
        """
        now = time.monotonic()
        if key not in self._hung:
            text = f"nothing has moved for {seconds:.0f} s (allowed: {self._still.allowed(key):.0f} s); ended"
            self._hung[key] = Fault("hang", text)
            self._matrix.tell("notice", f"{self._works[key].name} hangs: {text}")
        elif now - self._ended_at[key] < _END_AGAIN_SECONDS:
            return
        self._ended_at[key] = now
        for node, pid in self._ask("places", key) or []:
            where = NodeAffinitySchedulingStrategy(node, soft=False)
            ray.remote(num_cpus=0, max_retries=0)(kill_process).options(scheduling_strategy=where).remote(pid)


def kill_process(pid: int) -> None:
    """End a process of Ray's on this machine that does not listen any more."""
    with contextlib.suppress(OSError):
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::"):  # the number may be another's by now
            os.kill(pid, signal.SIGKILL)
