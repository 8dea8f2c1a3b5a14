"""What readings must satisfy, each violation with its place; used alike by loading (refuses) and `data check` (lists).

n: sensors, T: rows
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from altformer.data.readers import Table
from altformer.data.traffic import MINUTES_PER_DAY, Times
from altformer.errors import UserError

_SHOWN_PLACES = 5  # of one kind; the rest is counted


@dataclass(frozen=True)
class Finding:
    """One violation of a rule: row (0-based), sensor and time say where, as far as it has a place."""

    rule: str
    message: str
    row: int | None = None
    sensor: str | None = None
    time: str | None = None

    def __str__(self) -> str:
        place = [
            f"{label} {value}"
            for label, value in (("row", self.row), ("sensor", self.sensor), ("time", self.time))
            if value is not None
        ]
        return f"{self.rule}: {self.message}" + (f" ({', '.join(place)})" if place else "")


def refuse(findings: list[Finding], what: str) -> None:
    """Raise UserError with the first finding and the number of the others, if there are any."""
    if findings:
        others = f"; {len(findings) - 1} more, see altformer data check" if len(findings) > 1 else ""
        raise UserError(f"{what}: {findings[0]}{others}")


def shape_findings(table: Table, shape: tuple[int, int] | None) -> list[Finding]:
    """The readings are (T, n), of the known shape where there is one, and every sensor has its own name."""
    found = []
    actual = table.values.shape
    if shape is not None and actual != shape:
        found.append(
            Finding("shape", f"{actual[0]} rows x {actual[1]} sensors, expected {shape[0]} x {shape[1]}", row=actual[0])
        )
    elif actual[0] < 2 or actual[1] < 1:
        found.append(Finding("shape", f"{actual[0]} rows x {actual[1]} sensors: nothing to forecast"))
    seen: set[str] = set()
    for column, name in enumerate(table.sensor_ids or ()):
        if name in seen:
            found.append(Finding("sensors", f"the name of column {column} occurs twice", sensor=name))
        seen.add(name)
    return found


def value_findings(table: Table, nan_is_missing: bool) -> list[Finding]:
    """Every reading is a finite float32; NaN passes only where it is declared to mean missing."""
    with np.errstate(over="ignore"):
        values = np.asarray(table.values, dtype=np.float32)
    found = []
    bad_nan = np.isnan(values)
    if bad_nan.any() and not nan_is_missing:
        found.append(_first_place(table, bad_nan, "nan", "NaN (declare it with null_value: nan if it means missing)"))
    infinite = np.isinf(values)
    if infinite.any():
        found.append(_first_place(table, infinite, "inf", "infinite, or beyond float32"))
    return found


def time_findings(times: Times, step_minutes: int, start: str | None = None, absent_steps: int = 0) -> list[Finding]:
    """Times rise by the step from row to row; absent_steps steps may be left out in one place (a clock change)."""
    found = []
    if np.isnat(times).any():
        return [Finding("time", "not a time", row=int(np.flatnonzero(np.isnat(times))[0]))]
    if start is not None and times[0] != np.datetime64(start):
        found.append(Finding("time", f"starts at {_text(times[0])}, expected {_text(np.datetime64(start))}", row=0))
    step = np.timedelta64(step_minutes, "m")
    distance = np.diff(times)
    wrong = np.flatnonzero(distance != step)
    if absent_steps and len(wrong) == 1 and distance[wrong[0]] == step * (absent_steps + 1):
        return found
    if absent_steps and len(wrong) == 0:
        found.append(Finding("gap", f"none, expected one of {absent_steps} steps"))
    for row in wrong[:_SHOWN_PLACES] + 1:
        found.append(_bad_step(times, int(row), step_minutes))
    if len(wrong) > _SHOWN_PLACES:
        found.append(Finding("time", f"{len(wrong) - _SHOWN_PLACES} more steps that are not {step_minutes} minutes"))
    return found


def order_findings(times: Times) -> list[Finding]:
    """Times rise from row to row, by whatever step; the first that does not is named."""
    if np.isnat(times).any():
        return [Finding("time", "not a time", row=int(np.flatnonzero(np.isnat(times))[0]))]
    back = np.flatnonzero(np.diff(times) <= np.timedelta64(0, "m"))
    return [_bad_step(times, int(back[0]) + 1, 1)] if len(back) else []


def _bad_step(times: Times, row: int, step_minutes: int) -> Finding:
    before, now = times[row - 1], times[row]
    minutes = (now - before) / np.timedelta64(1, "m")
    if minutes == 0:
        rule, message = "duplicate", "the time of the row before occurs again"
    elif minutes < 0:
        rule, message = "order", f"before the row above it ({_text(before)})"
    elif minutes % step_minutes == 0:
        absent = int(minutes // step_minutes) - 1
        rule, message = "gap", f"{absent} x {step_minutes} minutes absent after {_text(before)}"
    else:
        rule, message = "step", f"{minutes:g} minutes after {_text(before)}, expected {step_minutes}"
    return Finding(rule, message, row=row, time=_text(now))


def _first_place(table: Table, bad: npt.NDArray[np.bool_], rule: str, what: str) -> Finding:
    row = int(np.argmax(bad.any(axis=1)))
    column = int(np.argmax(bad[row]))
    sensors = int(bad.any(axis=0).sum())
    return Finding(
        rule,
        f"{int(bad.sum())} readings of {sensors} sensor{'s' * (sensors > 1)} are {what}; the first",
        row=row,
        sensor=table.names[column],
        time=_text(table.times[row]) if table.times is not None else None,
    )


def _text(time: np.datetime64) -> str:
    return str(time.astype("datetime64[s]")).replace("T", " ")


def infer_step(times: Times, where: str) -> int:
    """The most frequent distance of neighbouring rows in minutes; UserError where it does not divide the day."""
    distances, counts = np.unique(np.diff(times), return_counts=True)
    if len(distances) == 0:
        raise UserError(f"{where}: one row has no time step; give freq, for instance freq: 15min")
    return whole_minutes(distances[np.argmax(counts)], where)


def whole_minutes(step: np.timedelta64, where: str) -> int:
    """A time step in minutes; UserError unless it is whole minutes that divide the day."""
    minutes = step / np.timedelta64(1, "m")
    if not (minutes >= 1 and minutes == int(minutes) and MINUTES_PER_DAY % int(minutes) == 0):
        raise UserError(f"{where}: the time step must be whole minutes that divide the day, got {minutes:g} minutes")
    return int(minutes)
