"""Cells that lose their processes, hang, or lack memory, on a real Ray with 4 logical CPUs and 2 logical GPUs."""

import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.budget import NO_BUDGET, Budget
from cluster.connection import connect
from cluster.hangs import Patience
from cluster.held import leftovers
from cluster.resources import Resources
from cluster.retries import Retries
from cluster.runner import run_cells
from cluster.scheduler import NoScheduler
from cluster.work import Listener, Work

pytestmark = pytest.mark.ray

EPOCHS = 5


def train(payload, shared, context):
    """A cell that resumes after the epochs it has done; at its third it meets what its payload says."""
    import ray

    folder = Path(payload["folder"])
    checkpoint = folder / "epoch"
    epoch = int(checkpoint.read_text()) if checkpoint.exists() else 0
    attempt = sum(1 for _ in folder.glob(f"attempt-{context.rank}-*"))
    held = ray.get_runtime_context().get_assigned_resources()
    (folder / f"attempt-{context.rank}-{attempt}").write_text(f"{epoch} {os.getpid()} {held}")
    while epoch < EPOCHS:
        epoch += 1
        time.sleep(payload.get("seconds", 0.05))
        if epoch == 3 and attempt < payload.get("times", 1) and context.rank == payload.get("rank", 0):
            meet(payload.get("fault"))
        context.report({"epoch": epoch, "val_mae": 1 / epoch})
        if context.rank == 0:
            checkpoint.write_text(str(epoch))
            with (folder / "trained").open("a") as file:
                file.write(f"{epoch} ")
        if context.should_stop():
            return {"status": "interrupted"}
    return {"status": "done", "epochs": epoch}


def meet(fault):
    if fault == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "sleeps":
        time.sleep(600)
    if fault == "stops":
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(600)
    if fault == "memory":
        raise MemoryError("no more of it")
    if fault == "raises":
        raise ValueError("broken in the config all share")


class Told(Listener):
    def __init__(self):
        self.retried, self.notices, self.ended, self.started = [], [], [], []

    def cell_started(self, work):
        self.started.append(work.key)

    def cell_retried(self, work, fault, retries):
        self.retried.append((work.key, fault.kind, retries))

    def notice(self, text):
        self.notices.append(text)

    def cell_ended(self, work, ended):
        self.ended.append(work.key)


@pytest.fixture(scope="module")
def ray_here():
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    folder = tempfile.mkdtemp(prefix="ray-r", dir="/tmp")
    with connect("local", num_cpus=4, num_gpus=2, temp_dir=folder) as connection:
        yield connection
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def run(ray_here, tmp_path):
    def run(
        payloads,
        *,
        listeners=(),
        retries=Retries(),  # noqa: B008
        patience=Patience(),  # noqa: B008
        budget=NO_BUDGET,
        **resources,
    ):
        works = []
        for index, payload in enumerate(payloads):
            folder = tmp_path / str(index)
            folder.mkdir(exist_ok=True)
            own = {"folder": str(folder), **payload}
            works.append(Work(str(index), f"cell {index}", own, epochs=EPOCHS, arm=own.get("arm", "")))
        told = Told()
        outcome = run_cells(
            works,
            train,
            None,
            resources=Resources(**{"gpus_per_worker": 0, **resources}),
            scheduler=NoScheduler(),
            connection=ray_here,
            storage=tmp_path / "storage",
            listeners=[told, *listeners],
            retries=retries,
            patience=patience,
            budget=budget,
        )
        assert [each for each in leftovers() if "Somebody" not in each] == []
        assert sorted(told.ended) == sorted(outcome.ended)
        return outcome, told

    return run


def trained(tmp_path, index=0):
    return [int(epoch) for epoch in (tmp_path / str(index) / "trained").read_text().split()]


