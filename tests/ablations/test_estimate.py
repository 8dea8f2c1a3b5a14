"""What is said of a run before it starts, from records, probes and guesses that are known here."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from ablations import estimate as module
from ablations.estimate import Estimate, estimate, with_estimate
from ablations.groups import make_group
from ablations.matrix import load_matrix
from ablations.plan import Plan
from ablations.planning import make_plan
from cluster.budget import Budget, Spent
from experiments.cell import Machine
from experiments.pace import Pace, load_of
from experiments.provenance import hardware

MATRIX = """
name: sizes
base: simulated
arms: {small: {embed_dim: 16}, large: {embed_dim: 32}, fast: {embed_dim: 32, lr: 0.003}}
baseline: small
"""
SETTINGS = {"num_heads": 2, "patch_len": 3, "epochs": 4, "steps_per_epoch": 5, "batch_size": 8, "lr": 0.001}


@pytest.fixture
def plan(traffic: Any, tmp_path: Path) -> Any:
    def make(text: str = MATRIX, seeds: int = 2, **settings: Any) -> Plan:
        path = tmp_path / "sizes.yaml"
        path.write_text(text)
        given = {name: value for name, value in {**SETTINGS, **settings}.items() if f"{name}:" not in text}
        arguments: dict[str, Any] = {"dataset": None, "profile": "quick", "settings": given}
        return make_plan(load_matrix(path), traffic, Machine(), seeds=seeds, out=tmp_path / "runs", **arguments)

    return make


@pytest.fixture
def no_probe(monkeypatch: Any) -> list[str]:
    """Probes that find nothing; the hashes of the cells they were asked for."""
    asked: list[str] = []
    monkeypatch.setattr(module, "_probed", lambda cells, *rest: asked.extend(cell.hash for cell in cells) or {})
    return asked


def write_record(plan: Plan, arm: str, out: Path, pace: Pace, place: int = 0, **changes: Any) -> None:
    """A record beside the plan's cells as if the arm had been trained at this pace, with 6 epochs and another seed."""
    cell = next(at.cell for at in plan.cells if at.arm == arm)
    config = cell.config.model_copy(update={"seed": 77 + place})
    load = replace(load_of(config, plan.data, 1), epochs=6)
    each = pace.trained * load.trained + pace.scored * load.validated
    record = {
        "schema": 1,
        "status": "done",
        "params": 5,
        "curve": [{"epoch_seconds": each, "samples_per_second": 1 / pace.trained}] * 6,
        "val": {"windows": load.validated},
        "test": {"windows": load.tested},
        "data_hash": cell.data_hash,
        "sources": "of an earlier version",
        "machine": asdict(cell.machine),
        "config": config.model_dump(mode="json"),
        "provenance": {
            "started": "2026-01-01T00:00:00+00:00",
            "ended": f"2026-01-01T00:{int(pace.seconds(load)) // 60:02d}:{pace.seconds(load) % 60:09.6f}+00:00",
            "hardware": hardware("cpu"),
        },
        **changes,
    }
    folder = out / "cells" / f"{arm}-{place}"
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps(record))


def known(*seconds: float, slots: int = 1, gpus: float = 0.0, **changes: Any) -> Estimate:
    keys = [str(place) for place in range(len(seconds))]
    values = dict(zip(keys, seconds, strict=True))
    return replace(Estimate(keys, values, dict.fromkeys(keys, "probe"), slots, gpus, False, 10**6, 10**9), **changes)


@pytest.mark.parametrize(
    ("seconds", "slots", "ends"),
    [
        ([10, 20, 30], 1, [10, 30, 60]),
        ([10, 20, 30], 2, [10, 20, 40]),
        ([50, 10, 10, 10], 2, [50, 10, 20, 30]),
        ([10, 20], 8, [10, 20]),
        ([], 2, []),
    ],
)
def test_cells_are_handed_to_slots_as_these_fall_free(seconds: Any, slots: int, ends: Any) -> None:
    found = known(*seconds, slots=slots)
    start = module._START_SECONDS
    assert found.ends() == [start + end for end in ends]
    assert found.makespan_seconds == (start + max(ends) if ends else 0)
    assert found.slot_hours == pytest.approx(sum(seconds) / 3600)


