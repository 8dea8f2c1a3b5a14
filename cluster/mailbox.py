"""The one small actor through which a matrix's trials, their ranks and the driver agree on what runs and what stops.

A *slot* is a trial's process with its workers; it is given one cell after another. Within a cell, epochs are handed
over in lockstep: rank 0 posts an epoch and waits, the trial takes it and returns it to Tune; when Tune asks for the
next step the trial takes again, and that is the decision to go on, which every rank is given. A stop asked for
meanwhile (by the scheduler, or for all by an interruption) is the decision instead. So all ranks leave in the same
epoch, whoever asked.

A call takes 0.6 ms on a 2-core machine (benchmarks/bench_trial.py), against epochs of a second and more; hence one
mechanism for a trial in its own process and for a worker group on several nodes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.work import REPLACED, URGENT, Fault

#: A process: its node's id and its number there.
Place = tuple[str, int]


@dataclass(frozen=True)
class Job:
    """What all trials of a matrix share; the references are fetched once per process, the data once per node."""

    train_function: Any  # ObjectRef
    shared: Any  # ObjectRef
    workers: int
    cpus_per_worker: int
    gpus_per_worker: float
    placement: str
    storage: str


@dataclass(frozen=True)
class Message:
    """What a trial takes: an epoch's metrics, the end of the cell, or that the cell was given up."""

    kind: str  # "epoch" | "end" | "abandoned"
    metrics: dict[str, Any] = field(default_factory=dict)
    result: Any = None
    fault: Fault | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Assignment:
    """What a rank gets for a cell: its payload, and why it is to stop where it resumes, if it is."""

    payload: dict[str, Any]
    stop: str | None = None


class _Cell:
    """One attempt at a cell; with ``stop`` it is only to resume, and to leave before another epoch."""

    def __init__(self, key: str, stop: str | None = None) -> None:
        self.key = key
        self.stop_from_start = stop
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.over = False
        self.moved = 0
        self.stop_asked = stop
        self._told = stop
        self._posted = 0
        self._decisions: dict[int, asyncio.Future[str | None]] = {}
        self._finished: dict[int, Any] = {}

    def decision(self, epoch: int) -> asyncio.Future[str | None]:
        return self._decisions.setdefault(epoch, asyncio.get_running_loop().create_future())

    def post(self, epoch: int, metrics: dict[str, Any]) -> None:
        self._posted = epoch
        self.moved += 1
        self.messages.put_nowait(Message("epoch", metrics=metrics))
        if self.stop_asked:
            self.decide()

    def decide(self) -> None:
        """Answer whoever waits after the last posted epoch."""
        if self._posted and not self.decision(self._posted).done():
            self.moved += 1
            self._told = self.stop_asked
            self.decision(self._posted).set_result(self.stop_asked)

    def stop(self, reason: str) -> None:
        self.stop_asked = self.stop_asked or reason
        self.decide()

    def urgent(self) -> str | None:
        """Why to leave before the end of the epoch; whoever is told does so."""
        if self.stop_asked not in URGENT:
            return None
        self._told = self.stop_asked
        return self.stop_asked

    def finish(self, rank: int, result: Any, ranks: int) -> None:
        self._finished[rank] = result
        if len(self._finished) == ranks:
            self.end(Message("end", result=self._finished[0], reason=self._told))

    def end(self, message: Message) -> None:
        if not self.over:
            self.over = True
            self.messages.put_nowait(message)


class _Slot:
    def __init__(self) -> None:
        self.cells: list[_Cell] = []
        self.closed = False
        self.changed = asyncio.Event()
        self.members: list[Any] = []
        self.places: list[Place] = []