def test_a_killed_process_costs_no_more_than_the_epoch_it_was_in(run, tmp_path):
    outcome, told = run([{"fault": "dies"}, {}, {"fault": "dies", "times": 2}, {}], cpus_per_worker=2)
    assert {ended.status for ended in outcome.ended.values()} == {"done"}
    assert sorted(told.retried) == [("0", "died", 1), ("2", "died", 1), ("2", "died", 2)]
    assert [outcome.ended[key].retries for key in "0123"] == [1, 0, 2, 0]
    for index in range(4):
        assert trained(tmp_path, index) == [1, 2, 3, 4, 5]
    assert (tmp_path / "0" / "attempt-0-1").read_text().startswith("2 ")
    assert outcome.spent.cells == 4


def test_a_killed_rank_of_a_group_is_no_error_of_the_others(run, tmp_path):
    outcome, told = run([{"fault": "dies", "rank": 1}, {"fault": "dies", "rank": 0}], workers=2)
    assert {ended.status for ended in outcome.ended.values()} == {"done"}
    assert sorted(told.retried) == [("0", "died", 1), ("1", "died", 1)]
    for index in range(2):
        assert sorted(set(trained(tmp_path, index))) == [1, 2, 3, 4, 5]
        assert len(trained(tmp_path, index)) <= 6


def test_limits_end_a_cell_that_always_dies(run):
    outcome, told = run([{"fault": "dies", "times": 9}, {}], retries=Retries(per_cell=1), cpus_per_worker=4)
    failed = outcome.ended["0"]
    assert (failed.status, failed.fault, failed.retries) == ("failed", "died", 1)
    assert "at most 1 per cell" in failed.error
    assert outcome.ended["1"].status == "done"
    assert told.retried == [("0", "died", 1)]


def test_what_hangs_is_ended_and_tried_again_once(run, tmp_path):
    """What sleeps, and what is stopped."""
    hanging = [{"fault": fault, "times": times} for times in (1, 2) for fault in ("sleeps", "stops")]
    patience = Patience(factor=3, least_seconds=4, first_seconds=60)
    outcome, told = run([*hanging, {"seconds": 0.3}], patience=patience, cpus_per_worker=1)
    assert [outcome.ended[key].status for key in "01234"] == ["done", "done", "failed", "failed", "done"]
    assert sorted(told.retried) == [(key, "hang", 1) for key in "0123"]
    for key in "23":
        assert outcome.ended[key].fault == "hang"
        assert "nothing has moved for" in outcome.ended[key].error
    for index in (0, 1):
        assert trained(tmp_path, index) == [1, 2, 3, 4, 5]
    assert len(told.notices) == 6
    for attempt in tmp_path.glob("*/attempt-*"):
        assert not is_stopped(int(attempt.read_text().split()[1]))


