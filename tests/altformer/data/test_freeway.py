import numpy as np
import pytest

from altformer.data.freeway import (
    CELL_MILES,
    JAM_DENSITY,
    STEP_HOURS,
    WAVE_MPH,
    Network,
    Traffic,
    build_network,
    closeness,
    empty_roads,
    mean_speeds,
    step,
)


def one_road(cells=12):
    """A single corridor without ramps, at one speed and capacity."""
    place = np.arange(cells)
    return Network(
        corridor=np.zeros(cells, dtype=int),
        position=place,
        last=place == cells - 1,
        free_speed=np.full(cells, 60.0),
        capacity=np.full(cells, JAM_DENSITY * 60 * WAVE_MPH / (60 + WAVE_MPH)),
        source=place == 0,
        off_share=np.zeros(cells),
        turn_to=np.full(cells, -1),
        turn_share=np.zeros(cells),
    )


def steady(network, share, steps=400):
    """The road after a long time at a share of its capacity."""
    demand = np.where(network.source, share * network.capacity, 0)[None]
    traffic = empty_roads(network, 1)
    for _ in range(steps):
        traffic, _ = step(network, traffic, demand, np.ones((1, len(network.corridor))))
    return traffic, demand


def test_free_traffic_flows_as_it_enters_at_free_speed():
    network = one_road()
    traffic, demand = steady(network, 0.5)
    density = traffic.vehicles[0] / CELL_MILES
    np.testing.assert_allclose(density * network.free_speed, demand[0, 0], rtol=1e-6)
    (speeds,) = mean_speeds(network, traffic, [(demand, np.ones((1, 12)))], 10)
    np.testing.assert_allclose(speeds, 60, rtol=1e-6)


def test_congestion_behind_an_incident_has_the_density_and_wave_speed_of_the_theory():
    """Behind a bottleneck of flow q the density is k_jam - q/w, and the jam's end moves at the shock speed."""
    network = one_road(30)
    traffic, demand = steady(network, 0.7)
    blocked, bottleneck = np.ones((1, 30)), 25
    blocked[0, bottleneck] = 0.3
    through = 0.3 * network.capacity[0]
    arrives = np.full(30, -1)
    for number in range(240):
        traffic, _ = step(network, traffic, demand, blocked)
        jammed = traffic.vehicles[0] / CELL_MILES > 0.5 * (JAM_DENSITY - through / WAVE_MPH)
        arrives = np.where((arrives < 0) & jammed, number, arrives)
    density = traffic.vehicles[0] / CELL_MILES
    np.testing.assert_allclose(density[20:24], JAM_DENSITY - through / WAVE_MPH, rtol=0.01)
    order = arrives[12:bottleneck]
    assert (order > 0).all()
    assert (np.diff(order) < 0).all()  # upstream cells are reached later, one after the other
    flow = 0.7 * network.capacity[0]
    shock = (flow - through) / (JAM_DENSITY - through / WAVE_MPH - flow / 60)  # mph, upstream
    measured = CELL_MILES / (-np.diff(order).mean() * STEP_HOURS)
    assert measured == pytest.approx(shock, rel=0.1)


def test_downstream_of_an_incident_traffic_stays_free():
    network = one_road(30)
    traffic, demand = steady(network, 0.7)
    blocked = np.ones((1, 30))
    blocked[0, 15] = 0.3
    speeds = list(mean_speeds(network, traffic, [(demand, blocked)] * 6, 10))[-1][0]
    np.testing.assert_allclose(speeds[16:], 60, rtol=1e-6)
    assert (speeds[11:15] < 30).all()


def test_no_vehicle_is_lost_or_made():
    network = build_network(64, np.random.default_rng(0))
    demand = np.where(network.source, 0.3 * network.capacity, 0)[None]
    traffic, rng = empty_roads(network, 1), np.random.default_rng(0)
    for _ in range(200):
        before = traffic
        traffic, flows = step(network, before, demand, rng.uniform(0.3, 1, (1, 64)))
        left = (flows.out * np.where(network.last, 1 - network.turn_share, network.off_share)).sum()
        total, total_before = (state.vehicles.sum() + state.queue.sum() for state in (traffic, before))
        assert total == pytest.approx(total_before + demand.sum() * STEP_HOURS - left, abs=1e-6)
        assert (traffic.vehicles >= 0).all()
        assert (traffic.vehicles <= JAM_DENSITY * CELL_MILES + 1e-6).all()
        assert (traffic.queue >= -1e-9).all()


def test_days_side_by_side_do_not_mix():
    network = build_network(20, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    start = Traffic(rng.uniform(0, 100, (3, 20)), np.zeros((3, 20)))
    demand, blocked = rng.uniform(0, 3000, (3, 20)), rng.uniform(0.3, 1, (3, 20))
    together, _ = step(network, start, demand, blocked)
    for day in range(3):
        part = slice(day, day + 1)
        alone, _ = step(network, Traffic(start.vehicles[part], start.queue[part]), demand[part], blocked[part])
        np.testing.assert_array_equal(alone.vehicles, together.vehicles[part])


@pytest.mark.parametrize("cells", [4, 20, 64, 65, 400])
def test_networks_of_any_size(cells):
    network = build_network(cells, np.random.default_rng(0))
    assert len(network.corridor) == cells
    assert (network.free_speed * STEP_HOURS <= CELL_MILES).all()  # the stability condition
    assert network.last.sum() == network.corridor[-1] + 1
    turns = network.turn_to[network.turn_to >= 0]
    assert len(set(turns)) == len(turns)  # no cell is reached by two interchanges
    assert (network.corridor[turns] != network.corridor[network.turn_to >= 0]).all()
    assert (network.straight_share > 0.7).all()
    assert closeness(network).shape == (cells, cells)
