"""What a number of seeds can show: power of the paired t test at the first step of Holm's correction.

Effects are in standard deviations of the per-seed differences (Cohen's d_z). Holm's correction holds the smallest p
value against alpha / arms, so that is the bar for one arm that differs while the others do not; once an arm is decided
the bar for the next is lower, so a matrix with several true differences shows more than is said here.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special

ALPHA = 0.05  # of a matrix that is looked at once; divided by the number of planned looks
MIN_SEEDS = 3  # the protocol's minimum for a mean and std that are reported, and for a test
POWER = 0.8  # Cohen (1988): the customary chance to show a difference that is there
MOST_SEEDS = 1000  # beyond this nobody repeats a training
EXAMPLES = (3, 5, 10)
UNIT = "standard deviations of the per-seed differences"

Floats = npt.NDArray[np.float64]


def critical_effect(seeds: int, arms: int, alpha: float = ALPHA) -> float:
    """The smallest observed d_z that is significant among ``arms`` compared arms at Holm's first step.

    The critical t of alpha / arms (two-sided) over sqrt(seeds); infinite for fewer than three seeds.
    """
    if seeds < MIN_SEEDS:
        return math.inf
    return float(_critical_t(np.array(seeds), arms, alpha)) / math.sqrt(seeds)


def power(effect: float | Floats, seeds: int | npt.NDArray[np.int64], arms: int, alpha: float = ALPHA) -> Floats:
    """The chance that a true effect (d_z) is shown, elementwise over effects and seeds (two at least).

    From the noncentral t distribution with noncentrality d_z sqrt(seeds), both tails (Cohen 1988, ch. 2); it assumes
    differences that are normal and independent from seed to seed.
    """
    n = np.asarray(seeds)
    centre = np.abs(effect) * np.sqrt(n)
    critical = _critical_t(n, arms, alpha)
    below, far = (special.nctdtr(n - 1, centre, bound) for bound in (critical, -critical))
    found: Floats = 1 - np.nan_to_num(below) + np.nan_to_num(far)  # nan: too far out in the tail to be a number
    return found


def detectable_effect(seeds: int, arms: int, alpha: float = ALPHA, chance: float = POWER) -> float:
    """The true effect (d_z) that is shown with a power of ``chance``. Infinite for fewer than three seeds.

    The other tail, where the effect would be shown with the wrong sign, is left out: below 0.0001 of power.
    """
    if seeds < MIN_SEEDS:
        return math.inf
    critical = _critical_t(np.array(seeds), arms, alpha)
    return float(special.nctdtrinc(seeds - 1, 1 - chance, critical)) / math.sqrt(seeds)


def seeds_needed(effect: float, arms: int, alpha: float = ALPHA) -> int | None:
    """The fewest seeds that show a true effect (d_z) with a power of ``POWER``.

    Three at least; None above ``MOST_SEEDS``. With the effect that an experiment has observed this is optimistic: an
    effect that looks worth following up is on average smaller than it looked (the winner's curse), and the power at an
    observed effect says no more than its p value does (Hoenig and Heisey 2001). Read it as the least to plan for.
    """
    seeds = range(MIN_SEEDS, MOST_SEEDS + 1)  # power rises with them
    place = bisect_left(seeds, POWER, key=lambda n: float(power(effect, n, arms, alpha)))
    return seeds[place] if place < len(seeds) else None


def power_line(seeds: int, arms: int, alpha: float) -> str:
    """What so many seeds, and more, can show among so many arms beside the baseline, in a sentence or two."""
    if arms < 1:
        return "No arm is compared with a baseline, so nothing is tested."
    among = f"{arms} compared {'arm' if arms == 1 else 'arms'} at alpha {alpha:.3g}"
    more = _listed([n for n in EXAMPLES if n > seeds], arms, alpha)
    smallest = f"the smallest mean difference that can be shown, in {UNIT}, is"
    if seeds < MIN_SEEDS:
        count = "1 seed" if seeds == 1 else f"{seeds} seeds"
        return f"With {count} nothing can be tested: {MIN_SEEDS} are the least. Among {among} {smallest} {more}."
    return (
        f"With {seeds} seeds and {among} {smallest} {_number(critical_effect(seeds, arms, alpha))}"
        f"{f' ({more})' if more else ''}; one that is truly {_number(detectable_effect(seeds, arms, alpha))} is shown "
        f"with a probability of {100 * POWER:.0f} %."
    )


def _listed(seeds: Sequence[int], arms: int, alpha: float) -> str:
    """For instance ``5.1 with 3 seeds, 1.9 with 5``; empty for none."""
    effects = [f"{_number(critical_effect(n, arms, alpha))} with {n}" for n in seeds]
    return ", ".join([f"{effects[0]} seeds", *effects[1:]]) if effects else ""


def _number(effect: float) -> str:
    return f"{effect:.1f}" if effect >= 0.995 else f"{effect:.2f}"


def _critical_t(seeds: npt.NDArray[np.int64], arms: int, alpha: float) -> Floats:
    """The t that a two-sided test at alpha / arms asks for."""
    critical: Floats = special.stdtrit(seeds - 1, 1 - alpha / (2 * arms))
    return critical
