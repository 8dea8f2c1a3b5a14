"""Matrices of made-up cells on a real Ray with 4 logical CPUs and 2 logical GPUs."""

import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cluster.connection import connect
from cluster.errors import ClusterError
from cluster.held import leftovers
from cluster.resources import Resources
from cluster.retries import Retries
from cluster.runner import run_cells
from cluster.scheduler import AshaScheduler, NoScheduler
from cluster.work import Listener, Work

pytestmark = pytest.mark.ray

CPUS = 4
SHARED = np.arange(100_000, dtype=np.float32)


def train(payload, shared, context):
    """A cell: reports `epochs` epochs of falling error, and does what its payload asks for."""
    import torch
    import torch.distributed as dist

    with Path(payload["log"]).open("a") as log:
        log.write(f"{context.rank}\n")
    ones = torch.ones(1)
    if context.world_size > 1:
        dist.all_reduce(ones)
    epoch = 0
    while epoch < payload.get("epochs", 4):
        epoch += 1
        time.sleep(payload.get("seconds", 0.02))
        if payload.get("raises") == (context.rank, epoch):
            raise ValueError(f"broken in epoch {epoch}")
        if payload.get("dies") == (context.rank, epoch):
            os._exit(7)
        if payload.get("kills_trial") == (context.rank, epoch):
            kill_trial()
        context.report({"epoch": epoch, "val_mae": payload.get("error", 1.0) / epoch})
        if context.should_stop():
            break
    mine = torch.tensor([float(epoch)])
    epochs = [torch.zeros(1) for _ in range(context.world_size)]
    if context.world_size > 1:
        dist.all_gather(epochs, mine)
    else:
        epochs = [mine]
    return {
        "epochs": [int(number) for number in epochs],
        "ranks": int(ones),
        "reason": context.should_stop(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads(), os.environ["OMP_NUM_THREADS"]),
        "pid": os.getpid(),
        "shared": (float(shared.sum()), bool(shared.flags.writeable), id(shared)),
        "cwd": str(Path.cwd()),
        **payload.get("result", {}),
    }


