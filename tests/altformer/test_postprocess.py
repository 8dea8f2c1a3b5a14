from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from altformer.data.windows import Windows
from altformer.ensemble import average
from altformer.errors import UserError
from altformer.evaluate import score
from altformer.loaded import load_model
from altformer.postprocess import METHODS, Series, choice_error, forecast_series, kalman, postprocess, smooth

STRONG = {"exponential": 0.6, "kalman": 0.05}  # far from the value that changes nothing


@pytest.fixture(scope="module")
def windows(traffic):
    return Windows.of(traffic, 12, 12)


@pytest.fixture(scope="module")
def noise(windows):
    """A series of forecasts over the test part that are merely off, by chance and by a bias that grows."""
    origins = windows.origins["test"]
    generator = torch.Generator().manual_seed(0)
    target = windows.batch(origins).target
    drift = torch.linspace(0, 8, len(origins))[:, None, None]
    return Series(int(origins[0]), target + drift + torch.randn(target.shape, generator=generator))


def pipelines(trained):
    """The model alone and an ensemble, each as windows -> forecaster, through everything there is."""
    loaded = load_model(trained)

    def alone(traffic, windows):
        return loaded.forecaster(traffic, windows)

    def ensemble(traffic, windows):
        members = [
            alone(traffic, windows),
            lambda o: windows.values[o[:, None] - 1].expand(-1, 12, -1),
            alone(traffic, windows),
        ]
        return average(members)

    return {"alone": alone, "ensemble": ensemble}


def test_smoothing_as_written_out(noise, windows):
    a, f = 0.7, noise.forecasts.double().numpy()
    expected = np.empty_like(f)
    for s in range(len(f)):
        for k in range(12):
            before = expected[s - 1, k + 1] if s > 0 and k < 11 else f[s, k]
            expected[s, k] = a * f[s, k] + (1 - a) * before
    np.testing.assert_allclose(smooth(noise, windows, a).forecasts.numpy(), expected, rtol=1e-6)


def test_the_filter_as_written_out(noise, windows):
    """One sensor, one step at a time, in plain numbers."""
    ratio, f, y = 0.01, noise.forecasts.double().numpy(), windows.values.double().numpy()
    expected = f.copy()
    updates = 0
    for n in range(f.shape[2]):
        for k in range(12):
            bias = variance = 0.0
            for s in range(len(f)):
                variance += ratio
                issued = s - 1 - k
                reading = y[noise.first + s - 1, n]
                if issued >= 0 and reading != 0:
                    gain = variance / (variance + 1)
                    bias += gain * (reading - f[issued, k, n] - bias)
                    variance *= 1 - gain
                    updates += 1
                expected[s, k, n] = f[s, k, n] + bias
    assert updates > 1000
    np.testing.assert_allclose(kalman(noise, windows, ratio).forecasts.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_the_first_value_of_the_grid_changes_nothing(noise, windows, name):
    unchanged = METHODS[name].apply(noise, windows, METHODS[name].grid[0])
    assert torch.equal(unchanged.forecasts, noise.forecasts)


def test_the_filter_takes_off_a_drift_and_smoothing_takes_off_noise(noise, windows):
    before = score(noise.forecaster(), windows, "test")["all"]["mae"]
    assert score(kalman(noise, windows, 0.05).forecaster(), windows, "test")["all"]["mae"] < 0.5 * before
    unbiased = replace_forecasts(noise, noise.forecasts - torch.linspace(0, 8, len(noise.forecasts))[:, None, None])
    before = score(unbiased.forecaster(), windows, "test")["all"]["mae"]
    assert score(smooth(unbiased, windows, 0.5).forecaster(), windows, "test")["all"]["mae"] < 0.8 * before


def replace_forecasts(series, forecasts):
    return series._replace(forecasts=forecasts)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", ["alone", "ensemble"])
@pytest.mark.parametrize("part", ["val", "test"])
def test_what_comes_after_the_origin_changes_nothing(trained, traffic, windows, name, kind, part):
    """Every reading from a row on is replaced: forecasts issued up to that row stay to the bit, later ones do not."""
    origins = windows.origins[part]
    index = 2 * len(origins) // 3
    row = int(origins[index])
    values = windows.values.clone()
    values[row:] = 70 - values[row:]
    pipeline = pipelines(trained)[kind]

    def issued(given):
        series = forecast_series(pipeline(traffic, given), given, part)
        return METHODS[name].apply(series, given, STRONG[name]).forecasts

    before, after = issued(windows), issued(replace(windows, values=values))
    assert torch.equal(before[: index + 1], after[: index + 1])
    assert not torch.isclose(before[index + 1], after[index + 1]).all(), "the row itself counts one step later"
    changed_before = windows.values.clone()
    changed_before[row - 1] += 5
    assert not torch.equal(issued(replace(windows, values=changed_before))[index], before[index])


@pytest.mark.parametrize("name", METHODS)
def test_the_choice_uses_nothing_from_the_test_part_on(trained, traffic, windows, name):
    first_test = int(windows.origins["test"][0])
    values = windows.values.clone()
    values[first_test:] = 70 - values[first_test:]
    loaded = load_model(trained)

    def outcome(given):
        return postprocess([name], loaded.forecaster(traffic, given), given).outcomes[0]

    one, other = outcome(windows), outcome(replace(windows, values=values))
    assert (one.value, one.grid) == (other.value, other.grid) and one.test != other.test


def test_both_parts_are_scored_before_and_after_with_the_chosen_value(trained, traffic, windows):
    forecaster = load_model(trained).forecaster(traffic, windows)
    done = postprocess(list(METHODS), forecaster, windows, val_stride=2, test_stride=3)
    assert done.val == score(forecaster, windows, "val", 2) and done.test == score(forecaster, windows, "test", 3)
    for outcome in done.outcomes:
        method = METHODS[outcome.method]
        assert tuple(outcome.grid) == method.grid
        assert outcome.grid[outcome.value] == min(outcome.grid.values())
        test = method.apply(forecast_series(forecaster, windows, "test"), windows, outcome.value)
        assert outcome.test == score(test.forecaster(), windows, "test", 3)
        assert outcome.test["windows"] == done.test["windows"]


def test_the_choice_can_be_by_the_scoring_the_model_was_selected_by(noise, windows):
    series = forecast_series(lambda origins: windows.batch(origins).target, windows, "val")
    assert choice_error(series, windows) == 0 and choice_error(series, windows, metric="mae_unmasked") == 0
    off = replace_forecasts(series, torch.where(series.forecasts == 0, 9.0, series.forecasts))
    assert choice_error(off, windows) == 0 < choice_error(off, windows, metric="mae_unmasked")


def test_unknown_methods_are_refused(windows):
    with pytest.raises(UserError, match="unknown method of post-processing 'kalmann'; did you mean 'kalman'"):
        postprocess(["kalmann"], lambda origins: windows.batch(origins).target, windows)


def test_a_validation_part_shorter_than_a_forecast_is_refused(noise, windows):
    short = replace(windows, origins={**windows.origins, "val": windows.origins["val"][-5:]})
    with pytest.raises(UserError, match="shorter than 12 steps"):
        choice_error(noise, short)
