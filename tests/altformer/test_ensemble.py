from __future__ import annotations

import pytest
import torch

from altformer.data.windows import Windows
from altformer.ensemble import average
from altformer.errors import UserError
from altformer.evaluate import score


@pytest.fixture(scope="module")
def windows(traffic):
    return Windows.of(traffic, 12, 12)


def off_by(windows, error):
    return lambda origins: windows.batch(origins).target + error


def test_errors_that_cancel_are_gone_in_the_average(windows):
    members = [off_by(windows, error) for error in (-3.0, 1.0, 2.0)]
    assert [round(score(member, windows, "test")["all"]["mae"], 4) for member in members] == [3, 1, 2]
    assert score(average(members), windows, "test")["all"]["mae"] < 1e-5


def test_the_average_is_the_mean_of_the_forecasts(windows):
    origins = windows.origins["test"][:4]
    members = [off_by(windows, error) for error in (1.0, 2.0, 4.0, 9.0)]
    assert torch.allclose(average(members)(origins), windows.batch(origins).target + 4.0)


@pytest.mark.parametrize("count", [0, 1, 2, 6])
def test_three_to_five_members(windows, count):
    with pytest.raises(UserError, match=f"an ensemble has 3 to 5 members, got {count}"):
        average([off_by(windows, 0.0)] * count)
