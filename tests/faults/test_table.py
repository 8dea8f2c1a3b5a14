"""The table of faults itself: no row is silently absent, and one failure is enough."""

from __future__ import annotations

import pytest

from tests.faults.table import ROWS, Shown, figure, markdown, verdict_of


def test_every_row_of_the_issue_is_there_whether_it_was_run_or_not():
    page = markdown([Shown("nan", "test_nan.py::test_it", "held", lines=[("NaN at step 3", "", {"epochs": 1})])], "me")
    lines = page.splitlines()
    assert len(ROWS) == 18
    for fault, _ in ROWS.values():
        assert any(line.startswith(f"| {fault.split('_')[0]}") for line in lines), fault
    assert sum(line.endswith("| not run |") for line in lines) == 17
    assert "1 of 18 hold, 0 failed, 17 were not run." in page
    assert "| NaN at step 3 |  | held | epochs 1 | test\\_nan.py::test\\_it |" in page


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], "not run"),
        (["not run"], "not run"),
        (["held", "held"], "held"),
        (["held", "not run"], "held, in part not run"),
        (["held", "FAILED"], "FAILED"),
        (["not run", "FAILED"], "FAILED"),
    ],
)
def test_a_row_holds_when_all_its_tests_have_shown_it(verdicts, expected):
    assert verdict_of("kill", [Shown("kill", f"test_{at}", verdict) for at, verdict in enumerate(verdicts)]) == expected


def test_a_test_that_failed_says_why_in_the_page():
    page = markdown([Shown("disk", "test_disk.py::test_it", "FAILED", "no 'disk full' in the record")], "me")
    assert "| FAILED | no 'disk full' in the record |" in page


def test_figures_are_short():
    assert figure("seconds_to_resume", 3.21234) == "seconds to resume 3.21"
    assert figure("kills", 20) == "kills 20"