class Mailbox:
    """Async actor: calls wait without holding a thread."""

    def __init__(self, job: list[Job], payloads: dict[str, dict[str, Any]]) -> None:
        self._job = job
        self._payloads = payloads
        self._slots: dict[str, _Slot] = {}
        self._interrupted: str | None = None

    # The trial's calls

    async def assign(self, slot: str, key: str, place: Place, stop: str | None = None) -> str | None:
        """Give a slot its next cell; a reason instead if nothing is to be started any more.

        `place` is where the trial's process is.

        A former attempt at the cell, should it live on somewhere, is told to leave at its next report. ``stop`` tells
        the cell to stop where it resumes.
        """
        if self._interrupted is not None:
            return self._interrupted
        for cell in self._current(key):
            cell.stop(REPLACED)
            cell.over = True
        own = self._slots[slot] = self._slots.pop(slot, _Slot())  # the last one: what a cell's name stands for now
        own.places = own.places or [place]
        own.cells.append(_Cell(key, stop))
        own.changed.set()
        return None

    async def take(self, slot: str) -> Message:
        """The trial goes on: decides for the last epoch posted, then waits for the next message."""
        cell = self._slots[slot].cells[-1]
        if cell.messages.empty():
            cell.decide()
        return await cell.messages.get()

    async def leave(self, slot: str, reason: str) -> None:
        """Ask the slot's cell to stop."""
        if (place := self._slots.get(slot)) is not None and place.cells:
            place.cells[-1].stop(reason)

    async def close(self, slot: str) -> None:
        """No cell follows: the slot's workers end."""
        place = self._slots.setdefault(slot, _Slot())
        place.closed = True
        place.changed.set()

    async def fail(self, slot: str, fault: Fault) -> None:
        """The slot's workers have ended with an error."""
        self._slots[slot].cells[-1].end(Message("end", fault=fault))

    async def members(self, slot: str) -> list[Any]:
        """The worker actors of the slot's group, to be killed if they do not leave."""
        return self._slots[slot].members if slot in self._slots else []

    # The ranks' calls

    async def join(self, slot: str, member: Any = None, place: Place | None = None) -> list[Job]:
        """A rank is there; returns the job. Members of a group give their actor's handle and where their process is."""
        own = self._slots[slot]
        if member is not None:
            own.members.append(member)
        if place is not None:
            own.places.append(place)
        return self._job

    async def next(self, slot: str, number: int) -> Assignment | None:
        """The slot's cell with this number (0, 1, ...), as soon as there is one; None at the end."""
        place = self._slots[slot]
        while len(place.cells) <= number:
            if place.closed:
                return None
            place.changed.clear()
            await place.changed.wait()
        cell = place.cells[number]
        cell.moved += 1
        return Assignment(self._payloads[cell.key], cell.stop_from_start)

    async def post(self, slot: str, number: int, epoch: int, metrics: dict[str, Any] | None) -> str | None:
        """A rank has ended its cell's epoch (1, 2, ...); returns the decision. Rank 0 brings the metrics."""
        cell = self._slots[slot].cells[number]
        decision = cell.decision(epoch)
        if metrics is not None:
            cell.post(epoch, metrics)
        return await decision

    async def alive(self, slot: str, number: int) -> str | None:
        """A rank is at work between two reports; returns why it is to leave at once, if it is."""
        cell = self._slots[slot].cells[number]
        cell.moved += 1
        return cell.urgent() if self._job[0].workers == 1 else None

    async def finish(self, slot: str, number: int, rank: int, result: Any) -> None:
        """A rank's train function has returned; the cell ends when all have."""
        cell = self._slots[slot].cells[number]
        cell.moved += 1
        cell.finish(rank, result, self._job[0].workers)

    # The driver's calls

    async def stop(self, key: str, reason: str) -> None:
        """Ask one cell to stop at its next report, or at the one it waits in."""
        for cell in self._current(key):
            cell.stop(reason)

    async def interrupt(self, reason: str) -> None:
        """Ask all cells to stop, and start none any more."""
        self._interrupted = reason
        for cell in self._current():
            cell.stop(reason)

    async def moved(self) -> dict[str, int]:
        """By cell that runs, how often it has moved: a count that changes, 0 until its ranks have come for it."""
        return {cell.key: cell.moved for cell in self._current()}

    async def leave_node(self, node: str, reason: str) -> None:
        """Ask the cells to stop that have a process on this node."""
        for slot in self._slots.values():
            if any(place[0] == node for place in slot.places):
                for cell in slot.cells[-1:]:
                    cell.stop(reason)

    async def places(self, key: str) -> list[Place]:
        """Where the processes are, or were, of the slot that had this cell last."""
        slots = [slot for slot in self._slots.values() if slot.cells and slot.cells[-1].key == key]
        return slots[-1].places if slots else []

    async def abandon(self) -> None:
        """Wait for no cell any longer: trials return, and their processes are ended."""
        for cell in self._current():
            cell.end(Message("abandoned"))

    def _current(self, key: str | None = None) -> list[_Cell]:
        cells = [slot.cells[-1] for slot in self._slots.values() if slot.cells]
        return [cell for cell in cells if not cell.over and key in (None, cell.key)]


def start_mailbox(name: str, job: Job, payloads: dict[str, dict[str, Any]]) -> Any:
    """Start the mailbox on the driver's node, under a name that trials find it by."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"name": name, "num_cpus": 0, "max_concurrency": 100_000, "scheduling_strategy": here}
    # In a list, references stay references: as plain arguments Ray would hand over what they point to.
    return ray.remote(Mailbox).options(**options).remote([job], payloads)
