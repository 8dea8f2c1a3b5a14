from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from altformer.data.windows import Windows
from altformer.errors import UserError
from altformer.forecast import load_forecaster
from altformer.loaded import load_model

ORIGIN = 350  # in the test part


@pytest.fixture(scope="module")
def forecaster(trained):
    return load_forecaster(trained)


@pytest.fixture
def readings(traffic):
    """All rows before the origin; the last sensor but one is missing in the last of them."""
    frame = pd.DataFrame(traffic.values[:ORIGIN], index=pd.DatetimeIndex(traffic.times[:ORIGIN], name="time"))
    frame.columns = list(traffic.sensor_ids)
    return frame


def test_equals_what_scoring_forecasts_at_that_time(trained, forecaster, readings, traffic):
    forecast = forecaster.forecast(readings)
    windows = Windows.of(traffic, 12, 12)
    with torch.inference_mode():
        expected = load_model(trained).forecaster(traffic, windows)(torch.tensor([ORIGIN]))[0]
    np.testing.assert_array_equal(forecast.to_numpy(), expected.numpy())
    assert list(forecast.columns) == list(traffic.sensor_ids)
    np.testing.assert_array_equal(forecast.index.to_numpy(), traffic.times[ORIGIN : ORIGIN + 12])
    assert forecast.index.name == "time"


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame[frame.columns[::-1]],
        lambda frame: frame.iloc[-12:],
        lambda frame: frame.replace(0, np.nan),
        lambda frame: frame.astype(np.float64),
        lambda frame: frame.astype("Float32"),
        lambda frame: frame.astype(object),
        lambda frame: frame.tz_localize("UTC").tz_convert("UTC"),
    ],
    ids=["other order", "last rows only", "NaN for missing", "float64", "nullable", "objects", "with a time zone"],
)
def test_the_same_readings_in_another_form_give_the_same_forecast(forecaster, readings, change):
    expected = forecaster.forecast(readings)
    given = change(readings)
    found = forecaster.forecast(given)
    np.testing.assert_array_equal(found.to_numpy(), expected.to_numpy())
    assert list(found.columns) == list(expected.columns)
    assert found.index.tz == given.index.tz and list(found.index.tz_localize(None)) == list(expected.index)


def test_whole_numbers_name_sensors_too(forecaster, readings):
    numbered = forecaster.facts.model_copy(update={"sensor_ids": tuple(map(str, range(6)))})
    other = replace(forecaster, loaded=replace(forecaster.loaded, facts=numbered))
    readings.columns = range(6)
    assert list(other.forecast(readings).columns) == ["0", "1", "2", "3", "4", "5"]


def without(frame, *rows):
    return frame.drop(frame.index[list(rows)])


