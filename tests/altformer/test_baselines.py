from __future__ import annotations

import numpy as np
import pytest
import torch

from altformer.baselines import BASELINES
from altformer.data.config import DatasetConfig
from altformer.data.datasets import load
from altformer.data.windows import Windows
from altformer.evaluate import score

# protocol.md: "copy the last 12 readings" on the test part, MAE / RMSE / MAPE
COPY_LAST = {
    "3": (6.7969, 14.2110, 16.7167),
    "6": (6.7965, 14.2104, 16.7161),
    "12": (6.7952, 14.2086, 16.7140),
    "all": (6.7963, 14.2102, 16.7159),
}


def test_copy_last_on_metr_la_gives_the_published_scores(metr_la_dir):
    windows = Windows.of(load(DatasetConfig(name="METR-LA"), metr_la_dir), 12, 12)
    result = score(BASELINES["copy-last"](windows), windows, "test")
    assert result["windows"] == 6850
    for step, expected in COPY_LAST.items():
        assert tuple(round(result[step][name], 4) for name in ("mae", "rmse", "mape")) == expected


def test_forecasts_written_out(traffic):
    windows = Windows.of(traffic, 12, 12)
    values, origins = traffic.values, torch.tensor([40, 200])
    copy_last, last_value = (BASELINES[name](windows)(origins).numpy() for name in ("copy-last", "last-value"))
    for at, origin in enumerate(origins.tolist()):
        np.testing.assert_array_equal(copy_last[at], values[origin - 12 : origin])
        np.testing.assert_array_equal(last_value[at], np.repeat(values[origin - 1 : origin], 12, axis=0))


def test_historical_average_sees_only_training_rows(traffic):
    windows = Windows.of(traffic, 12, 12)
    last_row = int(windows.origins["train"][-1]) + 11
    origin = windows.origins["test"][:1]
    forecast = BASELINES["historical-average"](windows)(origin)[0].numpy()
    time_of_week = traffic.day_of_week * 48 + traffic.time_of_day
    for step in range(12):
        for sensor in range(6):
            same = (time_of_week == time_of_week[int(origin) + step]) & (np.arange(len(traffic.values)) <= last_row)
            seen = traffic.values[same, sensor]
            seen = seen[seen != 0]
            if len(seen):
                assert forecast[step, sensor] == pytest.approx(seen.mean(), rel=1e-5)


@pytest.mark.parametrize("name", BASELINES)
def test_no_baseline_sees_the_future(traffic, name):
    windows = Windows.of(traffic, 12, 12)
    origin = windows.origins["test"][:1]
    before = BASELINES[name](windows)(origin)
    windows.values[int(origin) :] = 1.0
    assert torch.equal(BASELINES[name](windows)(origin), before)


def test_score_over_ranks_covers_every_window_once(traffic):
    windows = Windows.of(traffic, 12, 12)
    seen: list[int] = []
    forecaster = BASELINES["last-value"](windows)

    def spy(origins):
        seen.extend(origins.tolist())
        return forecaster(origins)

    result = score(spy, windows, "test", stride=3)
    assert seen == windows.origins["test"][::3].tolist()
    assert result["windows"] == len(seen)
