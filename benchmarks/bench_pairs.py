"""What the benchmarks share: work that alternates, ratios with their spread, goals, and how a result is written."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ratio:
    """The median of ratios that were taken pair by pair, and the least and the greatest of them."""

    median: float
    least: float
    greatest: float

    def __str__(self) -> str:
        return f"**{self.median:.2f}** ({self.least:.2f} .. {self.greatest:.2f})"


@dataclass(frozen=True)
class Goal:
    """What was to be reached, whether it was, and the number that was held against it."""

    text: str
    reached: float
    met: bool

    @classmethod
    def at_least(cls, text: str, reached: float, bound: float) -> Goal:
        """Met from `bound` on."""
        return cls(text, reached, reached >= bound)

    @classmethod
    def at_most(cls, text: str, reached: float, bound: float) -> Goal:
        """Met up to `bound`."""
        return cls(text, reached, reached <= bound)

    def __str__(self) -> str:
        return f"Goal: {self.text}: **{'met' if self.met else 'not met'}** ({self.reached:.2f})."


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternate(works: Mapping[str, Callable[[], float]], rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """What each work returns (seconds), by name, one value a round; the rounds before, `warm_up` of them, do not count.

    Every round runs all works once, the next one in the opposite order, so that no work always follows the same other.
    """
    found: dict[str, list[float]] = {name: [] for name in works}
    for number in range(-warm_up, rounds):
        for name in list(works) if number % 2 else reversed(list(works)):
            value = works[name]()
            if number >= 0:
                found[name].append(value)
    return found


def ratio(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """`above` / `below`, pair by pair; ValueError where they are not pairs."""
    ratios = sorted(a / b for a, b in zip(above, below, strict=True))
    return Ratio(statistics.median(ratios), ratios[0], ratios[-1])


def per_second(amount: float, times: Sequence[float]) -> float:
    """The rate of work that takes the median of `times`."""
    return amount / statistics.median(times)


def load() -> float:
    """The machine's load average over the last minute."""
    return round(os.getloadavg()[0], 1)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def finish(markdown: str, result: Mapping[str, Any], out: Path | None) -> None:
    """Print the Markdown; also write the numbers as JSON where a file is named."""
    print(markdown)
    if out is not None:
        out.write_text(json.dumps(result, indent=1, default=asdict) + "\n")
