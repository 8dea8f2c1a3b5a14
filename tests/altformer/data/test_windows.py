from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from altformer.data.config import DatasetConfig
from altformer.data.datasets import load
from altformer.data.windows import Windows, fit_scaler, split_origins
from altformer.errors import UserError

SPEED, FLOW = (0.7, 0.1, 0.2), (0.6, 0.2, 0.2)


@pytest.mark.parametrize(
    ("rows", "ratios", "counts"),
    [
        (34272, SPEED, (23974, 3425, 6850)),  # METR-LA
        (52116, SPEED, (36465, 5209, 10419)),  # PEMS-BAY
        (26208, FLOW, (15711, 5237, 5237)),  # PEMS03
        (16992, FLOW, (10181, 3394, 3394)),  # PEMS04
        (28224, FLOW, (16921, 5640, 5640)),  # PEMS07
        (17856, FLOW, (10700, 3567, 3566)),  # PEMS08
    ],
)
def test_window_counts_are_the_published_ones(rows, ratios, counts):
    parts = split_origins(rows, ratios, 12, 12)
    assert tuple(len(parts[name]) for name in ("train", "val", "test")) == counts
    everything = np.concatenate([parts["train"], parts["val"], parts["test"]])
    assert everything[0] == 12 and everything[-1] == rows - 12
    assert (np.diff(everything) == 1).all()


def test_longer_inputs_reach_back_and_move_no_split():
    short, long = (split_origins(1000, SPEED, length, 12) for length in (12, 24))
    assert (long["test"] == short["test"]).all() and (long["val"] == short["val"]).all()
    assert (long["train"] == short["train"][12:]).all()


@pytest.mark.parametrize(("rows", "input_len"), [(20, 12), (26, 12), (100, 90)])
def test_too_few_rows_are_refused(rows, input_len):
    with pytest.raises(UserError, match=r"too few|longer than"):
        split_origins(rows, SPEED, input_len, 12)


@pytest.mark.parametrize(
    ("rows", "input_len", "output_len", "left"),
    [
        (100, 34, 12, 32),
        (100, 35, 12, 31),
        (1000, 300, 300, 194),
        (500, 150, 40, 176),
        (45, 13, 12, 14),
        (45, 12, 12, 15),
    ],
)
def test_a_long_input_must_leave_windows_to_train_on(rows, input_len, output_len, left):
    """At least 32, and as many as a forecast has steps; what is small without a long input is not its fault."""
    least = max(32, output_len)
    if left >= least or input_len == 12:
        assert len(split_origins(rows, SPEED, input_len, output_len)["train"]) == left
        return
    message = f"input_len {input_len} must leave at least {least} training windows, got {left} of "
    with pytest.raises(UserError, match=message):
        split_origins(rows, SPEED, input_len, output_len)


@given(st.integers(30, 200), st.integers(1, 24), st.integers(1, 24))
def test_scaler_equals_materialized_windows(rows, input_len, output_len):
    try:
        origins = split_origins(rows, SPEED, input_len, output_len)["train"]
    except UserError:
        return
    values = np.random.default_rng(rows).normal(50, 10, (rows, 3)).astype(np.float32)
    windows = np.stack([values[origin - input_len : origin] for origin in origins]).astype(np.float64)
    scaler = fit_scaler(values, origins, input_len)
    assert scaler.mean == pytest.approx(windows.mean(), rel=1e-9)
    assert scaler.std == pytest.approx(windows.std(), rel=1e-9)


def test_batches_hold_the_rows_they_name(traffic):
    windows = Windows.of(traffic, 12, 4)
    origins = torch.tensor([12, 57])
    batch = windows.batch(origins)
    for at, origin in enumerate(origins.tolist()):
        past, future = traffic.values[origin - 12 : origin], traffic.values[origin : origin + 4]
        np.testing.assert_allclose(windows.scaler.unscale(batch.reading[at]), past, atol=1e-4)
        np.testing.assert_array_equal(batch.target[at], future)
        np.testing.assert_array_equal(batch.observed[at], past != 0)
        np.testing.assert_array_equal(batch.target_observed[at], future != 0)
    minutes = (traffic.times[45:57] - traffic.times[45:57].astype("datetime64[D]")).astype(int)
    np.testing.assert_array_equal(batch.time_of_day[1], minutes // 30)
    weekday = [time.astype(object).weekday() for time in traffic.times[45:57]]
    np.testing.assert_array_equal(batch.day_of_week[1], weekday)


def test_metr_la_split_and_scaler(metr_la_dir):
    windows = Windows.of(load(DatasetConfig(name="METR-LA"), metr_la_dir), 12, 12)
    first_rows = [int(windows.origins[part][0]) - 12 for part in ("train", "val", "test")]
    assert first_rows == [0, 23974, 27399]
    assert int(windows.origins["test"][-1]) + 11 == 34271
    assert windows.scaler == pytest.approx((54.40593, 19.49374), abs=5e-6)
