"""Errors by time of day and by sensor are those of the test score, taken apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from altformer.data.windows import Windows
from altformer.error_profile import TEST_ERRORS, ErrorProfile
from altformer.evaluate import score
from altformer.train import train
from altformer.training.context import BareContext


def off_by(truth, rng, missing):
    """A forecaster with an error of its own for every window, step and sensor, and huge ones at missing readings."""
    errors = rng.uniform(-5, 5, (len(truth), 12, truth.shape[1])).astype(np.float32)

    def forecast(origins):
        rows = origins[:, None] + torch.arange(12)
        target = torch.tensor(truth[rows.numpy()])
        return torch.where(target == missing, 1e6, target + torch.tensor(errors[origins.numpy()]))

    return forecast, errors


def written_out(data, errors, origins):
    """Sums and counts by slot of the day and by sensor, window for window and step for step."""
    found = [np.zeros(data.steps_per_day), np.zeros(data.steps_per_day, int)]
    found += [np.zeros(data.num_sensors), np.zeros(data.num_sensors, int)]
    for origin in origins:
        for ahead in range(12):
            time = data.times[origin + ahead].astype(object)
            slot = (time.hour * 60 + time.minute) // data.step_minutes
            for sensor in range(data.num_sensors):
                if data.values[origin + ahead, sensor] != data.null_value:
                    for sums, counts, place in ((*found[:2], slot), (*found[2:], sensor)):
                        sums[place] += abs(float(errors[origin, ahead, sensor]))
                        counts[place] += 1
    return found


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000), stride=st.integers(1, 9), late=st.integers(0, 47), step=st.sampled_from([30, 60]))
def test_the_sums_are_those_written_out(traffic, tmp_path_factory, seed, stride, late, step):
    """Readings begin at any time of day, so that windows go over midnight; missing ones count nowhere."""
    start = np.datetime64("2024-02-27T00:00", "m") + late * np.timedelta64(30, "m")
    times = start + np.arange(len(traffic.values)) * np.timedelta64(step, "m")
    data = replace(traffic, times=times, step_minutes=step)
    windows = Windows.of(data, 12, 12)
    forecast, errors = off_by(data.values, np.random.default_rng(seed), data.null_value)
    profile = ErrorProfile(windows, data.steps_per_day)
    scores = score(forecast, windows, "test", stride, 0, 1, profile)
    expected = written_out(data, errors, windows.origins["test"][::stride].numpy())
    path = tmp_path_factory.mktemp("profile") / TEST_ERRORS
    profile.write(path, data)
    with np.load(path, allow_pickle=False) as found:
        names = ("day_sums", "day_counts", "sensor_sums", "sensor_counts")
        for name, values in zip(names, expected, strict=True):
            assert found[name].dtype == (np.int64 if name.endswith("counts") else np.float64)
            np.testing.assert_allclose(found[name], values, rtol=1e-4)
        for part in ("day", "sensor"):
            mae = found[f"{part}_sums"].sum() / found[f"{part}_counts"].sum()
            assert mae == pytest.approx(scores["all"]["mae"], rel=1e-12)
        assert found["sensor_ids"].tolist() == list(data.sensor_ids) and found["step_minutes"] == step


def test_training_leaves_the_errors_of_its_test_score(traffic, tiny, tmp_path):
    result = train(tiny, traffic, BareContext(), tmp_path)
    with np.load(tmp_path / TEST_ERRORS, allow_pickle=False) as found:
        mae = found["day_sums"].sum() / found["day_counts"].sum()
        assert len(found["day_sums"]) == 48 and len(found["sensor_sums"]) == 6
    assert mae == pytest.approx(result.test["all"]["mae"], rel=1e-12)


def test_the_score_is_the_same_with_and_without_a_profile(traffic):
    windows = Windows.of(traffic, 12, 12)
    forecast, _ = off_by(traffic.values, np.random.default_rng(0), 0.0)
    profile = ErrorProfile(windows, traffic.steps_per_day)
    assert score(forecast, windows, "test", 2, 0, 1, profile) == score(forecast, windows, "test", 2)


def test_a_stopped_run_has_no_test_errors(traffic, tiny, tmp_path):
    class Stopping(BareContext):
        def should_stop(self):
            return "scheduler"

    assert train(tiny, traffic, Stopping(), tmp_path).status == "stopped"
    assert not (tmp_path / TEST_ERRORS).exists()
