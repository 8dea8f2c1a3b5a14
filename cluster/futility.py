"""A rule that stops arms of a comparison without biasing it: rung by rung, a whole arm at once, by a paired test.

ASHA compares whoever happens to have arrived; which of equal arms it stops depends on their order. Here a cell waits at
a rung until all seeds of its arm and of the baseline are there. Then the arm's per-seed differences to the baseline are
tested: it is stopped if they show (one-sided paired t test) that it is worse by more than a margin. Whoever else runs,
and in which order, plays no part, and the baseline is never stopped. An arm that is no worse than the baseline by more
than the margin is stopped with a probability of at most ``alpha``, which is divided among the rungs (Bonferroni).

Free of Ray: what Tune is told is in cluster.scheduler.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal

from scipy import special

Decision = Literal["go", "pause", "stop"]
MIN_SEEDS = 3  # with fewer pairs an arm is never stopped


@dataclass(frozen=True)
class Contest:
    """A baseline and the arms compared with it, each by seed with the key of its cell; and the rule.

    ``rungs`` are epochs, rising; ``margin`` is in the metric's unit.
    """

    baseline: Mapping[int, str]
    arms: Mapping[str, Mapping[int, str]]
    rungs: tuple[int, ...]
    margin: float
    alpha: float


@dataclass(frozen=True)
class History:
    """What is known of a cell from before: the metric by epoch, and how it ended (None: it goes on from there)."""

    values: Sequence[float]
    status: str | None = None


def is_futile(differences: Sequence[float], margin: float, alpha: float) -> bool:
    """Whether per-seed differences (arm minus baseline, lower is better) show an arm worse by more than the margin.

    One-sided paired t test (Student 1908) at ``alpha``; with fewer than three differences nothing is shown.
    """
    n = len(differences)
    if n < MIN_SEEDS:
        return False
    mean = math.fsum(differences) / n
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in differences) / (n - 1))
    return mean - margin > float(special.stdtrit(n - 1, 1 - alpha)) * deviation / math.sqrt(n)


class Race:
    """Where all cells are, and what that decides; a pure function of the metrics, whatever the order they come in.

    A cell that is in several contests goes on while one of them lets it; those in ``never`` or in none always do.
    """

    def __init__(
        self, contests: Sequence[Contest], history: Mapping[str, History], never: Set[str] = frozenset()
    ) -> None:
        self._values = {key: list(known.values) for key, known in history.items()}
        self._over = {key: known.status for key, known in history.items() if known.status is not None}
        self._arms: dict[str, list[_Arm]] = {}  # by cell
        self._free = {key for contest in contests for key in contest.baseline.values()} | never
        for contest in contests:
            for cells in contest.arms.values():
                arm = _Arm(contest, cells)
                arm.remember(self._values, self._over)
                for key in arm.keys:
                    self._arms.setdefault(key, []).append(arm)

    def reported(self, key: str, epoch: int, value: float | None) -> Decision:
        """A cell has ended an epoch (from 1): whether it goes on, waits here, or stops."""
        values = self._values.setdefault(key, [])
        del values[epoch - 1 :]  # a cell that resumed from an earlier epoch says it again
        values += [math.nan] * (epoch - 1 - len(values)) + [math.nan if value is None else value]
        return self.decision(key)

    def epochs(self, key: str) -> int:
        """How many epochs of a cell are known."""
        return len(self._values.get(key, ()))

    def resumes(self, key: str, saved: Sequence[float]) -> None:
        """A cell goes on after the epochs it has saved, of which not all need have been reported."""
        if len(saved) > self.epochs(key):
            self._values[key] = list(saved)

    def ended(self, key: str, status: str) -> None:
        """A cell will report no more: ``done``, ``diverged``, ``failed``, ``stopped``."""
        self._over[key] = status

    def decision(self, key: str) -> Decision:
        """What a cell does next, where it is now."""
        if key in self._free or key not in self._arms:
            return "go"
        found = {self._of_arm(arm, self.epochs(key)) for arm in self._arms[key]}
        return "go" if "go" in found else "pause" if "pause" in found else "stop"

    def _of_arm(self, arm: _Arm, epoch: int) -> Decision:
        for rung in arm.reached(epoch):
            stops = arm.verdict(rung, self._values, self._over)
            if stops is None:
                return "pause"
            if stops:
                return "stop"
        return "go"


class _Arm:
    """An arm in its contest, with the verdicts so far: by rung, whether it stops there."""

    def __init__(self, contest: Contest, cells: Mapping[int, str]) -> None:
        self.keys = frozenset(cells.values())
        self._contest, self._cells = contest, cells
        self._verdicts: dict[int, bool] = {}
        self._missing: dict[int, str] = {}  # by rung, a cell that was not there when last looked; asked for often

    def remember(self, values: Mapping[str, Sequence[float]], over: Mapping[str, str]) -> None:
        """Verdicts of an earlier run stand: an arm that was stopped at a rung, or has gone on beyond it."""
        lengths = {key: len(values.get(key, ())) for key in self.keys}
        stopped_at = {
            max(self.reached(length), default=0) for key, length in lengths.items() if over.get(key) == "stopped"
        }
        for rung in self._contest.rungs:
            if rung in stopped_at:
                self._verdicts[rung] = True
            elif any(length > rung for length in lengths.values()):
                self._verdicts[rung] = False

    def reached(self, epoch: int) -> Iterator[int]:
        """The rungs up to an epoch."""
        return (rung for rung in self._contest.rungs if rung <= epoch)

    def verdict(self, rung: int, values: Mapping[str, Sequence[float]], over: Mapping[str, str]) -> bool | None:
        """Whether the arm stops at the rung; None while a seed of it or of the baseline is not there yet."""
        if rung not in self._verdicts:
            if self._is_awaited(rung, values, over):
                return None
            alpha = self._contest.alpha / len(self._contest.rungs)
            self._verdicts[rung] = is_futile([*self._differences(rung, values, over)], self._contest.margin, alpha)
        return self._verdicts[rung]

    def _is_awaited(self, rung: int, values: Mapping[str, Sequence[float]], over: Mapping[str, str]) -> bool:
        """Whether a cell of the arm or of the baseline has yet to come to the rung."""

        def is_there(key: str) -> bool:
            return key in over or len(values.get(key, ())) >= rung

        if (missing := self._missing.get(rung)) is not None and not is_there(missing):
            return True
        for key in (*self.keys, *self._contest.baseline.values()):
            if not is_there(key):
                self._missing[rung] = key
                return True
        return False

    def _differences(
        self, rung: int, values: Mapping[str, Sequence[float]], over: Mapping[str, str]
    ) -> Iterator[float]:
        """By seed: the arm's best metric up to the rung minus the baseline's, of cells that did not fail on the way.

        What becomes of a cell later plays no part: the baseline does not wait, so it may have failed beyond the rung or
        not yet, depending on who arrived when.
        """

        def at_rung(key: str | None) -> float:
            own = () if key is None else values.get(key, ())
            failed = len(own) < rung and over.get(key or "") in ("failed", "diverged")
            return math.nan if failed else _best(own, rung)

        for seed, key in self._cells.items():
            difference = at_rung(key) - at_rung(self._contest.baseline.get(seed))
            if math.isfinite(difference):
                yield difference


def _best(values: Sequence[float], rung: int) -> float:
    """The lowest finite value up to the rung, NaN without one; a cell that ended before the rung keeps its best."""
    return min((value for value in values[:rung] if math.isfinite(value)), default=math.nan)
