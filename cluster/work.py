"""What is run, how it ended, and who is told: the vocabulary of this package, without Ray and without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from cluster.budget import NOTHING, Spent
from cluster.redaction import redact

if TYPE_CHECKING:
    import torch

Scalar = str | int | float | bool | None

#: How a cell can end. `interrupted` is the only one that leaves it to be run again.
STATUSES = ("done", "diverged", "stopped", "failed", "interrupted")

#: Why a cell leaves that only waits, at a rung, for the others of its arm; it has not ended.
PAUSED = "paused"

#: Why a cell leaves whose node is going to be taken away; it goes on elsewhere.
PREEMPTED = "preempted"

#: Why a former attempt at a cell leaves that lives on somewhere although it was taken for lost.
REPLACED = "replaced"

#: Why a train function can be told to stop, and the status a cell then has unless its result says otherwise.
STATUS_OF_REASON: Mapping[str, str] = {
    "scheduler": "stopped",
    "interrupted": "interrupted",
    PAUSED: "interrupted",
    PREEMPTED: "interrupted",
}

#: Reasons that do not wait for the end of an epoch, where the train function can leave within one.
URGENT = frozenset({"interrupted", PREEMPTED, REPLACED})


#: What can go wrong while a cell trains; it decides what happens next (cluster.retries).
#: `error`: the train function raised; `died`: a process of the trial is gone; `node`: its machine is, or will be;
#: `memory`: there was not enough of it, on host or GPU; `disk`: no space is left; `hang`: nothing moved for far longer
#: than an epoch takes.
FaultKind = Literal["error", "died", "node", "memory", "disk", "hang"]


@dataclass(frozen=True)
class Fault:
    """What went wrong in one attempt at a cell: `text` is the traceback, or Ray's words about a lost process.

    Records, events, tags and reports have it from here, so secrets are taken out here.
    """

    kind: FaultKind
    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", redact(self.text))

    @property
    def summary(self) -> str:
        """The last line of the text, which says most."""
        lines = self.text.strip().splitlines()
        return lines[-1] if lines else self.kind


@dataclass(frozen=True)
class Work:
    """One cell to run.

    `key` identifies it (the cell's hash), `name` is for people, `payload` goes to the train function untouched. `arm`
    is what cells that differ in the seed alone have in common.
    `epochs` is the number planned, if known: the table shows it, and no scheduler stops a cell at its last epoch.
    `epochs_done` are those an earlier run has left in a checkpoint; no more than shown.
    `expected_seconds` is what the plan expects the cell to take in its slot, if it expects anything.
    """

    key: str
    name: str
    payload: dict[str, Any]
    params: dict[str, Scalar] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    epochs: int | None = None
    epochs_done: int = 0
    expected_seconds: float | None = None
    arm: str = ""


class TrialContext(Protocol):
    """What the training loop sees of the cluster; the same on every rank but for `rank` and `device`."""

    @property
    def rank(self) -> int:
        """Place of this process among the trial's workers, from 0."""

    @property
    def world_size(self) -> int:
        """Number of workers of this trial."""

    @property
    def device(self) -> torch.device:
        """The device this rank computes on."""

    def report(self, metrics: dict[str, float | int]) -> None:
        """Hand over one epoch's metrics, on every rank; returns when it is known whether to go on."""

    def should_stop(self) -> str | None:
        """None to go on, else the reason, the same on every rank: `scheduler` (stop), else leave to be resumed.

        It can be there before the first report: a cell that waited at a rung resumes only to stop there.
        """

    def progress(self, epoch: int, step: int, steps: int) -> None:
        """Say that a step is done, which shows as `alive` does that work goes on."""

    def alive(self) -> None:
        """Say that work goes on between two reports, else it is taken for a hang; cheap, returns at once."""

    def leave_now(self) -> bool:
        """Whether to leave within an epoch, and be resumed there; only with one worker, and as `alive` is called."""


#: (payload, shared, context) -> result. Runs on every rank; rank 0's result is the cell's. `shared` is read-only.
#: `result["status"]`, if given, becomes the cell's status. Give a function of a module: it is pickled by reference.
TrainFunction = Callable[[dict[str, Any], Any, TrialContext], dict[str, Any]]


@dataclass(frozen=True)
class Ended:
    """How a cell ended: `status` is one of STATUSES, `error` the traceback of a failed one, `seconds` slot time.

    `fault` says what kind of failure it was, `retries` how often the cell was tried again before it ended.
    """

    status: str
    result: dict[str, Any] | None = None
    error: str | None = None
    seconds: float = 0.0
    fault: FaultKind | None = None
    retries: int = 0


@dataclass(frozen=True)
class Outcome:
    """How a matrix ended: `ended` by key; `left` are the cells to run again after an interruption.

    `interrupted` is the signal's name, `budget` the limit that was reached (`2 hours`), `halted` a sentence on what
    made it pointless to go on (the cluster is gone, every cell fails alike), each None otherwise; `spent` is what the
    run has cost. After `cluster_lost` Ray must not be used any more in this process.
    """

    ended: dict[str, Ended]
    left: tuple[Work, ...]
    interrupted: str | None
    slots: int
    seconds: float
    budget: str | None = None
    spent: Spent = NOTHING
    halted: str | None = None
    cluster_lost: bool = False


class Listener:
    """Is told what happens, one thing at a time, in a thread of the driver's; does nothing unless overridden.

    Methods must return quickly. What they raise is logged once and otherwise ignored: watching never stops training.
    """

    def matrix_started(self, works: Sequence[Work], slots: int) -> None:
        """All cells to run, in order, and how many run at once."""

    def slots_changed(self, slots: int) -> None:
        """Nodes have come or gone: so many cells can run at once from now on."""

    def cell_started(self, work: Work) -> None:
        """The cell has a slot and trains."""

    def cell_epoch(self, work: Work, metrics: Mapping[str, Any]) -> None:
        """The cell reported `metrics`, exactly these."""

    def cell_paused(self, work: Work) -> None:
        """The cell waits at a rung, without a slot, for the others of its arm; `cell_started` tells when it goes on."""

    def cell_retried(self, work: Work, fault: Fault, retries: int) -> None:
        """An attempt was lost; the cell has left its slot and is tried again, for the `retries`-th time (1, ...)."""

    def notice(self, text: str) -> None:
        """A sentence about what happens to the cluster: a node is lost or will be, cells are held back."""

    def cell_ended(self, work: Work, ended: Ended) -> None:
        """The cell's train function has returned (or failed) and its slot is free."""

    def interrupted(self, signal_name: str, seconds: float) -> None:
        """A first SIGINT or SIGTERM: running cells have `seconds` to leave; a second ends at once."""

    def matrix_ended(self, outcome: Outcome) -> None:
        """Nothing runs any more."""
