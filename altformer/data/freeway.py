"""A freeway network and its traffic by the cell transmission model (Daganzo 1994; junctions after Daganzo 1995).

c: cells, d: days simulated side by side. Lengths in miles, speeds in mph, flows in vehicles per hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

CELL_MILES = 0.6
STEP_HOURS = 30 / 3600  # a car at free speed must not jump over a cell: 0.6 miles / 30 s = 72 mph
WAVE_MPH = 12.0  # speed at which congestion travels upstream
JAM_DENSITY = 4 * 190.0  # vehicles per mile on four lanes
RAMP_FLOW = 1600.0  # most that one on-ramp can send


@dataclass(frozen=True)
class Network:
    """Corridors of cells in driving order, one after the other in the arrays; all arrays are (c,)."""

    corridor: npt.NDArray[np.int64]  # the corridor a cell belongs to; even: inbound, odd: outbound
    position: npt.NDArray[np.int64]  # place of the cell in its corridor, 0 is the most upstream
    last: npt.NDArray[np.bool_]  # the corridor ends here and traffic leaves freely
    free_speed: Array
    capacity: Array
    source: npt.NDArray[np.bool_]  # traffic enters here: the corridor's first cell, and on-ramps
    off_share: Array  # share of the traffic that leaves by an off-ramp
    turn_to: npt.NDArray[np.int64]  # cell of another freeway reached over an interchange, -1: none
    turn_share: Array

    @property
    def straight_share(self) -> Array:
        """Share of each cell's traffic that goes on to the next cell (c,)."""
        return 1 - self.off_share - self.turn_share


def build_network(cells: int, rng: np.random.Generator) -> Network:
    """Two-way freeways of about 16 cells per direction, each crossing the next; ramps, lane drops and speeds vary."""
    corridors = max(2, 2 * round(cells / 32))
    lengths = np.array([len(part) for part in np.array_split(np.arange(cells), corridors)])
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    corridor = np.repeat(np.arange(corridors), lengths)
    position = np.arange(cells) - first[corridor]
    from_end = lengths[corridor] - 1 - position

    free_speed = rng.uniform(61, 69, cells)
    lane_drop = np.isin(np.arange(cells), first + (lengths * rng.uniform(0.65, 0.85, corridors)).astype(int))
    capacity = (
        JAM_DENSITY
        * free_speed
        * WAVE_MPH
        / (free_speed + WAVE_MPH)
        * np.where(lane_drop, rng.uniform(0.82, 0.9, cells), 1.0)
    )

    off = (position % 3 == 1) & (from_end > 0)
    on = (position % 3 == 2) & (from_end > 0)
    turn_to, turn_share = np.full(cells, -1), np.zeros(cells)
    for here in range(corridors - 2):  # freeway k crosses freeway k+1, in both directions of each
        if min(lengths[here], lengths[here + 2]) >= 6:
            mine, other = first[here] + lengths[here] * 3 // 5, first[here + 2] + lengths[here + 2] * 2 // 5
            turn_to[mine], turn_share[mine] = other + 1, 0.15
            turn_to[other], turn_share[other] = mine + 1, 0.15
    return Network(
        corridor=corridor,
        position=position,
        last=from_end == 0,
        free_speed=free_speed,
        capacity=capacity,
        source=on | (position == 0),
        off_share=np.where(off & (turn_to < 0), rng.uniform(0.05, 0.12, cells), 0.0),
        turn_to=turn_to,
        turn_share=turn_share,
    )


class Traffic(NamedTuple):
    """State of all cells (d, c): vehicles in the cell, and vehicles waiting to enter it at its ramp."""

    vehicles: Array
    queue: Array


class Flows(NamedTuple):
    """Vehicles that moved in one step (d, c): out of each cell, and into it from its ramp."""

    out: Array
    entered: Array


def step(network: Network, traffic: Traffic, demand: Array, open_share: Array) -> tuple[Traffic, Flows]:
    """One step of the model: demand (d, c), vehicles per hour, enters; open_share (d, c) of the capacity is open.

    A cell sends min(v k, Q) and receives min(Q, w (k_jam - k)) (Daganzo 1994). Where more is sent to a cell than it
    receives, all that send to it are held back alike (merge); a cell whose traffic splits is held back as its most
    hindered branch is (first in, first out; Daganzo 1995).
    """
    density = traffic.vehicles / CELL_MILES
    most = network.capacity * open_share
    sends = np.minimum(network.free_speed * density, most) * STEP_HOURS
    receives = np.minimum(most, WAVE_MPH * np.maximum(JAM_DENSITY - density, 0)) * STEP_HOURS

    waiting = traffic.queue + demand * STEP_HOURS
    ramp = np.minimum(waiting, np.where(network.position == 0, network.capacity, RAMP_FLOW) * STEP_HOURS)
    wanted = _arriving(network, sends) + ramp
    granted = np.minimum(1.0, receives / np.maximum(wanted, 1e-9))

    ahead = np.ones_like(granted)
    ahead[:, :-1] = np.where(network.last[:-1], 1.0, granted[:, 1:])
    turns = np.flatnonzero(network.turn_to >= 0)
    ahead[:, turns] = np.minimum(ahead[:, turns], granted[:, network.turn_to[turns]])

    flows = Flows(out=sends * ahead, entered=ramp * granted)
    vehicles = traffic.vehicles + _arriving(network, flows.out) + flows.entered - flows.out
    return Traffic(vehicles, waiting - flows.entered), flows


def _arriving(network: Network, out: Array) -> Array:
    """What reaches each cell (d, c) from the other cells, if they send `out`."""
    arriving = np.zeros_like(out)
    arriving[:, 1:] = (out * np.where(network.last, 0.0, network.straight_share))[:, :-1]
    turns = np.flatnonzero(network.turn_to >= 0)
    arriving[:, network.turn_to[turns]] += out[:, turns] * network.turn_share[turns]
    return arriving


def mean_speeds(
    network: Network, traffic: Traffic, slots: Iterable[tuple[Array, Array]], steps_per_slot: int
) -> Iterator[Array]:
    """Space-mean speed (d, c) of each slot: miles driven / hours spent; slots give (demand, open_share)."""
    for demand, open_share in slots:
        driven, spent = np.zeros_like(traffic.vehicles), np.zeros_like(traffic.vehicles)
        for _ in range(steps_per_slot):
            present = traffic.vehicles
            traffic, flows = step(network, traffic, demand, open_share)
            driven += flows.out * CELL_MILES
            spent += present * STEP_HOURS
        yield np.where(spent > 1e-6, driven / np.maximum(spent, 1e-6), network.free_speed)


def closeness(network: Network, hops: int = 4) -> npt.NDArray[np.float32]:
    """Road graph (c, c): exp(-(distance / 1.2 miles)^2) in driving direction, 1 on the diagonal, 0 beyond `hops`.

    The Gaussian kernel of DCRNN (Li et al. 2018).
    """
    cells = len(network.corridor)
    graph = np.eye(cells, dtype=np.float32)
    origin = here = np.arange(cells)
    for hop in range(1, hops + 1):
        onward = ~network.last[here]
        turning = network.turn_to[here] >= 0
        origin = np.concatenate([origin[onward], origin[turning]])
        here = np.concatenate([here[onward] + 1, network.turn_to[here[turning]]])
        np.maximum.at(graph, (origin, here), np.float32(np.exp(-((hop * CELL_MILES / 1.2) ** 2))))
    return graph


def empty_roads(network: Network, days: int) -> Traffic:
    """No vehicles anywhere (d, c)."""
    nothing = np.zeros((days, len(network.corridor)))
    return Traffic(nothing, nothing)