@pytest.mark.parametrize(
    ("budget", "fitting"),
    [
        (Budget(), 4),
        (Budget(hours=2.1), 4),
        (Budget(hours=1.1), 2),
        (Budget(hours=0.5), 0),
        (Budget(gpu_hours=2.0), 1),
        (Budget(gpu_hours=4.1), 2),
        (Budget(cells=3), 3),
        (Budget(hours=1.1, cells=1), 1),
        (Budget(hours=2.1, spent=Spent(hours=1.0)), 2),
        (Budget(gpu_hours=4.0, spent=Spent(gpu_hours=2.0)), 1),
        (Budget(cells=3, spent=Spent(cells=2)), 1),
    ],
)
def test_what_fits_into_a_budget(budget: Budget, fitting: int) -> None:
    # four cells of an hour on two slots, each with two GPUs
    found = known(3600, 3600, 3600, 3600, slots=2, gpus=2)
    assert found.fits(budget) == fitting and found.gpu_hours == pytest.approx(8)


def test_records_of_a_configuration_tell_what_its_cells_take(plan: Any, tmp_path: Path, no_probe: list[str]) -> None:
    found, pace = plan(), Pace(once=8, trained=0.1, scored=0.02)
    for place, by in enumerate((1.0, 1.0, 3.0)):
        write_record(found, "large", tmp_path / "runs", pace.times(by), place)
    told = estimate(make_group("x", [found], tmp_path), slots=2, gpus=0)
    by_arm = {at.arm: at.cell for at in found.cells}
    load = load_of(by_arm["large"].config, found.data, 1)
    for arm in ("large", "fast"):  # which differ in the rate alone
        assert told.seconds[by_arm[arm].hash] == pytest.approx(pace.seconds(load), rel=0.01)
        assert told.sources[by_arm[arm].hash] == "3 records"
    assert no_probe == [next(at.cell.hash for at in found.cells if at.arm == "small")]


@pytest.mark.parametrize(
    "changes",
    [
        {"data_hash": "other"},
        {"machine": {"device": "cpu", "threads": 4, "workers": 1}},
        {"provenance": {"hardware": {"cpu": "another", "cores": 1}}},
        {"provenance": {}},
        {"curve": []},
        {"config": {"model": {"type": "gone"}}},
        {"schema": 99},
    ],
)
def test_other_records_do_not(plan: Any, tmp_path: Path, no_probe: list[str], changes: dict[str, Any]) -> None:
    found = plan()
    write_record(found, "large", tmp_path / "runs", Pace(8, 0.1, 0.02), **changes)
    told = estimate(make_group("x", [found], tmp_path), slots=1, gpus=0)
    assert not told.seconds and not told.seconds.keys() >= set(told.to_run) and len(no_probe) == 2


