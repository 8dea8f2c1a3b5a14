"""The executed example of docs/python.md says what it prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.document import BLOCK, executed

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
NUMBER = re.compile(r"(?<![\w-])[+-]?\d+\.\d+")


def outputs(text: str) -> list[str]:
    return [found["output"] for found in BLOCK.finditer(text) if found["output"]]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_blocks_run_and_print_what_stands_below_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers within two hundredths: another processor may round a training differently."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    page = PAGE.read_text()
    expected, found = outputs(page), outputs(executed(page))
    assert len(expected) == len(found) >= 4
    for one, other in zip(expected, found, strict=True):
        assert words(other) == words(one)
        assert numbers(other) == pytest.approx(numbers(one), abs=0.02)


def words(text: str) -> list[str]:
    return NUMBER.sub("#", text).split()


def numbers(text: str) -> list[float]:
    return [float(number) for number in NUMBER.findall(text)]


def test_only_outputs_change_and_failures_are_raised() -> None:
    page = "A\n\n```python\nx = 2\n```\n\nB\n\n```python\nprint(x, 'y ')\n```\n\n```text\nold\n```\n\nC\n"
    assert executed(page) == page.replace("old", "2 y")
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        executed("```python\n1 / 0\n```\n")
