"""A trial: a Tune trainable that owns a Ray Train run in a thread, and waits for it before it says that it has ended.

With one worker the run is Train's local mode, in the trial's own process; with more it is a worker group with torch
DDP. Tune reuses the process for the next cell (`reset_config`), and the Train run with it: the ranks ask the mailbox
for one cell after another, so that processes, imports, data, CUDA context and process group stay. A cell that fails
takes its processes with it, and the next one gets new ones.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
import traceback
import uuid
from typing import Any

import ray
from ray import tune

from cluster.context import Context, prepare_process, release_memory
from cluster.faults import kind_of_raised, kind_of_run
from cluster.mailbox import Job, Message, Place
from cluster.network import torch_config
from cluster.scheduler import FINAL, REPORT
from cluster.work import PAUSED, PREEMPTED, STATUS_OF_REASON, STATUSES, Fault

# How long a train function that was told to stop may take to leave before its workers are killed.
_LEAVE_SECONDS = 60.0
_KILLED_SECONDS = 30.0

_NAME_LETTERS = 80


class TrialFaultError(Exception):
    """What ended a cell in its own processes; carries the Fault."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault

    def __str__(self) -> str:
        return self.fault.text


class Trial(tune.Trainable):  # type: ignore[misc]
    """Tune's view of one cell after another in one slot."""

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """What the trial's own process holds; a cell that hung on a node is kept from it."""
        avoid = config.get("cell", {}).get("avoid")
        elsewhere = {"bundle_label_selector": [_elsewhere(avoid)]} if avoid else {}
        return tune.PlacementGroupFactory([config["bundle"]], **elsewhere)

    def setup(self, config: dict[str, Any]) -> None:
        """Get ready for the first cell; `config` carries the mailbox's name, the bundle and the cell.

        It begins with the first `step`: Tune may set up a process for a cell and then give it to another one.
        """
        self._mailbox_name: str = config["mailbox"]
        self._mailbox = ray.get_actor(self._mailbox_name)
        self._slot = ""
        self._gpus = float(config["bundle"].get("GPU", 0.0))
        self._avoid: str | None = config["cell"]["avoid"]
        self._first = self._name = shown(config["cell"]["name"])
        self._thread: threading.Thread | None = None
        self._running = False
        self._doomed = False  # its ranks will not come to ask for another cell
        self._given: dict[str, Any] | None = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Go on to another cell in this slot; raises TrialFaultError if the one before does not leave."""
        if not self._stop_cell():
            raise TrialFaultError(Fault("died", "the cell before it did not leave its slot"))
        self._given = new_config
        return True

    def step(self) -> dict[str, Any]:
        """The next epoch, or the end; raises TrialFaultError with the train function's traceback.

        Also where the cell has left for its node's sake: Tune would give this process another cell, here.
        """
        if self._given is not None:
            self._start(self._given)
            self._given = None
        if not self._running:
            return _ended("interrupted", None)
        # Its name is what Ray's dashboard counts: a finished call for each epoch of the cell, and one that runs.
        message: Message = ray.get(self._mailbox.take.options(name=self._name).remote(self._slot))
        if message.kind == "epoch":
            return {REPORT: message.metrics}
        self._running = False
        if message.kind == "abandoned":
            self._doomed = True
            return _ended("interrupted", None)
        fault = message.fault
        if fault is None and not isinstance(message.result, dict):
            fault = Fault("error", f"the train function returned {type(message.result).__name__}, not a dict")
        if fault is not None:
            # Here rather than in cleanup(), for which Tune allows ten seconds at the end of a matrix.
            self._doomed = True
            self._end_run()
            raise TrialFaultError(fault)
        ended = _ended(message.reason, message.result)
        if ended[FINAL]["status"] == PREEMPTED:
            self._end_run()
            raise TrialFaultError(Fault("node", "its node is going to be taken away; it has left with a checkpoint"))
        return ended

    def cleanup(self) -> None:
        """Wait until nothing of this slot runs any more; what does not leave is killed."""
        self._stop_cell()
        self._end_run()

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Nothing: train functions keep their own checkpoints."""
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing: train functions resume from their own checkpoints."""

    def __repr__(self) -> str:
        """What Ray's dashboard calls this process; it asks once, so that only the first cell can be in it."""
        return f"from {self._first} on"

    def _start(self, config: dict[str, Any]) -> None:
        new = self._thread is None or not self._thread.is_alive()
        if new:  # the first cell, or the workers have died while they waited for this one
            self._slot = uuid.uuid4().hex[:12]
        cell = config["cell"]
        self._name = shown(cell["name"])
        refused = ray.get(self._mailbox.assign.remote(self._slot, cell["key"], _place(), cell["stop"]))
        self._running = refused is None
        if new and self._running:
            self._thread = threading.Thread(target=self._run, args=(self._slot,), daemon=True, name=self._slot)
            self._thread.start()

    def _stop_cell(self) -> bool:
        """Ask the cell, if one runs, to leave; True when it has, False when it takes too long."""
        deadline = time.monotonic() + _LEAVE_SECONDS
        if self._running:
            ray.get(self._mailbox.leave.remote(self._slot, "interrupted"))
        with contextlib.suppress(ray.exceptions.GetTimeoutError):
            while self._running:
                wait = max(deadline - time.monotonic(), 0.1)
                message = ray.get(self._mailbox.take.remote(self._slot), timeout=wait)
                self._running = message.kind == "epoch"
        self._doomed = self._doomed or self._running
        return not self._running

    def _end_run(self) -> None:
        """End the Train run: its ranks leave when the slot is closed, or are killed."""
        ray.get(self._mailbox.close.remote(self._slot))
        if self._thread is None:
            return
        self._thread.join(0.0 if self._doomed else _LEAVE_SECONDS)
        members = ray.get(self._mailbox.members.remote(self._slot)) if self._thread.is_alive() else []
        for member in members:
            # Then Train's controller sees its workers gone, gives their placement group back, and fit() raises.
            ray.kill(member)
        self._thread.join(_KILLED_SECONDS if members else 0.0)

    def _run(self, slot: str) -> None:
        """The slot's Train run, from the first cell to the last, or to a failing one."""
        try:
            [job] = ray.get(self._mailbox.join.remote(slot))
            fit(job, self._mailbox_name, slot, self._gpus, self._avoid, self._name)
        except BaseException as caught:
            ray.get(self._mailbox.fail.remote(slot, Fault(kind_of_run(caught), _text(caught))))


