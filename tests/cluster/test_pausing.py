"""Cells that wait at rungs, and runs that a budget ends, on a real Ray with 4 logical CPUs and 2 logical GPUs."""

import shutil
import sys
import tempfile
import time
from pathlib import Path

import pytest

from cluster.budget import Budget
from cluster.connection import connect
from cluster.futility import Contest, History
from cluster.held import leftovers
from cluster.resources import Resources
from cluster.runner import run_cells
from cluster.scheduler import FutilityScheduler, NoScheduler
from cluster.work import Listener, Work

pytestmark = pytest.mark.ray

EPOCHS = 6


def train(payload, shared, context):
    """A cell that resumes: its checkpoint is the number of epochs it has done."""
    checkpoint = Path(payload["folder"]) / "epoch"
    epoch = int(checkpoint.read_text()) if checkpoint.exists() else 0
    if epoch and context.should_stop() == "scheduler":
        return {"status": "stopped", "epochs": epoch}
    while epoch < EPOCHS:
        epoch += 1
        time.sleep(payload.get("seconds", 0.02))
        if context.rank == 0:
            checkpoint.write_text(str(epoch))
            with (checkpoint.parent / "trained").open("a") as file:
                file.write(f"{epoch} ")
        context.report({"epoch": epoch, "val_mae": payload["level"] + 1 / epoch})
        if reason := context.should_stop():
            return {"status": "stopped" if reason == "scheduler" else "interrupted", "epochs": epoch}
    return {"status": "done", "epochs": epoch}


class Told(Listener):
    def __init__(self):
        self.calls = []

    def cell_started(self, work):
        self.calls.append(("started", work.key))

    def cell_paused(self, work):
        self.calls.append(("paused", work.key))

    def cell_ended(self, work, ended):
        self.calls.append((ended.status, work.key))

    def interrupted(self, signal_name, seconds):
        self.calls.append(("told", signal_name))


@pytest.fixture(scope="module")
def ray_here():
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    folder = tempfile.mkdtemp(prefix="ray-p", dir="/tmp")
    with connect("local", num_cpus=4, num_gpus=2, temp_dir=folder) as connection:
        yield connection
    shutil.rmtree(folder, ignore_errors=True)


def works(folder, levels, **payload):
    found = []
    for key, level in levels.items():
        (folder / key).mkdir(parents=True, exist_ok=True)
        found.append(Work(key, key, {"level": level, "folder": str(folder / key), **payload}, epochs=EPOCHS))
    return found


def run(connection, cells, tmp_path, scheduler=None, budget=Budget(), **resources):  # noqa: B008
    told = Told()
    outcome = run_cells(
        cells,
        train,
        None,
        resources=Resources(**{"gpus_per_worker": 0, **resources}),
        scheduler=scheduler or NoScheduler(),
        connection=connection,
        storage=tmp_path / "storage",
        listeners=[told],
        budget=budget,
    )
    assert leftovers() == []
    return outcome, told


LEVELS = {"base0": 1.0, "base1": 1.1, "base2": 0.9, "a0": 1.0, "a1": 1.1, "a2": 0.91, "b0": 2.0, "b1": 2.2, "b2": 1.9}


