"""Looking at a comparison again: what is claimed at each look, and the command that adds seeds."""

from __future__ import annotations

from typing import Any

import pytest

from ablations.looks import next_seeds
from ablations.reports.markdown import markdown

BASE = [3.010, 2.995, 3.004]
BETTER = [2.951, 2.938, 2.944]
SAME = [3.001, 3.009, 2.999]
ARMS = {"a": BASE, "b": BETTER, "c": SAME}
MORE = "--seeds 5 --undecided"


def section(data: Any) -> str:
    return markdown(data, {}).split("## Looks and further seeds")[1].split("\n## ")[0]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("altformer ablate depth", f"altformer ablate depth {MORE}"),
        ("altformer ablate depth --seeds 3 --dataset METR-LA", f"altformer ablate depth --dataset METR-LA {MORE}"),
        ("altformer ablate --seeds=3 --set lr=1e-3 depth", f"altformer ablate depth --set lr=1e-3 {MORE}"),
        ("altformer ablate depth --seed 3 --out 'my runs'", f"altformer ablate depth --out 'my runs' {MORE}"),
        ("altformer ablate all --profile quick", f"altformer ablate depth --profile quick {MORE}"),
        ("altformer ablate x.yaml depth --set a=depth", f"altformer ablate depth --set a=depth {MORE}"),
        ("altformer ablate depth --seeds 3 --undecided", f"altformer ablate depth {MORE}"),
        ("a notebook; it's open", f"altformer ablate depth --dataset PEMS08 {MORE}"),
        ("", f"altformer ablate depth --dataset PEMS08 {MORE}"),
    ],
)
def test_seeds_are_added_by_the_command_that_ran(
    command: str, expected: str, make_report: Any, make_record: Any
) -> None:
    """Where this was another command, by the one that trained the cells last."""
    record = make_record(3.0, 2)
    record["provenance"]["command"] = "altformer ablate depth --dataset PEMS08"
    data, _ = make_report({**ARMS, "c": [*SAME[:2], record]}, command=command)
    assert data.looks is not None and data.looks.undecided == ("c",)
    assert data.looks.command == expected
    assert f"```text\n{expected}\n```" in section(data)


def test_what_is_decided_needs_no_more_seeds(make_report: Any, make_record: Any) -> None:
    equal = [value + 0.001 * (-1) ** seed for seed, value in enumerate(BASE)]
    data, _ = make_report({"a": BASE, "b": BETTER, "c": equal, "d": [make_record(3.4, 0, "failed")]})
    assert data.arms[2].comparison is not None and data.arms[2].comparison.equivalent
    assert "equivalent within ±0.02" in data.arms[2].note
    assert "Equivalent to it within ±0.02: c." in data.summary
    assert data.looks is not None and data.looks.command == ""
    assert "No arm that was compared is undecided." in section(data)


@pytest.mark.parametrize(
    ("planned", "looks", "said"),
    [
        (1, (), "First look, and the only planned one: alpha 0.05."),
        (1, (3,), "First look, and the only planned one: alpha 0.05."),
        (2, (3,), "First look of 2 planned: alpha at each is 0.05 / 2 = 0.025"),
        (2, (2, 3), "Look 2 of 2 planned (seeds at each look: 2, 3): alpha at each is 0.05 / 2 = 0.025"),
        (1, (2, 3), "**Look 2, unplanned: 1 was planned (seeds at each look: 2, 3)."),
        (2, (1, 2, 3), "**Look 3, unplanned: 2 were planned (seeds at each look: 1, 2, 3)."),
    ],
)
def test_each_look_says_which_it_is(planned: int, looks: tuple[int, ...], said: str, make_report: Any) -> None:
    data, _ = make_report(ARMS, {"looks": planned}, looks=looks)
    assert said in section(data)
    assert f"p &lt; {0.05 / planned:.3g};" in markdown(data, {})
    top = markdown(data, {}).partition("## Arms")[0]
    assert ("confirm it with fresh seeds" in top) == ("unplanned" in said), "whoever reads the verdicts alone is told"
    label = "would label it as unplanned" if max(len(looks), 1) >= planned else f"look {len(looks) + 1} of {planned}."
    assert label in section(data)


def test_a_report_with_cells_missing_is_provisional(make_report: Any, make_record: Any) -> None:
    """To look at it and to stop there would be a look that nobody counts."""
    data, _ = make_report({**ARMS, "c": [make_record(3.0, 0), None, make_record(3.4, 2, "failed")]}, looks=(3,))
    assert data.looks is not None and data.looks.missing == 2
    assert "But 2 cells have no result yet: this report is provisional and not counted as a look" in section(data)


def test_a_report_that_tests_nothing_is_no_look(make_report: Any) -> None:
    """The seeds that make a test possible are then the first look, not one that was not planned."""
    data, _ = make_report({name: values[:2] for name, values in ARMS.items()})
    assert "No look yet: with fewer than 3 seeds nothing is tested." in section(data)
    assert "up to 3: look 1 of 1." in section(data) and "unplanned" not in section(data)


def test_planned_looks_make_each_of_them_stricter(make_report: Any) -> None:
    verdicts = [make_report(ARMS, {"looks": looks})[0].arms[1].verdict for looks in (1, 10_000)]
    assert verdicts == ["better", "no difference shown"]


def test_seeds_go_from_three_to_five_to_ten() -> None:
    assert [next_seeds(now) for now in (1, 2, 3, 4, 5, 7, 10, 20)] == [3, 3, 5, 5, 10, 14, 20, 40]


def test_a_search_has_no_looks(make_report: Any) -> None:
    data, _ = make_report(ARMS, {"kind": "search", "baseline": None, "scheduler": "none"})
    assert data.looks is None and "Looks and further seeds" not in markdown(data, {})
