"""The built-in data set `simulated`: speeds on a made-up freeway network (docs/simulated.md), fixed by its seed.

c: cells = sensors n, d: days, s: slots of a day
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from altformer.data.freeway import Array, Network, build_network, closeness, empty_roads, mean_speeds
from altformer.data.identity import content_hash
from altformer.data.specs import SIMULATED
from altformer.data.traffic import Readings, TrafficData, read_only

SENSORS, DAYS, SEED = 64, 28, 0
START = "2024-01-01"  # a Monday
STEP_MINUTES = 5
SLOTS = 288
_STEPS_PER_SLOT = 10  # of 30 s
_WARM_UP_SLOTS = 12
_BLOCK = 2_000_000  # readings simulated side by side, which bounds memory

SINGLE_MISSING = 0.01  # share of readings lost one at a time
OUTAGE_CHANCE = 0.12  # of a sensor on a day, lasting 1..192 slots
OUTAGE_SLOTS = 192
MISSING_SHARE = 1 - (1 - SINGLE_MISSING) * (1 - OUTAGE_CHANCE * (OUTAGE_SLOTS + 1) / 2 / SLOTS)  # expected: 5 %

_INCIDENTS_PER_CELL_AND_DAY = 0.04


def simulate(sensors: int | None = None, days: int | None = None, seed: int | None = None) -> TrafficData:
    """Speeds in mph every 5 minutes from `sensors` detectors over `days` days; None takes the defaults 64, 28 and 0.

    The first days of a longer simulation are those of a shorter one. Missing readings are exactly 0.
    """
    sensors, days, seed = sensors or SENSORS, days or DAYS, SEED if seed is None else seed
    network = build_network(sensors, np.random.default_rng([seed, 0]))
    bias = np.random.default_rng([seed, 1]).normal(1, 0.015, sensors)
    values: Readings = np.empty((days * SLOTS, sensors), dtype=np.float32)
    block = max(1, _BLOCK // (SLOTS * sensors))
    for first in range(0, days, block):
        plans = [
            _plan_day(network, day, np.random.default_rng([seed, 2, day]))
            for day in range(first, min(first + block, days))
        ]
        speeds = _drive(network, plans)  # (s, d, c)
        for k, plan in enumerate(plans):
            read = np.clip(np.round(speeds[:, k] * bias + plan.noise, 2), 1, 85)
            values[(first + k) * SLOTS : (first + k + 1) * SLOTS] = np.where(plan.lost, 0, read)
    times = np.datetime64(START, "m") + np.arange(len(values)) * np.timedelta64(STEP_MINUTES, "m")
    return TrafficData(
        name=SIMULATED,
        values=read_only(values),
        times=times,
        step_minutes=STEP_MINUTES,
        sensor_ids=_names(network),
        null_value=0.0,
        split=(0.7, 0.1, 0.2),
        unit="mph",
        adjacency=read_only(closeness(network)),
        user_file=False,
        content_hash=content_hash(values),
    )


class DayPlan(NamedTuple):
    """What chance decides of one day, all (s, c): demand at sources, open capacity, noise and lost readings."""

    demand: Array
    open_share: Array
    noise: Array
    lost: npt.NDArray[np.bool_]


def _plan_day(network: Network, day: int, rng: np.random.Generator) -> DayPlan:
    cells = len(network.corridor)
    busy = rng.normal(1, 0.02) * rng.normal(1, 0.04, network.corridor[-1] + 1)  # this day, and each corridor on it
    demand = _daily_demand(network, weekday=day % 7) * busy[network.corridor]
    fluctuation = np.zeros(cells)
    for slot in range(SLOTS):
        fluctuation = 0.9 * fluctuation + rng.normal(0, 0.025, cells)
        demand[slot] *= 1 + fluctuation
    noise = rng.normal(0, 1.0, (SLOTS, cells))
    return DayPlan(np.maximum(demand, 0), _open_share(cells, rng), noise, _lost(cells, rng))


def _daily_demand(network: Network, weekday: int) -> Array:
    """Mean demand (s, c), vehicles per hour: morning peak inbound, evening peak outbound, a flat bump at weekends."""
    hour = np.arange(SLOTS)[:, None] * 24 / SLOTS
    inbound = network.corridor % 2 == 0
    night = 0.10 + 0.32 * _bump(hour, 13.5, 5.5)
    if weekday >= 5:
        level = night + (0.20 if weekday == 5 else 0.12) * _bump(hour, 14.5, 3.0)
    else:
        morning, evening = np.where(inbound, 0.48, 0.20), np.where(inbound, 0.18, 0.46)
        friday = 1.08 if weekday == 4 else 1.0
        level = night + morning * _bump(hour, 7.8, 1.1) + friday * evening * _bump(hour, 17.2, 1.5)
    size = np.where(network.position == 0, network.capacity, 0.17 * network.capacity)
    demand: Array = level * size * network.source
    return demand


def _bump(hour: Array, centre: float, width: float) -> Array:
    bump: Array = np.exp(-0.5 * ((hour - centre) / width) ** 2)
    return bump


def _open_share(cells: int, rng: np.random.Generator) -> Array:
    """Share of the capacity that is open (s, c): less on rainy days, much less where an incident blocks lanes."""
    share = np.full((SLOTS, cells), rng.choice([1.0, 0.93], p=[0.88, 0.12]))
    for _ in range(rng.poisson(_INCIDENTS_PER_CELL_AND_DAY * cells)):
        cell, start, length = rng.integers(cells), rng.integers(5 * 12, 21 * 12), rng.integers(3, 15)
        share[start : start + length, cell] *= rng.uniform(0.25, 0.6)
    return share


def _lost(cells: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    lost = rng.random((SLOTS, cells)) < SINGLE_MISSING
    for cell in np.flatnonzero(rng.random(cells) < OUTAGE_CHANCE):
        length = rng.integers(1, OUTAGE_SLOTS + 1)
        start = rng.integers(0, SLOTS - length + 1)
        lost[start : start + length, cell] = True
    return lost


def _drive(network: Network, plans: list[DayPlan]) -> Array:
    """Speeds (s, d, c) of days simulated side by side, each from empty roads and an hour of night traffic."""
    demand = np.stack([plan.demand for plan in plans], axis=1)
    open_share = np.stack([plan.open_share for plan in plans], axis=1)
    slots = [0] * _WARM_UP_SLOTS + list(range(SLOTS))
    traffic = empty_roads(network, len(plans))
    driven = mean_speeds(network, traffic, ((demand[slot], open_share[slot]) for slot in slots), _STEPS_PER_SLOT)
    return np.stack(list(driven)[_WARM_UP_SLOTS:])


def _names(network: Network) -> tuple[str, ...]:
    return tuple(
        f"F{corridor // 2 + 1}{'out' if corridor % 2 else 'in'}{position:02d}"
        for corridor, position in zip(network.corridor, network.position, strict=True)
    )