def is_stopped(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    except OSError:
        return False


def test_a_hang_in_a_group_ends_all_its_processes(run, tmp_path):
    patience = Patience(factor=3, least_seconds=4, first_seconds=60)
    outcome, told = run([{"fault": "stops", "rank": 1}], patience=patience, workers=2)
    assert outcome.ended["0"].status == "done"
    assert told.retried == [("0", "hang", 1)]


@pytest.mark.parametrize(
    ("resources", "first", "second"),
    [
        ({"cpus_per_worker": 1}, "'CPU': 1.0", "'CPU': 2.0"),
        ({"gpus_per_worker": 0.5}, "'GPU': 0.5", "'GPU': 1.0"),
        ({"cpus_per_worker": 4}, "'CPU': 4.0", "'CPU': 4.0"),
    ],
)
def test_a_cell_that_lacked_memory_has_twice_the_share_of_a_device(run, tmp_path, resources, first, second):
    outcome, told = run([{"fault": "memory"}, {"fault": "memory", "times": 2}, {}], **resources)
    assert [outcome.ended[key].status for key in "012"] == ["done", "failed", "done"]
    assert sorted(told.retried) == [("0", "memory", 1), ("1", "memory", 1)]
    assert first in (tmp_path / "0" / "attempt-0-0").read_text()
    assert second in (tmp_path / "0" / "attempt-0-1").read_text()
    assert outcome.ended["1"].error.startswith("Traceback")
    assert "fewer trials per device" in outcome.ended["1"].error


def test_cells_that_all_fail_alike_end_the_run(run):
    payloads = [{"fault": "raises", "times": 9, "arm": f"arm {index % 3}"} for index in range(9)]
    outcome, told = run(payloads, cpus_per_worker=2)
    assert 3 <= len(outcome.ended) <= 5
    assert {ended.status for ended in outcome.ended.values()} == {"failed"}
    assert "ValueError: broken in the config all share" in outcome.halted
    assert len(outcome.left) == 9 - len(outcome.ended)
    assert len(told.notices) == 1
    assert told.retried == []


def test_one_that_gets_further_lets_the_others_be_tried(run):
    bad = [{"fault": "raises", "times": 9, "arm": f"arm {index}"} for index in range(3)]
    outcome, _ = run([{"seconds": 0.5}, *bad, {}, {}], cpus_per_worker=2)
    assert [outcome.ended[str(index)].status for index in range(6)] == ["done"] + ["failed"] * 3 + ["done"] * 2
    assert outcome.halted is None
    assert outcome.left == ()


class KillsTheMailbox(Listener):
    def __init__(self):
        self.epochs = 0

    def cell_epoch(self, work, metrics):
        self.epochs += 1
        if self.epochs == 3:
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(b"ray::Mailbox"):
                    os.kill(int(entry.name), signal.SIGKILL)


def test_without_the_mailbox_the_run_ends_and_cells_are_left_to_go_on(run):
    outcome, _ = run([{"seconds": 0.5}] * 4, listeners=[KillsTheMailbox()], cpus_per_worker=2)
    assert "the same command goes on" in outcome.halted
    assert outcome.interrupted is None
    assert {ended.status for ended in outcome.ended.values()} <= {"interrupted", "done"}
    assert len(outcome.left) >= 2


@contextmanager
def taken(cpus):
    """Somebody else has so many of the cluster's CPUs; yields what gives them back."""
    import ray

    class Somebody:
        def there(self):
            return True

    somebody = ray.remote(num_cpus=cpus)(Somebody).remote()
    assert ray.get(somebody.there.remote())
    try:
        yield lambda: ray.kill(somebody)
    finally:
        ray.kill(somebody)


@pytest.mark.timeout(120)
def test_a_trial_that_waits_for_room_does_not_hold_up_the_end(run):
    with taken(3):
        outcome, told = run([{"seconds": 2}] * 2, budget=Budget(hours=5 / 3600), cpus_per_worker=1)
    assert outcome.budget is not None
    assert [work.key for work in outcome.left][-1:] == ["1"]
    assert "1" not in told.started


class KillsTrialsWithoutWorkers(Listener):
    """Kills the first two trials when they wait for room for their workers, then lets them have it."""

    def __init__(self, give_back):
        self._started, self._give_back = 0, give_back

    def cell_started(self, work):
        self._started += 1
        if self._started == 2:
            threading.Thread(target=self._kill).start()

    def _kill(self):
        from ray._private.state import state
        from ray.util import placement_group_table

        def waiting():
            return [group for group in placement_group_table().values() if group["state"] == "PENDING"]

        while len(waiting()) < 2:
            time.sleep(0.1)
        for actor in state.actor_table(None, None).values():
            if actor["ActorClassName"] == "Trial" and actor["State"] == "ALIVE":
                os.kill(actor["Pid"], signal.SIGKILL)
        time.sleep(1)
        self._give_back()


@pytest.mark.timeout(180)
def test_room_that_a_killed_trial_waited_for_is_not_kept_for_it(run, tmp_path):
    with taken(4) as give_back:
        outcome, told = run([{"times": 0}] * 2, listeners=[KillsTrialsWithoutWorkers(give_back)], workers=2)
    assert {ended.status for ended in outcome.ended.values()} == {"done"}
    assert sorted(told.retried) == [("0", "died", 1), ("1", "died", 1)]
