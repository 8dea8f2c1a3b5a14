"""Work alternates, ratios are taken pair by pair, and goals are computed."""

from __future__ import annotations

import json

import pytest

from benchmarks.bench_pairs import Goal, Ratio, alternate, finish, per_second, ratio, table


def test_works_take_turns_in_alternating_order_after_an_unmeasured_round():
    order: list[str] = []

    def work(name: str, value: float):
        def run() -> float:
            order.append(name)
            return value + len(order)

        return run

    times = alternate({"a": work("a", 0.0), "b": work("b", 100.0)}, rounds=2)
    assert "".join(order) == "ab" + "ba" + "ab"
    assert times == {"a": [4.0, 5.0], "b": [103.0, 106.0]}


def test_a_ratio_is_taken_pair_by_pair():
    found = ratio([2.0, 9.0, 8.0], [1.0, 3.0, 8.0])
    assert found == Ratio(2.0, 1.0, 3.0)
    assert str(found) == "**2.00** (1.00 .. 3.00)"
    with pytest.raises(ValueError, match="zip"):
        ratio([1.0], [1.0, 2.0])


def test_a_rate_is_that_of_the_median():
    assert per_second(6.0, [1.0, 2.0, 30.0]) == 3.0


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal.at_least("x", 1.8, 1.8), True),
        (Goal.at_least("x", 1.79, 1.8), False),
        (Goal.at_most("x", 0.5, 0.5), True),
        (Goal.at_most("x", 0.51, 0.5), False),
    ],
)
def test_a_goal_is_met_at_its_bound(goal, met):
    assert goal.met is met
    assert str(goal) == f"Goal: x: **{'met' if met else 'not met'}** ({goal.reached:.2f})."


def test_a_table_has_a_head():
    assert table(("a", "b"), [(1, "x")]) == "| a | b |\n| --- | --- |\n| 1 | x |"


def test_numbers_are_written_where_asked(tmp_path, capsys):
    finish("shown", {"ratio": Ratio(1.0, 0.5, 2.0)}, tmp_path / "out.json")
    assert capsys.readouterr().out == "shown\n"
    assert json.loads((tmp_path / "out.json").read_text()) == {"ratio": {"median": 1.0, "least": 0.5, "greatest": 2.0}}
