import re
from pathlib import Path

import numpy as np
import pytest

from altformer.data import freeway, simulated
from altformer.data.simulated import MISSING_SHARE, SLOTS, simulate


@pytest.fixture(scope="module")
def data():
    return simulate()


def seen(data):
    return np.where(data.values == 0, np.nan, data.values)


def test_the_shape_and_what_is_known_of_it(data):
    assert data.values.shape == (28 * SLOTS, 64)
    assert (data.unit, data.null_value, data.step_minutes, data.user_file) == ("mph", 0.0, 5, False)
    assert (str(data.start), data.day_of_week[0]) == ("2024-01-01T00:00", 0)
    assert len(set(data.sensor_ids)) == 64
    assert not data.values.flags.writeable


def test_the_same_seed_gives_the_same_readings():
    first, again, other = simulate(20, 3, 7), simulate(20, 3, 7), simulate(20, 3, 8)
    assert first.content_hash == again.content_hash != other.content_hash


def test_more_days_continue_fewer(monkeypatch):
    short = simulate(12, 2)
    monkeypatch.setattr(simulated, "_BLOCK", 12 * SLOTS)  # one day at a time
    np.testing.assert_array_equal(simulate(12, 3).values[: 2 * SLOTS], short.values)


@pytest.mark.parametrize("sensors", [4, 7, 33, 200])
def test_any_size(sensors):
    data = simulate(sensors, 2)
    assert data.values.shape == (2 * SLOTS, sensors)
    assert data.adjacency.shape == (sensors, sensors)
    assert np.isfinite(data.values).all()


def test_missing_readings_are_zeros_in_the_declared_share(data):
    assert data.missing_share == pytest.approx(MISSING_SHARE, abs=0.012)
    assert data.values[data.values != 0].min() >= 1
    assert data.values.max() <= 85


def test_working_days_are_congested_and_weekends_are_not(data):
    slow = (seen(data) < 40).reshape(28, SLOTS, 64).mean(axis=(1, 2))
    weekday = np.arange(28) % 7
    assert slow[weekday < 5].mean() > 4 * slow[weekday == 6].mean()
    assert 0.03 < slow[weekday < 5].mean() < 0.3


def test_inbound_is_slow_in_the_morning_and_outbound_in_the_evening(data):
    inbound = np.array(["in" in name for name in data.sensor_ids])
    working = (np.arange(28) % 7) < 5
    slow = (seen(data) < 40).reshape(28, SLOTS, 64)[working].mean(axis=0)  # (slot, sensor)
    morning, evening = slow[6 * 12 : 11 * 12].mean(axis=0), slow[16 * 12 : 20 * 12].mean(axis=0)
    assert morning[inbound].mean() > 3 * morning[~inbound].mean()
    assert evening[~inbound].mean() > 3 * evening[inbound].mean()


def test_congestion_reaches_the_sensor_upstream_later(data):
    """The cross-correlation of two neighbours is highest where the upstream one lags, all along the first corridor."""
    values, lags = seen(data), range(-6, 7)
    for sensor in range(1, 10):
        downstream = values[6:-6, sensor + 1]
        likeness = [correlation(downstream, values[6 + lag : len(values) - 6 + lag, sensor]) for lag in lags]
        assert lags[int(np.argmax(likeness))] > 0


def correlation(first, second):
    both = np.isfinite(first) & np.isfinite(second)
    return np.corrcoef(first[both], second[both])[0, 1]


def test_what_a_spatial_encoder_can_gain(data):
    """Three sensors downstream improve a linear forecast by a quarter; one upstream does nothing for it."""
    values, ahead = seen(data), 3
    errors = {"own": 0.0, "downstream": 0.0, "upstream": 0.0}
    for sensor in range(2, 8):
        around, target = values[:-ahead, sensor - 1 : sensor + 4], values[ahead:, sensor]
        whole = np.isfinite(around).all(axis=1) & np.isfinite(target)
        for name, columns in (("own", [1]), ("downstream", [1, 2, 3, 4]), ("upstream", [0, 1])):
            inputs = np.column_stack([around[whole][:, columns], np.ones(whole.sum())])
            weights = np.linalg.lstsq(inputs, target[whole], rcond=None)[0]
            errors[name] += np.mean((inputs @ weights - target[whole]) ** 2)
    assert errors["downstream"] < 0.75 * errors["own"]
    assert errors["upstream"] > 0.97 * errors["own"]


def test_the_graph_follows_the_road(data):
    graph = data.adjacency
    assert (np.diag(graph) == 1).all()
    assert graph[3, 4] > graph[3, 5] > graph[3, 7] > 0
    assert graph[4, 3] == 0  # against the driving direction
    other_freeway = [name.startswith("F2") for name in data.sensor_ids]
    assert graph[:16, other_freeway].max() > 0  # over the interchange


def test_the_documented_constants_are_those_of_the_code():
    page = (Path(__file__).parents[3] / "docs" / "simulated.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`.*?\| (.+?) \| (\w+)\.py \|$", page, re.MULTILINE)
    assert len(rows) == 11
    for name, value, module in rows:
        factors = [float(part) for part in re.split(r" [*/] ", value)]
        written = factors[0] / factors[1] if "/" in value else np.prod(factors)
        assert getattr({"freeway": freeway, "simulated": simulated}[module], name) == written, name
