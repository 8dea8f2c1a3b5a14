"""What cells are called in Ray's dashboard: by arm and seed, in processes that train one after another."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.connection import Connection, connect
from cluster.resources import Resources
from cluster.runner import run_cells
from cluster.scheduler import NoScheduler
from cluster.trial import run_name, shown
from cluster.work import Work


@given(st.text(max_size=300))
def test_a_train_run_is_named_by_a_folder_name_whatever_the_cell_is_called(name: str) -> None:
    folder = run_name(name, "0123456789ab")
    assert Path(folder).name == folder
    assert not folder.startswith(".")
    assert folder.isascii()
    assert len(folder) <= 120


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("3-3-3-3 seed 0", "from-3-3-3-3-seed-0-on-slot-ab"),
        ("lr=0.001 seed 12", "from-lr=0-001-seed-12-on-slot-ab"),
        ("../../etc seed 0", "from-etc-seed-0-on-slot-ab"),
        ("", "from-on-slot-ab"),
    ],
)
def test_a_train_run_is_named_by_its_first_cell(name: str, folder: str) -> None:
    assert run_name(name, "ab") == folder


@given(st.text(max_size=300))
def test_what_is_shown_is_one_line_that_ray_can_send(name: str) -> None:
    assert shown(name).isprintable()
    assert len(shown(name)) <= 80
    assert shown(name).encode().decode() == shown(name)


def train(payload: dict[str, Any], shared: Any, context: Any) -> dict[str, Any]:
    for epoch in range(1, payload["epochs"] + 1):
        time.sleep(0.05)
        context.report({"epoch": epoch, "val_mae": 1.0})
        if context.should_stop():
            break
    return {}


@pytest.fixture(scope="module")
def ray_here() -> Iterator[Connection]:
    """A Ray of our own with the dashboard, whose State API is asked; workers get this module by value."""
    import ray.cloudpickle

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    folder = tempfile.mkdtemp(prefix="ray-t", dir="/tmp")
    with connect("local", num_cpus=3, num_gpus=0, temp_dir=folder) as connection:
        yield connection
    shutil.rmtree(folder, ignore_errors=True)


def run(names: list[str], connection: Connection, storage: Path, resources: Resources) -> None:
    outcome = run_cells(
        [Work(f"{storage.name}-{index}", name, {"epochs": 3}) for index, name in enumerate(names)],
        train,
        None,
        resources=resources,
        scheduler=NoScheduler(),
        connection=connection,
        storage=storage,
    )
    assert {ended.status for ended in outcome.ended.values()} == {"done"}, outcome


def eventually(expected: Any, found: Any) -> bool:
    """Wait until what is found is as expected: Ray tells its dashboard with a delay."""
    deadline = time.monotonic() + 30
    while found() != expected:
        assert time.monotonic() < deadline, f"expected {expected}, found {found()}"
        time.sleep(0.5)
    return True


@pytest.mark.ray
@pytest.mark.slow
def test_processes_have_their_first_cell_s_name_and_every_cell_its_epochs(ray_here: Connection, tmp_path: Path) -> None:
    from ray.util.state import list_actors, list_tasks

    names = ["low seed 0", "low seed 1", "high\n\u00e9 seed 0"]
    run(names, ray_here, tmp_path / "tune", Resources(workers=1, cpus_per_worker=3))

    def trials() -> set[str]:
        actors = list_actors(address=ray_here.dashboard_url, filters=[("class_name", "=", "Trial")], detail=True)
        return {actor.repr_name for actor in actors}

    def epochs() -> dict[str, int]:
        tasks = list_tasks(
            address=ray_here.dashboard_url, filters=[("func_or_class_name", "=", "Mailbox.take")], limit=1000
        )
        return dict(Counter(task.name for task in tasks if task.state == "FINISHED"))

    assert eventually({"from low seed 0 on"}, trials), "one process has trained all three"
    # Three epochs and the end.
    assert eventually({"low seed 0": 4, "low seed 1": 4, "high \u00e9 seed 0": 4}, epochs)


@pytest.mark.ray
@pytest.mark.slow
def test_the_train_run_of_a_worker_group_has_its_first_cell_s_name(ray_here: Connection, tmp_path: Path) -> None:
    import ray
    from ray.train.v2._internal.state.state_actor import get_state_actor

    run(["low seed 7", "low seed 8"], ray_here, tmp_path / "tune", Resources(workers=2, cpus_per_worker=1))
    [one] = ray.get(get_state_actor().get_train_runs.remote()).values()
    assert one.name.startswith("from-low-seed-7-on-slot-")
    assert one.status.value == "FINISHED"
