import numpy as np
import pandas as pd
import pytest

from altformer.data.config import DatasetConfig
from altformer.data.datasets import load
from altformer.data.own_file import parse_freq
from altformer.data.traffic import settle_missing
from altformer.errors import UserError


@pytest.fixture
def csv(tmp_path):
    def write(frame):
        frame.to_csv(tmp_path / "my.csv")
        return tmp_path / "my.csv"

    return write


def quarter_hours(rows=200, sensors=2):
    values = np.random.default_rng(0).uniform(20, 60, (rows, sensors))
    return pd.DataFrame(values, index=pd.date_range("2024-03-01", periods=rows, freq="15min"), columns=["a", "b"])


def test_the_way_the_readme_shows(csv):
    config = DatasetConfig.model_validate(
        {"path": csv(quarter_hours()), "freq": "15min", "split": [7, 1, 2], "null_value": 0}
    )
    data = load(config)
    assert (data.name, data.step_minutes, data.steps_per_day, data.sensor_ids) == ("my", 15, 96, ("a", "b"))
    assert data.split == pytest.approx((0.7, 0.1, 0.2))
    assert (data.user_file, data.null_value) == (True, 0.0)
    assert data.time_of_day[[0, 95, 96]].tolist() == [0, 95, 0]


def test_nothing_but_the_path_is_needed(csv):
    data = load(DatasetConfig(path=csv(quarter_hours())))
    assert (data.step_minutes, data.null_value) == (15, 0.0)
    assert data.split == pytest.approx((0.7, 0.1, 0.2))


def test_a_wrong_freq_is_noticed(csv):
    with pytest.raises(UserError, match=r"my\.csv: step: 15 minutes after 2024-03-01 00:00:00, expected 10"):
        load(DatasetConfig(path=csv(quarter_hours()), freq="10min"))


def test_a_gap_and_disorder_are_refused_with_their_place(csv):
    frame = quarter_hours()
    with pytest.raises(UserError, match=r"gap: 2 x 15 minutes absent after 2024-03-01 00:15:00 \(row 2"):
        load(DatasetConfig(path=csv(frame.drop(frame.index[[2, 3]]))))
    with pytest.raises(UserError, match="order: before the row above"):
        load(DatasetConfig(path=csv(frame.iloc[[*range(100), 50, *range(100, 200)]])))


def test_nan_needs_to_be_declared(csv):
    frame = quarter_hours()
    frame.iloc[3, 1] = np.nan
    with pytest.raises(UserError, match=r"nan: 1 readings of 1 sensor .*null_value: nan.*row 3, sensor b"):
        load(DatasetConfig(path=csv(frame)))
    data = load(DatasetConfig(path=csv(frame), null_value="nan"))
    assert (data.null_value, data.values[3, 1], data.missing_share) == (0.0, 0.0, 1 / 400)


@pytest.mark.parametrize(
    ("readings", "null_value", "mark", "missing"),
    [
        ([1, np.nan, 3], np.nan, 0, [False, True, False]),
        ([1, np.nan, 0], np.nan, -1, [False, True, False]),  # 0 is a reading: no car passed
        ([-1, np.nan, 0], np.nan, -2, [False, True, False]),
        ([1, 0, 3], 0, 0, [False, True, False]),
        ([1, -9.99, 0], -9.99, float(np.float32(-9.99)), [False, True, False]),
    ],
)
def test_no_true_reading_is_taken_for_missing(readings, null_value, mark, missing):
    values, found = settle_missing(np.array([readings]), null_value)
    assert found == mark
    assert (values == np.float32(found))[0].tolist() == missing
    assert np.isfinite(values).all()


def test_infinity_is_never_missing(csv):
    frame = quarter_hours()
    frame.iloc[7, 0] = np.inf
    with pytest.raises(UserError, match=r"inf: .*row 7, sensor a"):
        load(DatasetConfig(path=csv(frame), null_value="nan"))


def test_a_graph_goes_by_sensor_name(csv, tmp_path):
    (tmp_path / "roads.csv").write_text("from,to,cost\nb,a,3\n")
    data = load(DatasetConfig(path=csv(quarter_hours()), graph=tmp_path / "roads.csv"))
    np.testing.assert_array_equal(data.adjacency, [[1, 0], [1, 1]])


def test_an_npz_without_times_is_refused_with_the_way_out(tmp_path):
    np.savez(tmp_path / "x.npz", data=np.ones((10, 2)))
    with pytest.raises(UserError, match="has no times; write the readings as CSV"):
        load(DatasetConfig(path=tmp_path / "x.npz"))


@pytest.mark.parametrize("rows", [0, 1])
def test_too_short_a_file(rows, csv):
    with pytest.raises(UserError, match="nothing to"):
        load(DatasetConfig(path=csv(quarter_hours().iloc[:rows])))


@pytest.mark.parametrize(
    ("freq", "minutes"), [("5min", 5), ("15min", 15), ("15 min", 15), ("1h", 60), ("h", 60), ("5T", 5), ("1D", 1440)]
)
def test_freq(freq, minutes):
    assert parse_freq(freq) == minutes


@pytest.mark.parametrize("freq", ["7min", "90s", "0min", "-5min", "5", "", "soon", "2D", "1.5h"])
def test_bad_freq(freq):
    with pytest.raises(UserError, match="freq: "):
        parse_freq(freq)