def kill_trial():
    """Kill the process of the one trial of this Ray: like this worker it is a child of the node's raylet."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(b"ray::Trial"):
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getppid():
                os.kill(int(entry.name), signal.SIGKILL)


def on_gpu(payload, shared, context):
    """Which logical GPU the cell was given; torch has none on this machine."""
    import ray

    began = time.time()
    time.sleep(0.5)
    try:
        device = str(context.device)
    except ClusterError as error:
        device = f"refused: {error}"
    return {"gpus": ray.get_gpu_ids(), "device": device, "began": began, "ended": time.time()}


def nothing(payload, shared, context):
    return None


class Told(Listener):
    """Keeps what it is told."""

    def __init__(self):
        self.calls = []
        self.epochs = Counter()
        self.started = []
        self.ended = {}

    def matrix_started(self, works, slots):
        self.calls.append(("matrix_started", len(works), slots))

    def cell_started(self, work):
        self.started.append(work.key)

    def cell_epoch(self, work, metrics):
        assert set(metrics) == {"epoch", "val_mae"}
        self.epochs[work.key] += 1
        assert metrics["epoch"] == self.epochs[work.key]

    def cell_ended(self, work, ended):
        assert work.key not in self.ended
        self.ended[work.key] = ended

    def matrix_ended(self, outcome):
        self.calls.append(("matrix_ended", len(outcome.ended)))


class Broken(Listener):
    def cell_epoch(self, work, metrics):
        raise RuntimeError("a listener's own trouble")


@pytest.fixture(scope="module")
def ray_here():
    """A Ray of our own with the dashboard, as in the product; workers get this module by value."""
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    folder = tempfile.mkdtemp(prefix="ray-t", dir="/tmp")
    with connect("local", num_cpus=CPUS, num_gpus=2, temp_dir=folder) as connection:
        yield connection
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def run(ray_here, tmp_path):
    """Run payloads as cells; returns the outcome, what a listener was told, and how often each rank began a cell."""

    def run(payloads, *, function=train, scheduler=None, listeners=(), **resources):
        log = tmp_path / "log"
        log.mkdir()
        works = [
            Work(f"key{index}", f"cell <{index}>/../x", payload | {"log": str(log / str(index))}, epochs=4)
            for index, payload in enumerate(payloads)
        ]
        told = Told()
        outcome = run_cells(
            works,
            function,
            SHARED,
            resources=Resources(**{"gpus_per_worker": 0, **resources}),
            scheduler=scheduler or NoScheduler(),
            connection=ray_here,
            storage=tmp_path / "storage",
            listeners=[told, *listeners],
            retries=Retries(per_cell=1),  # of which test_recovery.py has more
        )
        begun = [
            Counter((log / str(index)).read_text().split())
            for index in range(len(works))
            if (log / str(index)).exists()
        ]
        assert_all_free(ray_here)
        assert not (tmp_path / "storage").exists()
        return outcome, told, begun

    return run


def assert_all_free(connection):
    import ray

    assert leftovers() == []
    total = {name: sum(node.get(name, 0) for node in connection.nodes) for name in ("CPU", "GPU", "memory")}
    deadline = time.monotonic() + 10  # what is free is told a little later
    while (free := {name: ray.available_resources().get(name, 0) for name in total}) != total:
        assert time.monotonic() < deadline, (free, total)
        time.sleep(0.1)


def test_cells_run_once_each_in_order_in_reused_processes(run):
    outcome, told, begun = run([{} for _ in range(8)], listeners=[Broken()], cpus_per_worker=2)
    assert outcome.slots == 2
    assert told.calls == [("matrix_started", 8, 2), ("matrix_ended", 8)]
    assert begun == [Counter({"0": 1})] * 8
    assert {ended.status for ended in outcome.ended.values()} == {"done"}
    assert outcome.ended == told.ended
    assert (outcome.left, outcome.interrupted) == ((), None)
    # Two slots start side by side, so neighbours may change places, no more.
    assert all(abs(place - int(key[3:])) <= 1 for place, key in enumerate(told.started))
    assert set(told.epochs.values()) == {4}
    results = [ended.result for ended in outcome.ended.values()]
    processes = {result["pid"] for result in results}
    assert len(processes) == 2
    assert {result["threads"] for result in results} == {(2, 2, "2")}
    assert {result["shared"][:2] for result in results} == {(float(SHARED.sum()), False)}
    # One object per process, so that what is derived from it can be kept.
    assert len({(result["pid"], result["shared"][2]) for result in results}) == 2
    assert {result["cwd"] for result in results} == {str(Path.cwd())}


def test_asha_stops_cells_which_leave_by_themselves(run):
    payloads = [{"error": 1.0 + index, "epochs": 4} for index in range(12)]
    asha = AshaScheduler(max_epochs=4, grace_period=1, reduction_factor=2)
    outcome, told, begun = run(payloads, scheduler=asha)
    assert begun == [Counter({"0": 1})] * 12
    stopped = {key: ended for key, ended in outcome.ended.items() if ended.status == "stopped"}
    done = {key: ended for key, ended in outcome.ended.items() if ended.status == "done"}
    assert len(stopped) >= 4
    assert len(done) >= 1
    assert len(stopped) + len(done) == 12
    for key, ended in stopped.items():
        assert ended.result["reason"] == "scheduler"
        assert 1 <= ended.result["epochs"][0] < 4
        assert ended.result["epochs"][0] == told.epochs[key]
    for key, ended in done.items():
        assert (ended.result["reason"], told.epochs[key]) == (None, 4)


def test_a_failing_cell_does_not_touch_the_others(run):
    payloads = [{}, {"raises": (0, 2)}, {"dies": (0, 2)}, {}, {"result": {"status": "diverged"}}, {}]
    outcome, _, _ = run(payloads, cpus_per_worker=2)
    statuses = [outcome.ended[f"key{index}"].status for index in range(6)]
    assert statuses == ["done", "failed", "failed", "done", "diverged", "done"]
    raised, died = outcome.ended["key1"].error, outcome.ended["key2"].error
    assert raised.startswith("Traceback (most recent call last):\n  File ")
    assert raised.endswith("ValueError: broken in epoch 2")
    assert "cluster/trial.py" not in raised
    assert "died" in died
    assert outcome.ended["key1"].result is None


def test_a_result_that_is_no_dict_fails_the_cell(run):
    outcome, _, _ = run([{}], function=nothing)
    assert outcome.ended["key0"].status == "failed"
    assert outcome.ended["key0"].error == "the train function returned NoneType, not a dict"


def test_groups_of_two_agree_on_every_epoch_and_share_nothing_but_the_cluster(run):
    payloads = [{"error": 1.0}, {"error": 2.0}, {"error": 3.0}, {"error": 4.0}, {"raises": (1, 2)}, {"error": 0.5}]
    asha = AshaScheduler(max_epochs=4, grace_period=2, reduction_factor=2)
    outcome, told, begun = run(payloads, workers=2, scheduler=asha)
    assert outcome.slots == 2
    assert begun == [Counter({"0": 1, "1": 1})] * 6
    statuses = [outcome.ended[f"key{index}"].status for index in range(6)]
    assert statuses[4] == "failed"
    assert "broken in epoch 2" in outcome.ended["key4"].error
    assert set(statuses) - {"failed"} <= {"done", "stopped"}
    assert "stopped" in statuses[:4]
    for key, ended in outcome.ended.items():
        if ended.result is not None:
            assert ended.result["epochs"] == [told.epochs[key]] * 2
            assert ended.result["ranks"] == 2
            assert ended.result["threads"] == (1, 1, "1")
            assert ended.result["shared"][:2] == (float(SHARED.sum()), False)


def test_a_group_whose_trial_is_killed_gives_its_cpus_to_the_next(run):
    outcome, _, _ = run([{"kills_trial": (1, 2)}, {}], workers=2, cpus_per_worker=2)
    assert outcome.slots == 1
    assert [outcome.ended[f"key{index}"].status for index in range(2)] == ["failed", "done"]
    assert "died" in outcome.ended["key0"].error


def test_fractions_put_several_cells_on_a_gpu(run):
    outcome, _, _ = run([{} for _ in range(6)], function=on_gpu, gpus_per_worker=0.5)
    assert outcome.slots == 4
    results = [ended.result for ended in outcome.ended.values()]
    assert all(len(result["gpus"]) == 1 for result in results)
    assert all("torch" in result["device"] and "refused" in result["device"] for result in results)
    for moment in [result["began"] for result in results]:
        at_once = Counter(result["gpus"][0] for result in results if result["began"] <= moment < result["ended"])
        assert max(at_once.values()) <= 2


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"cpus_per_worker": 5}, "a worker needs 5 CPU on one node, the largest has 4"),
        ({"workers": 5}, "5 CPU are needed, 4 are there"),
        ({"gpus_per_worker": 3}, "a worker needs 3 GPU on one node, the largest has 2"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_starts(ray_here, tmp_path, resources, said):
    told = Told()
    with pytest.raises(ClusterError) as caught:
        run_cells(
            [Work("key", "cell", {})],
            train,
            SHARED,
            resources=Resources(**{"gpus_per_worker": 0, **resources}),
            scheduler=NoScheduler(),
            connection=ray_here,
            storage=tmp_path / "storage",
            listeners=[told],
        )
    assert said in str(caught.value)
    assert told.calls == []
    assert not (tmp_path / "storage").exists()


def test_two_cells_with_one_key_are_refused(ray_here, tmp_path):
    with pytest.raises(ClusterError, match="same key"):
        run_cells(
            [Work("key", "one", {}), Work("key", "two", {})],
            train,
            SHARED,
            resources=Resources(gpus_per_worker=0),
            scheduler=NoScheduler(),
            connection=ray_here,
            storage=tmp_path,
        )


def test_nothing_to_run_is_no_trouble(ray_here, tmp_path):
    told = Told()
    outcome = run_cells(
        [],
        train,
        SHARED,
        resources=Resources(gpus_per_worker=0),
        scheduler=NoScheduler(),
        connection=ray_here,
        storage=tmp_path / "storage",
        listeners=[told],
    )
    assert (outcome.ended, outcome.left) == ({}, ())
    assert told.calls == [("matrix_started", 0, CPUS), ("matrix_ended", 0)]
