"""The forecasts that learn nothing or only an average."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from altformer.data.config import DatasetConfig
from altformer.data.datasets import load
from altformer.data.windows import Windows
from altformer.errors import UserError
from altformer.evaluate import model_forecaster, score
from altformer.model.build import BASELINES
from altformer.model.shape import ForecastShape
from experiments.evaluate_command import NAIVE

# protocol.md: "copy the last 12 readings" on the test part, MAE / RMSE / MAPE
COPY_LAST = {
    "3": (6.7969, 14.2110, 16.7167),
    "6": (6.7965, 14.2104, 16.7161),
    "12": (6.7952, 14.2086, 16.7140),
    "all": (6.7963, 14.2102, 16.7159),
}


# the historical average on the test part, over all steps, as first measured; at step 12 the same to 0.0002
HISTORICAL_AVERAGE = (4.1863, 7.8513, 13.0319)
METRICS = ("mae", "rmse", "mape")


def fitted(name, windows, steps_per_day=48):
    shape = ForecastShape(windows.values.shape[1], windows.input_len, windows.output_len, steps_per_day)
    model = BASELINES[name](NAIVE[name.replace("_", "-")](), shape)
    if hasattr(model, "fit"):
        model.fit(windows)
    return model


@pytest.fixture
def windows(traffic):
    return Windows.of(traffic, 12, 12)


def test_metr_la_gives_the_published_scores(metr_la_dir):
    windows = Windows.of(load(DatasetConfig(name="METR-LA"), metr_la_dir), 12, 12)
    result = score(model_forecaster(fitted("copy_last", windows, 288), windows), windows, "test")
    assert result["windows"] == 6850
    for step, expected in COPY_LAST.items():
        assert tuple(round(result[step][name], 4) for name in METRICS) == expected
    result = score(model_forecaster(fitted("last_value", windows, 288), windows), windows, "test")
    assert tuple(round(result["12"][name], 4) for name in METRICS) == COPY_LAST["12"]  # the same reading by then
    result = score(model_forecaster(fitted("historical_average", windows, 288), windows), windows, "test")
    assert tuple(round(result["all"][name], 4) for name in METRICS) == HISTORICAL_AVERAGE


def test_forecasts_written_out(windows):
    origins = torch.tensor([40, 200])
    batch = windows.batch(origins)
    scaled = windows.scaler.scale(windows.values)
    copied, last = (fitted(name, windows)(*batch[:4]) for name in ("copy_last", "last_value"))
    for at, origin in enumerate(origins.tolist()):
        np.testing.assert_array_equal(copied[at], scaled[origin - 12 : origin])
        np.testing.assert_array_equal(last[at], scaled[origin - 1 : origin].repeat(12, 1))


def test_copies_of_fewer_steps_than_were_read(traffic):
    windows = Windows.of(traffic, 24, 6)
    forecast = model_forecaster(fitted("copy_last", windows), windows)(torch.tensor([100]))
    np.testing.assert_allclose(forecast[0], traffic.values[94:100], atol=1e-4)


def test_copies_of_more_steps_than_were_read_are_refused():
    with pytest.raises(UserError, match="input_len must be at least output_len: input_len 6, output_len 12"):
        BASELINES["copy_last"](NAIVE["copy-last"](), ForecastShape(5, 6, 12))


def test_historical_average_sees_only_training_rows(traffic, windows):
    last_row = int(windows.origins["train"][-1]) + 11
    origin = windows.origins["test"][-1:]  # a Tuesday, as one in the training part
    forecast = model_forecaster(fitted("historical_average", windows), windows)(origin)[0].numpy()
    time_of_week = traffic.day_of_week * 48 + traffic.time_of_day
    compared = 0
    for step in range(12):
        for sensor in range(6):
            same = (time_of_week == time_of_week[int(origin) + step]) & (np.arange(len(traffic.values)) <= last_row)
            seen = traffic.values[same, sensor]
            seen = seen[seen != 0]
            if len(seen):
                compared += 1
                assert forecast[step, sensor] == pytest.approx(seen.mean(), rel=1e-5)
    assert compared > 60


def test_historical_average_of_what_was_never_observed(windows):
    """A time of the week without a reading: the sensor's mean; a sensor without any: the mean of all."""
    values = windows.values.clone()
    values[:, 3] = 0.0
    windows = replace(windows, values=values)
    rows = int(windows.origins["train"][-1]) + 12
    table = windows.scaler.unscale(fitted("historical_average", windows).table)
    never = 6 * 48  # the data begin on a Monday and the training part ends before Sunday
    assert not (windows.day_of_week[:rows] == 6).any()
    seen = values[:rows]
    for sensor in (0, 1, 2, 4, 5):
        mean = seen[:, sensor][seen[:, sensor] != 0].mean()
        torch.testing.assert_close(table[never, sensor], mean, rtol=1e-5, atol=0)
    torch.testing.assert_close(table[:, 3], seen[seen != 0].mean().expand(7 * 48), rtol=1e-5, atol=0)


def test_historical_average_counts_time_on_over_midnight_and_sunday():
    model = BASELINES["historical_average"](NAIVE["historical-average"](), ForecastShape(1, 2, 3, 24))
    model.table.copy_(torch.arange(7 * 24.0)[:, None])
    clock = torch.tensor([[21, 22], [12, 13], [21, 22]]), torch.tensor([[0, 0], [2, 2], [6, 6]])
    forecast = model(torch.zeros(3, 2, 1), torch.ones(3, 2, 1).bool(), *clock)[..., 0]
    assert forecast.tolist() == [[23, 24, 25], [62, 63, 64], [167, 0, 1]]


def test_an_average_never_taken_is_no_forecast():
    model = BASELINES["historical_average"](NAIVE["historical-average"](), ForecastShape(2, 12, 3, 24))
    day = torch.zeros(1, 12, dtype=torch.int64)
    assert model(torch.zeros(1, 12, 2), torch.ones(1, 12, 2).bool(), day, day).isnan().all()


@pytest.mark.parametrize("name", [name.replace("-", "_") for name in NAIVE])
def test_no_baseline_sees_the_future(windows, name):
    origin = windows.origins["test"][:1]
    before = model_forecaster(fitted(name, windows), windows)(origin)
    windows.values[int(origin) :] = 1.0
    assert torch.equal(model_forecaster(fitted(name, windows), windows)(origin), before)


def test_score_over_ranks_covers_every_window_once(windows):
    seen: list[int] = []
    forecaster = model_forecaster(fitted("last_value", windows), windows)

    def spy(origins):
        seen.extend(origins.tolist())
        return forecaster(origins)

    result = score(spy, windows, "test", stride=3)
    assert seen == windows.origins["test"][::3].tolist()
    assert result["windows"] == len(seen)