def contest(*arms):
    return Contest(
        {seed: f"base{seed}" for seed in range(3)},
        {arm: {seed: f"{arm}{seed}" for seed in range(3)} for arm in arms},
        (2, 4),
        0.02,
        0.05,
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_cells_wait_at_rungs_without_a_slot_and_a_futile_arm_stops_there(ray_here, tmp_path, workers):
    cells = works(tmp_path / "cells", LEVELS)
    rule = FutilityScheduler((contest("a", "b"),))
    outcome, told = run(ray_here, cells, tmp_path, rule, workers=workers)
    statuses = {key: (ended.status, ended.result["epochs"]) for key, ended in outcome.ended.items()}
    stopped = {key: ("stopped", 2) if key in ("b0", "b1", "b2") else ("done", EPOCHS) for key in LEVELS}
    assert statuses == stopped
    assert (outcome.left, outcome.interrupted, outcome.budget) == ((), None, None)
    for key, (_, epochs) in statuses.items():  # every epoch once, although a cell came and went
        assert (tmp_path / "cells" / key / "trained").read_text().split() == [str(one + 1) for one in range(epochs)]
    paused = [key for what, key in told.calls if what == "paused"]
    assert not any(key.startswith("base") for key in paused)
    # of each arm all but the last to arrive must wait at the first rung
    assert len([key for key in paused if key in ("b0", "b1", "b2")]) >= 2
    for key in LEVELS:
        of_cell = [what for what, other in told.calls if other == key]
        assert of_cell == ["started", *["paused", "started"] * paused.count(key), statuses[key][0]]


def test_a_cell_that_waited_when_the_run_ended_is_judged_before_it_trains_again(ray_here, tmp_path):
    cells = works(tmp_path / "cells", LEVELS)
    done = [work for work in cells if work.key[0] != "b" or work.key.startswith("base")]
    outcome, _ = run(ray_here, done, tmp_path)
    assert {ended.status for ended in outcome.ended.values()} == {"done"}
    history = {key: History([LEVELS[key] + 1 / epoch for epoch in range(1, 7)], "done") for key in outcome.ended}
    waited = {"b0": 2.0, "b1": 2.2, "b2": 1.9}
    for key, level in waited.items():
        (tmp_path / "cells" / key / "epoch").write_text("2")
        history[key] = History([level + 1, level + 0.5])
    rule = FutilityScheduler((contest("a", "b"),), history)
    outcome, _ = run(ray_here, [work for work in cells if work.key in waited], tmp_path, rule)
    assert {(ended.status, ended.result["epochs"]) for ended in outcome.ended.values()} == {("stopped", 2)}
    assert not any((tmp_path / "cells" / key / "trained").exists() for key in waited)


def test_a_budget_of_cells_starts_no_more_and_says_what_is_left(ray_here, tmp_path):
    cells = works(tmp_path / "cells", dict.fromkeys("abcde", 1.0))
    outcome, _ = run(ray_here, cells, tmp_path, budget=Budget(cells=2))
    assert {key: ended.status for key, ended in outcome.ended.items()} == {"a": "done", "b": "done"}
    assert [work.key for work in outcome.left] == ["c", "d", "e"]
    assert (outcome.budget, outcome.interrupted, outcome.spent.cells) == ("2 cells", None, 2)


def test_a_budget_of_cells_is_not_spent_on_cells_that_only_wait(ray_here, tmp_path):
    cells = works(tmp_path / "cells", {key: level for key, level in LEVELS.items() if key[0] != "a"})
    history: dict[str, History] = {}
    for _ in range(30):  # one cell at a time, as often as it takes
        rule = FutilityScheduler((contest("b"),), history)
        outcome, _ = run(ray_here, cells, tmp_path, rule, Budget(cells=1))
        for work in cells:
            checkpoint = tmp_path / "cells" / work.key / "epoch"
            epochs = int(checkpoint.read_text()) if checkpoint.exists() else 0
            if epochs:
                ended = outcome.ended.get(work.key)
                status = ended.status if ended is not None and ended.status != "interrupted" else None
                history[work.key] = History([LEVELS[work.key] + 1 / one for one in range(1, epochs + 1)], status)
        cells = [work for work in cells if history.get(work.key, History(())).status is None]
        if not cells:
            break
    assert {key: known.status for key, known in history.items()} == {
        **dict.fromkeys(("base0", "base1", "base2"), "done"),
        **dict.fromkeys(("b0", "b1", "b2"), "stopped"),
    }


@pytest.mark.parametrize(
    ("budget", "said"), [(Budget(hours=8 / 3600), "hours"), (Budget(gpu_hours=4 / 3600), "GPU-hours")]
)
def test_a_budget_of_hours_lets_running_cells_end_their_epoch(ray_here, tmp_path, budget, said):
    cells = works(tmp_path / "cells", dict.fromkeys("abcdef", 1.0), seconds=0.8)  # 14 s or more on two slots
    outcome, told = run(ray_here, cells, tmp_path, budget=budget, gpus_per_worker=1)
    assert outcome.budget is not None and said in outcome.budget
    assert outcome.interrupted is None
    assert outcome.left
    assert ("told", f"the budget of {outcome.budget} is spent") in told.calls
    assert outcome.spent.gpu_hours > 0
    for work in outcome.left:  # each has lost no epoch that it had ended
        folder = tmp_path / "cells" / work.key
        trained = (folder / "trained").read_text().split() if (folder / "trained").exists() else []
        assert trained == [str(epoch + 1) for epoch in range(len(trained))]
    again, _ = run(ray_here, list(outcome.left), tmp_path, gpus_per_worker=1)
    assert {ended.status for ended in again.ended.values()} == {"done"}
    for work in cells:
        assert (tmp_path / "cells" / work.key / "trained").read_text().split() == ["1", "2", "3", "4", "5", "6"]