def with_cell(frame, row, column, value):
    changed = frame.astype({frame.columns[column]: object if isinstance(value, str) else np.float64})
    changed.iloc[row, column] = value
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="s2"), r"readings of other sensors: missing sensor s2 \(the model forecasts 6"),
        (lambda f: f.assign(x=1.0, y=2.0), "unknown sensors x, y"),
        (lambda f: f.rename(columns={"s3": "S3"}), "missing sensor s3; unknown sensor S3"),
        (lambda f: pd.concat([f, f[["s1"]]], axis=1), "sensor 's1' is in columns 1 and 6"),
        (lambda f: f.iloc[-11:], "the model looks at 12 rows, got 11"),
        (lambda f: f.iloc[:0], "the model looks at 12 rows, got 0"),
        (lambda f: without(f, 345), "gap: 1 x 30 minutes absent after 2024-01-08 04:00:00"),
        (lambda f: without(f, 345), r"\(row 345, time 2024-01-08 05:00:00\)"),
        (lambda f: f.iloc[::2], "gap: 1 x 30 minutes absent"),
        (lambda f: f.iloc[::-1], "order: before the row above it"),
        (
            lambda f: pd.concat([f.iloc[100:200], f.iloc[:100], f.iloc[200:]]),
            r"order: before the row .*\(row 100, time",
        ),
        (lambda f: pd.concat([f, f.iloc[-1:]]), "duplicate: the time of the row before occurs again"),
        (lambda f: pd.concat([f.iloc[:5], f.iloc[4:]]), r"duplicate: the time of the row before .*\(row 5, time"),
        (lambda f: f.set_axis(f.index.where(np.arange(350) != 5)), r"time: not a time \(row 5\)"),
        (lambda f: f.set_axis(f.index[0] + pd.to_timedelta(np.arange(350) * 15, "min")), "15 minutes after"),
        (lambda f: f.reset_index(drop=True), r"must be indexed by time \(a DatetimeIndex\), got int64"),
        (lambda f: with_cell(f, -3, 4, "n/a"), "sensor 's4' holds 'n/a' at 2024-01-08 05:30:00, expected numbers"),
        (lambda f: f.assign(s0=True), "sensor 's0' holds"),
        (lambda f: with_cell(f, -3, 4, np.inf), r"inf: 1 readings of 1 sensor are infinite.*\(row 347, sensor s4"),
        (lambda f: with_cell(f, -3, 4, 1e300), "beyond float32"),
        (lambda f: f.assign(s1=np.nan, s4=None), "nothing in any of the 350 rows of sensors s1, s4: an empty column"),
        (
            lambda f: f.iloc[-12:].assign(s1=np.nan),
            r"nothing in any of the 12 rows of sensor s1.*\(.*silent has 0 there",
        ),
        (lambda f: f.to_numpy(), "must be a pandas DataFrame, got ndarray"),
    ],
)
def test_broken_readings_are_refused_with_their_place(forecaster, readings, change, message):
    with pytest.raises(UserError, match=message):
        forecaster.forecast(change(readings))


def test_only_the_last_rows_and_none_before_them_count(forecaster, readings):
    expected = forecaster.forecast(readings).to_numpy()
    earlier, inside = readings.copy(), readings.copy()
    earlier.iloc[:-12] = 17
    inside.iloc[-12, 0] += 9
    assert (forecaster.forecast(earlier).to_numpy() == expected).all()
    assert (forecaster.forecast(inside).to_numpy() != expected).any()


@pytest.mark.parametrize(
    "change",
    [
        lambda f: without(f, 5),
        lambda f: without(f, *range(100, 200), 337),  # up to the row before the window
        lambda f: with_cell(f, 3, 4, "n/a"),
        lambda f: with_cell(f, -13, 4, np.inf),
        lambda f: with_cell(f, slice(0, -12), 4, np.nan),
    ],
    ids=["a gap", "a large gap", "no number", "infinite", "missing"],
)
def test_what_lies_before_the_window_is_not_judged(forecaster, readings, change, caplog):
    expected = forecaster.forecast(readings).to_numpy()
    assert (forecaster.forecast(change(readings)).to_numpy() == expected).all()
    assert caplog.text == ""


@pytest.mark.parametrize("mark", [0.0, np.nan, "both"])
def test_a_silent_sensor_is_forecast_as_in_scoring_and_named(trained, forecaster, readings, traffic, mark, caplog):
    values = traffic.values.copy()
    values[ORIGIN - 12 : ORIGIN, [1, 4]] = 0
    silent = replace(traffic, values=values)
    facts = load_model(trained)
    with torch.inference_mode():
        expected = facts.forecaster(silent, Windows.of(silent, 12, 12))(torch.tensor([ORIGIN]))[0].numpy()
    readings.iloc[-12:, [1, 4]] = 0.0 if mark == "both" else mark
    if mark == "both":
        readings.iloc[-6:, 1] = np.nan
    np.testing.assert_array_equal(forecaster.forecast(readings).to_numpy(), expected)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.messages == ["readings: nothing in the last 12 rows of sensors s1, s4; forecast without"]


def test_silence_is_judged_by_the_last_rows_alone(forecaster, readings, caplog):
    readings.iloc[-12:-1, 1] = 0.0
    readings.iloc[-1, 1] = 50.0
    forecaster.forecast(readings)
    assert caplog.text == ""


def test_forecasting_needs_neither_ray_nor_mlflow(trained):
    code = (
        "import sys\n"
        "sys.modules['ray'] = sys.modules['mlflow'] = None\n"
        "from altformer.forecast import load_forecaster\n"
        f"load_forecaster({str(trained)!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