def test_a_probe_tells_the_rest_and_what_it_missed_is_guessed_or_named(
    plan: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    text = MATRIX.replace("fast: {embed_dim: 32, lr: 0.003}", "huge: {embed_dim: 64}, bad: {batch_size: 16}")
    found = plan(text, epochs=4)
    firsts = {at.arm: at.cell for at in found.cells if at.seed == 0}
    pace = Pace(once=1, trained=0.1, scored=0.02)
    probes = {firsts["small"].hash: pace, firsts["large"].hash: pace.times(4), firsts["bad"].hash: "ValueError: no"}
    monkeypatch.setattr(module, "_probed", lambda cells, *rest: probes)
    told = estimate(make_group("x", [found], tmp_path), slots=1, gpus=0)
    load = load_of(firsts["small"].config, found.data, 1)
    ratio = found.params["huge"] / found.params["large"]
    assert told.seconds[firsts["small"].hash] == pytest.approx(pace.seconds(load))
    assert told.seconds[firsts["huge"].hash] == pytest.approx(pace.times(4 * ratio).seconds(load))
    assert {arm: told.sources.get(cell.hash) for arm, cell in firsts.items()} == {
        "small": "probe",
        "large": "probe",
        "huge": "guess",
        "bad": None,
    }
    assert told.problems == {"bad": "ValueError: no"} and not told.seconds.keys() >= set(told.to_run)


def test_a_cell_with_a_checkpoint_needs_only_the_rest(plan: Any, tmp_path: Path, monkeypatch: Any) -> None:
    found, pace = plan(), Pace(once=1, trained=0.1, scored=0.02)
    monkeypatch.setattr(module, "_probed", lambda cells, *rest: {cell.hash: pace for cell in cells})
    cell = found.cells[0].cell
    for name in ("epoch-0002", "epoch-0003", ".epoch-0004"):
        (cell.folder / "checkpoints" / name).mkdir(parents=True)
    told = estimate(make_group("x", [found], tmp_path), slots=1, gpus=0)
    load = load_of(cell.config, found.data, 1)
    assert told.seconds[cell.hash] == pytest.approx(pace.seconds(replace(load, epochs=1)))


def test_disk_counts_weights_and_moments_of_the_checkpoints_that_are_kept(
    plan: Any, tmp_path: Path, no_probe: list[str]
) -> None:
    found = plan(seeds=1)
    told = estimate(make_group("x", [found], tmp_path), slots=1, gpus=0)
    weights = sum(found.params.values()) * 3 * 4 * 4
    assert weights < told.disk_bytes < weights + 3 * 10**6
    assert told.free_bytes > 0 and not (tmp_path / "runs").exists()


def test_matrices_that_share_cells_count_them_once(plan: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "_probed", lambda cells, *rest: {cell.hash: Pace(1, 0.1, 0.1) for cell in cells})
    plans = [plan(), plan(MATRIX.replace("sizes", "more").replace("large: {embed_dim: 32}, ", ""))]
    group = make_group("several", plans, tmp_path)
    told = estimate(group, slots=1, gpus=0)
    assert group.union is not None and list(told.to_run) == [at.cell.hash for at in group.union.cells]
    assert len(told.to_run) == 6 and told.seconds.keys() >= set(told.to_run)
    announced = with_estimate(group, told)
    assert announced.union is not None
    assert all(one.expected == told.seconds for one in (announced.union, *announced.plans))


@pytest.mark.parametrize(
    ("change", "upper"),
    [
        ("scheduler: none\n", False),
        ("scheduler: none\nsettings: {patience: 2}\n", True),
        ("scheduler: futility\n", True),
        ("kind: search\nscheduler: asha\n", True),
    ],
)
def test_cells_that_may_end_early_make_it_an_upper_bound(
    plan: Any, tmp_path: Path, no_probe: list[str], change: str, upper: bool
) -> None:
    assert estimate(make_group("x", [plan(MATRIX + change)], tmp_path), slots=1, gpus=0).upper is upper


@pytest.mark.slow
def test_the_estimate_of_a_probe_is_near_what_training_takes(plan: Any, tmp_path: Path) -> None:
    """Within a factor of three: other work on the machine comes and goes."""
    import time

    from altformer.train import train
    from altformer.training.context import BareContext

    found = plan(seeds=1, embed_dim=64, epochs=6, steps_per_epoch=40)
    told = estimate(make_group("x", [found], tmp_path), slots=1, gpus=0, probe_seconds=60)
    for at in found.cells:
        began = time.perf_counter()
        train(at.cell.config, found.data, BareContext("cpu"), tmp_path / at.arm)
        took = time.perf_counter() - began
        assert told.sources[at.cell.hash] == "probe" and took / 3 < told.seconds[at.cell.hash] < took * 3
