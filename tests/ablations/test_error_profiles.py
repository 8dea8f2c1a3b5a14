"""Errors by time of day and by sensor of two arms, from the files of their cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablations.cells import CellResult
from ablations.error_profiles import TEST_ERRORS, compare_profiles
from altformer import error_profile

Cells = Mapping[str, list[CellResult]]
MakeCells = Callable[..., Cells]


def write_errors(folder: Path, by_step: Any, by_sensor: Any, counts: Any = 4, step_minutes: int = 5) -> None:
    """A cell's file that holds these MAEs."""
    folder.mkdir(parents=True, exist_ok=True)
    by_step, by_sensor = np.asarray(by_step, float), np.asarray(by_sensor, float)
    counts = np.broadcast_to(counts, by_step.shape)
    np.savez(
        folder / TEST_ERRORS,
        day_sums=by_step * counts,
        day_counts=counts,
        sensor_sums=np.nan_to_num(by_sensor) * 7,
        sensor_counts=np.where(np.isnan(by_sensor), 0, 7),
        sensor_ids=np.array([f"s{place}" for place in range(len(by_sensor))]),
        step_minutes=step_minutes,
    )


@pytest.fixture
def make_cells(make_record: Any, tmp_path: Path) -> MakeCells:
    """Three seeds of ``base`` and ``best``: errors 2, 3, 4 at every step and less 0.5, and so at three sensors."""

    def make(**options: Any) -> Cells:
        cells: dict[str, list[CellResult]] = {"base": [], "best": []}
        for name, less in (("base", 0.0), ("best", 0.5)):
            for seed in range(3):
                folder = tmp_path / f"{name}-{seed}"
                by_step = np.full(1440 // options.get("step_minutes", 5), 2.0 + seed - less)
                write_errors(folder, by_step, [4.0 + seed, 2.0 + seed + less, np.nan, 3.0 - less], **options)
                cells[name].append(CellResult(name, seed, "x", make_record(3.0, seed), folder=folder))
        return cells

    return make


def test_it_reads_the_file_that_training_writes() -> None:
    assert TEST_ERRORS == error_profile.TEST_ERRORS


def test_bands_are_over_seeds_and_sensors_in_the_order_of_the_baseline(make_cells: MakeCells) -> None:
    found = compare_profiles(make_cells(), "base", "best")
    assert found is not None and (found.minutes, found.seeds) == (30, (0, 1, 2))
    assert set(found.baseline_by_time.mean) == {3.0} and len(found.baseline_by_time.mean) == 48
    assert (set(found.best_by_time.low), set(found.best_by_time.high)) == ({1.5}, {3.5})
    assert {*found.difference_by_time.low, *found.difference_by_time.high} == {-0.5}, "seed by seed"
    assert found.sensor_ids == ("s1", "s3", "s0"), "s2 was never observed; equal ones as they were"
    assert found.baseline_by_sensor == (3.0, 3.0, 5.0) and found.best_by_sensor == (3.5, 2.5, 5.0)
    assert found.differences == (0.5, -0.5, 0.0) and found.better == 1


def test_a_bin_is_the_mean_over_its_readings(tmp_path: Path, make_cells: MakeCells) -> None:
    cells = make_cells()
    by_step, counts = np.full(288, 2.0), np.full(288, 4)
    by_step[:6], counts[:6] = [1, 2, 3, 4, 5, 6], [1, 0, 0, 0, 0, 3]
    write_errors(tmp_path / "best-1", by_step, [4.0, 2.0, np.nan, 3.0], counts)
    found = compare_profiles({**cells, "best": cells["best"][1:2]}, "base", "best")
    assert found is not None and found.seeds == (1,)
    assert found.best_by_time.mean[:2] == pytest.approx(((1 + 3 * 6) / 4, 2.0))


@pytest.mark.parametrize(
    ("observed", "step_minutes", "minutes"),
    [
        (lambda slots: slots >= 0, 5, 30),
        (lambda slots: slots % 36 < 12, 5, 160),  # every 36th window of an hour: an hour in three
        (lambda slots: slots > 200, 5, 30),  # by day alone: no bin fits, and the gap is shown
        (lambda slots: slots >= 0, 60, 60),
        (lambda slots: slots >= 0, 9, 36),
        (lambda slots: slots >= 0, 480, 480),
    ],
)
def test_bins_divide_the_day_and_widen_where_it_is_seen_in_part(
    make_cells: MakeCells, observed: Any, step_minutes: int, minutes: int
) -> None:
    counts = np.where(observed(np.arange(1440 // step_minutes)), 4, 0)
    found = compare_profiles(make_cells(counts=counts, step_minutes=step_minutes), "base", "best")
    assert found is not None and found.minutes == minutes
    whole = counts.reshape(-1, minutes // step_minutes).any(axis=1)
    assert [value is not None for value in found.baseline_by_time.mean] == whole.tolist()


def broken(cells: Cells) -> None:
    for cell in cells["best"]:
        assert cell.folder is not None
        (cell.folder / TEST_ERRORS).write_bytes(b"PK\x03\x04 half a file")


def missing(cells: Cells) -> None:
    for cell in cells["base"]:
        assert cell.folder is not None
        (cell.folder / TEST_ERRORS).unlink()


def other_sensors(cells: Cells) -> None:
    for cell in cells["best"]:
        assert cell.folder is not None
        write_errors(cell.folder, np.ones(288), [1.0, 2.0])


def never_observed(cells: Cells) -> None:
    for cell in (*cells["best"], *cells["base"]):
        assert cell.folder is not None
        write_errors(cell.folder, np.ones(288), [np.nan], 0)


@pytest.mark.parametrize("damage", [broken, missing, other_sensors, never_observed])
def test_without_files_that_can_be_compared_there_is_nothing(make_cells: MakeCells, damage: Any) -> None:
    cells = make_cells()
    damage(cells)
    assert compare_profiles(cells, "base", "best") is None


def test_only_cells_that_are_done_in_both_arms_count(make_cells: MakeCells, make_record: Any) -> None:
    cells = make_cells()
    stopped = CellResult("best", 0, "x", make_record(3.0, 0, "stopped", 2), folder=cells["best"][0].folder)
    elsewhere = CellResult("best", 1, "x", make_record(3.0, 1))  # no folder
    found = compare_profiles({**cells, "best": [stopped, elsewhere, cells["best"][2]]}, "base", "best")
    assert found is not None and found.seeds == (2,)
    assert compare_profiles(cells, None, "best") is None and compare_profiles(cells, "base", None) is None
    assert compare_profiles(cells, "base", "absent") is None and compare_profiles(cells, "base", "base") is None
