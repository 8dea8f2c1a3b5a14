import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from altformer.data.readers import Table
from altformer.data.rules import infer_step, refuse, shape_findings, time_findings, value_findings, whole_minutes
from altformer.errors import UserError

START = np.datetime64("2024-03-01T00:00")


def axis(*minutes):
    return START + np.array(minutes) * np.timedelta64(1, "m")


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [
        ((0, 5, 10, 15), []),
        ((0, 5, 15, 20), [("gap", 2, "1 x 5 minutes absent after 2024-03-01 00:05:00")]),
        ((0, 5, 65, 70), [("gap", 2, "11 x 5 minutes absent")]),
        ((0, 5, 5, 10), [("duplicate", 2, "occurs again")]),
        ((0, 10, 5, 15), [("gap", 1, ""), ("order", 2, "before the row above it"), ("gap", 3, "")]),
        ((0, 5, 12, 17), [("step", 2, "7 minutes after 2024-03-01 00:05:00, expected 5")]),
    ],
)
def test_time_axis(minutes, expected):
    found = time_findings(axis(*minutes), 5)
    assert [(finding.rule, finding.row) for finding in found] == [(rule, row) for rule, row, _ in expected]
    for finding, (_, row, message) in zip(found, expected, strict=True):
        assert message in finding.message
        assert finding.time == str(axis(minutes[row])[0].astype("datetime64[s]")).replace("T", " ")


def test_many_gaps_are_counted():
    found = time_findings(axis(*range(0, 200, 10)), 5)
    assert len(found) == 6
    assert "14 more steps" in found[-1].message


def test_not_a_time_and_a_wrong_start():
    assert time_findings(np.array([START, np.datetime64("NaT")]), 5)[0].row == 1
    assert time_findings(axis(5, 10), 5, start="2024-03-01T00:00")[0].row == 0


@pytest.mark.parametrize(
    ("minutes", "right"),
    [((0, 5, 70, 75), True), ((0, 5, 10, 15), False), ((0, 5, 60, 65), False), ((0, 65, 70, 135), False)],
)
def test_one_known_jump_of_twelve_steps_is_required(minutes, right):
    assert (time_findings(axis(*minutes), 5, absent_steps=12) == []) == right


def test_the_first_bad_reading_is_named_with_its_place():
    values = np.ones((4, 3))
    values[2, 1], values[3, 0] = np.nan, np.nan
    values[3, 2] = np.inf
    table = Table(values, axis(0, 5, 10, 15), ("a", "b", "c"))
    nan, infinite = value_findings(table, nan_is_missing=False)
    assert (nan.rule, nan.row, nan.sensor, nan.time) == ("nan", 2, "b", "2024-03-01 00:10:00")
    assert "2 readings of 2 sensors" in nan.message
    assert "null_value: nan" in nan.message
    assert (infinite.rule, infinite.row, infinite.sensor) == ("inf", 3, "c")
    assert [finding.rule for finding in value_findings(table, nan_is_missing=True)] == ["inf"]


def test_a_reading_beyond_float32_is_infinite():
    assert [finding.rule for finding in value_findings(Table(np.array([[1e39]]), None, None), False)] == ["inf"]


@pytest.mark.parametrize(
    ("shape", "expected", "rule"),
    [((4, 3), (4, 3), []), ((3, 3), (4, 3), ["shape"]), ((1, 3), None, ["shape"]), ((4, 0), None, ["shape"])],
)
def test_shape(shape, expected, rule):
    assert [finding.rule for finding in shape_findings(Table(np.ones(shape), None, None), expected)] == rule


def test_sensor_names_are_unique():
    (found,) = shape_findings(Table(np.ones((4, 3)), None, ("a", "b", "a")), None)
    assert (found.rule, found.sensor) == ("sensors", "a")


def test_refusing_counts_the_others():
    found = time_findings(axis(0, 10, 5, 15), 5)
    with pytest.raises(UserError, match=r"my\.csv: gap: .*row 1, time 2024-03-01 00:10:00\); 2 more"):
        refuse(found, "my.csv")
    refuse([], "my.csv")


@given(st.sampled_from([1, 5, 15, 60, 1440]), st.integers(2, 50), st.data())
def test_the_step_is_found_in_spite_of_one_gap(step, rows, data):
    minutes = np.arange(rows + 3) * step
    gap = data.draw(st.integers(1, rows + 1))
    assert infer_step(axis(*np.delete(minutes, gap)), "x") == step


@given(st.lists(st.integers(-3, 3).filter(lambda step: step != 1), min_size=1, max_size=5), st.integers(1, 20))
def test_every_wrong_step_is_found(wrong, regular):
    """Whatever the disorder, there is one finding for each step that is not one of five minutes."""
    steps = [1] * regular + wrong + [1]
    assert len(time_findings(axis(*np.concatenate([[0], 5 * np.cumsum(steps)])), 5)) == len(wrong)


@pytest.mark.parametrize("minutes", [0, 7, -5, 2880])
def test_steps_that_do_not_divide_the_day(minutes):
    with pytest.raises(UserError, match="whole minutes that divide the day"):
        whole_minutes(np.timedelta64(minutes, "m"), "x.csv")
