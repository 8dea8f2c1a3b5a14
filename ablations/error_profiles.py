"""Where the best arm differs from the baseline: test errors by time of day and by sensor, over their common seeds."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ablations.cells import CellResult
from altformer.data.traffic import MINUTES_PER_DAY

TEST_ERRORS = "test_errors.npz"  # as altformer.error_profile, which needs torch, writes it
FINEST, COARSEST = 30, 240  # minutes of a bin: finer ones of a few weeks are mostly noise

Numbers = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Known = tuple[float | None, ...]  # None where no reading was observed


@dataclass(frozen=True)
class Band:
    """A value for each bin of the day: its mean over seeds, and their least and greatest."""

    mean: Known
    low: Known
    high: Known


@dataclass(frozen=True)
class ErrorProfiles:
    """Test MAE of two arms over the seeds that both have, in the data's unit; differences are best minus baseline.

    Bins of the day begin at midnight and are of the time that is forecast. Sensors are in the order of the baseline's
    error, smallest first; those never observed in the test part are left out.
    """

    baseline: str
    best: str
    seeds: tuple[int, ...]
    minutes: int  # of a bin
    baseline_by_time: Band
    best_by_time: Band
    difference_by_time: Band
    sensor_ids: tuple[str, ...]
    baseline_by_sensor: tuple[float, ...]  # means over the seeds
    best_by_sensor: tuple[float, ...]

    @property
    def differences(self) -> tuple[float, ...]:
        """Best minus baseline by sensor; below 0 the best arm is better there."""
        return tuple(best - base for best, base in zip(self.best_by_sensor, self.baseline_by_sensor, strict=True))

    @property
    def better(self) -> int:
        """Number of sensors at which the best arm's error is below the baseline's."""
        return sum(difference < 0 for difference in self.differences)


@dataclass(frozen=True)
class _TestErrors:
    """One cell's file: errors by step of the day (s,), as sums and counts, and MAE by sensor (n,), NaN for none."""

    step_minutes: int
    sensor_ids: tuple[str, ...]
    day_sums: Numbers
    day_counts: Counts
    by_sensor: Numbers  # (n,)

    def by_time(self, minutes: int) -> Numbers:
        """MAE in bins of so many minutes from midnight on; NaN where nothing was observed."""
        return _mae(
            *(part.reshape(-1, minutes // self.step_minutes).sum(1) for part in (self.day_sums, self.day_counts))
        )


def compare_profiles(
    cells: Mapping[str, Sequence[CellResult]], baseline: str | None, best: str | None
) -> ErrorProfiles | None:
    """The best arm beside the baseline, from the files that their cells left.

    None without a baseline or a best arm, where no seed of both is done and has its file (cells of earlier versions
    have none), or where the two were not scored on the same sensors and steps.
    """
    if baseline is None or best is None or baseline == best:
        return None
    base, other = (_by_seed(cells.get(name, ())) for name in (baseline, best))
    seeds = sorted(base.keys() & other.keys())
    files = [arm[seed] for arm in (base, other) for seed in seeds]
    scale = (files[0].step_minutes, files[0].sensor_ids) if files else None
    if not files or any((one.step_minutes, one.sensor_ids) != scale for one in files):
        return None
    minutes = _bin_minutes(files[0].step_minutes, np.min([one.day_counts for one in files], axis=0))
    times, others_times = (np.stack([arm[seed].by_time(minutes) for seed in seeds]) for arm in (base, other))
    sensors, others_sensors = (np.mean([arm[seed].by_sensor for seed in seeds], axis=0) for arm in (base, other))
    seen = [at for at in np.argsort(sensors, kind="stable") if np.isfinite(sensors[at] + others_sensors[at])]
    if not seen:
        return None
    return ErrorProfiles(
        baseline=baseline,
        best=best,
        seeds=tuple(seeds),
        minutes=minutes,
        baseline_by_time=_band(times),
        best_by_time=_band(others_times),
        difference_by_time=_band(others_times - times),
        sensor_ids=tuple(files[0].sensor_ids[at] for at in seen),
        baseline_by_sensor=tuple(sensors[seen].tolist()),
        best_by_sensor=tuple(others_sensors[seen].tolist()),
    )


def _by_seed(cells: Sequence[CellResult]) -> dict[int, _TestErrors]:
    done = {cell.seed: cell.folder for cell in cells if cell.status == "done" and cell.folder is not None}
    return {seed: errors for seed, folder in done.items() if (errors := _read(folder / TEST_ERRORS)) is not None}


def _read(path: Path) -> _TestErrors | None:
    """A cell's file, or None where it is missing or broken."""
    try:
        with np.load(path, allow_pickle=False) as file:
            step, sensor_ids = int(file["step_minutes"]), tuple(file["sensor_ids"].tolist())
            by_sensor = _mae(file["sensor_sums"], file["sensor_counts"])
            return _TestErrors(step, sensor_ids, file["day_sums"], file["day_counts"], by_sensor)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _bin_minutes(step: int, counts: Counts) -> int:
    """The shortest bin from ``FINEST`` to ``COARSEST`` that divides the day and was observed all day long.

    A test part scored at every so-manieth window has no readings at all at some times of day. Where no bin is without
    a gap, the shortest there is; ``counts`` are by step of the day (s,).
    """
    whole = [minutes for minutes in range(step, MINUTES_PER_DAY + 1, step) if MINUTES_PER_DAY % minutes == 0]
    fitting = [minutes for minutes in whole if FINEST <= minutes <= COARSEST] or [max(step, FINEST)]
    return next((minutes for minutes in fitting if counts.reshape(-1, minutes // step).sum(1).all()), fitting[0])


def _mae(sums: Numbers, counts: Counts) -> Numbers:
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _band(values: Numbers) -> Band:
    """Over the first axis, the seeds; a bin that any seed lacks has no number."""
    mean, low, high = (
        tuple(None if np.isnan(value) else float(value) for value in found)
        for found in (values.mean(axis=0), values.min(axis=0), values.max(axis=0))
    )
    return Band(mean, low, high)