def fit(job: Job, mailbox: str, slot: str, gpus: float, avoid: str | None = None, first: str = "") -> None:
    """Run the slot's cells through Ray Train until the mailbox closes it; raises what a cell raised.

    `gpus` is what the trial's own process holds; the workers of a group are kept from the node `avoid`. `first` is the
    cell that the run is named by.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    each = {"CPU": float(job.cpus_per_worker)} | ({"GPU": job.gpus_per_worker} if job.gpus_per_worker else {})
    grouped = ScalingConfig(
        num_workers=job.workers,
        use_gpu=job.gpus_per_worker > 0,
        resources_per_worker=each,
        placement_strategy=job.placement,
        label_selector=_elsewhere(avoid) if avoid else None,
    )
    run = RunConfig(name=run_name(first, slot), storage_path=job.storage, failure_config=FailureConfig(max_failures=0))
    config = {"mailbox": mailbox, "slot": slot, "gpus": gpus or job.gpus_per_worker}
    scaling = grouped if job.workers > 1 else ScalingConfig(num_workers=0)
    trainer = _trainer()(
        _ranks_loop, train_loop_config=config, scaling_config=scaling, run_config=run, torch_config=torch_config()
    )
    trainer.fit()


def shown(name: str) -> str:
    """A cell's name as Ray's dashboard and logs show it: names come from users."""
    return "".join(letter if letter.isprintable() else " " for letter in name)[:_NAME_LETTERS]


def run_name(first: str, slot: str) -> str:
    """What the Train run of a slot is called, which goes from its first cell on; it is also a folder's name."""
    plain = re.sub(r"[^A-Za-z0-9=_+-]+", "-", first).strip("-")[:_NAME_LETTERS]
    return "-".join(part for part in ("from", plain, "on-slot", slot) if part)


def _trainer() -> Any:
    """Train's TorchTrainer without the actor that watches over the placement group of a controller that dies.

    That actor asks the dashboard every second, and a run does not end before its last question is answered: seconds on
    a busy machine, and without a dashboard always. The driver does its work when a trial's process has died.
    """
    from ray.train.torch import TorchTrainer

    class Trainer(TorchTrainer):  # type: ignore[misc]
        def _create_default_callbacks(self) -> list[Any]:
            callbacks: list[Any] = super()._create_default_callbacks()
            return [each for each in callbacks if type(each).__name__ != "PlacementGroupCleanerCallback"]

    return Trainer


def _ranks_loop(config: dict[str, Any]) -> None:
    """Runs on every rank: one cell after another."""
    import ray.train

    slot = config["slot"]
    train = ray.train.get_context()
    rank, world_size = train.get_world_rank(), train.get_world_size()
    mailbox = ray.get_actor(config["mailbox"])
    grouped = world_size > 1
    member = ray.get_runtime_context().current_actor if grouped else None
    [job] = ray.get(mailbox.join.remote(slot, member, _place() if grouped else None))
    prepare_process(job, config["gpus"])
    # Once, so that what a train function derives from `shared` can be kept from cell to cell.
    function, shared = ray.get([job.train_function, job.shared])
    number = 0
    while (given := ray.get(mailbox.next.remote(slot, number))) is not None:
        context = Context(mailbox, slot, number, rank, world_size, job.gpus_per_worker, given.stop)
        try:
            result = function(given.payload, shared, context)
        except BaseException as error:
            # Said here, where the traceback is the train function's own; raised, so that Train ends the other ranks.
            ray.get(mailbox.fail.remote(slot, Fault(kind_of_raised(error), _text(error, skip=1))))
            raise
        del given, context
        release_memory(job)
        ray.get(mailbox.finish.remote(slot, number, rank, result if rank == 0 else None))
        number += 1


def _ended(reason: str | None, result: dict[str, Any] | None) -> dict[str, Any]:
    status = (result or {}).get("status")
    if status not in STATUSES:
        status = STATUS_OF_REASON.get(reason or "", "done")
    if status == "interrupted" and reason in (PAUSED, PREEMPTED):
        status = reason
    return {tune.result.DONE: True, FINAL: {"status": status, "result": result}}


def _elsewhere(node: str) -> dict[str, str]:
    """The label selector of all nodes but one."""
    return {"ray.io/node-id": f"!{node}"}


def _place() -> Place:
    """Where this process is."""
    return ray.get_runtime_context().get_node_id(), os.getpid()


def _text(error: BaseException, skip: int = 0) -> str:
    """The traceback, without its outermost `skip` frames."""
    trace = error.__traceback__
    for _ in range(skip):
        trace = trace.tb_next if trace is not None else None
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()
